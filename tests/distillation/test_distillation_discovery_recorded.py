from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from stillhouse.core.learning import AnswerShape
from stillhouse.core.traffic import Attempt, Completion, Exchange, Message, Request
from stillhouse.distillation.discovery import assign, discover

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[3] / "shared" / "data"))
BANKING = DATA / "banking77_deepseek"
INVOICES = DATA / "invoices_deepseek"
PRODUCTS = DATA / "extractgpt"

pytestmark = pytest.mark.skipif(
    not all(folder.is_dir() for folder in (BANKING, INVOICES, PRODUCTS)),
    reason=f"recorded traffic is not at {DATA}; set STILLHOUSE_DATA",
)


def exchange(name: str, system: str, user: str, answer: str, model: str) -> Exchange:
    messages = [Message("system", system)] if system else []
    request = Request((*messages, Message("user", user)))
    return Exchange(name, request, Completion(text=answer), (Attempt(name, model),))


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def recorded() -> list[Exchange]:
    sort = (BANKING / "banking77_teacher_prompt.md").read_text(encoding="utf-8")
    read = (INVOICES / "invoices_teacher_prompt.md").read_text(encoding="utf-8")
    find = "List the attributes of this product as a JSON object.\nCategory: {}\nTitle: {}"
    kinds = [
        [
            exchange(f"banking{i}", sort, row["text"], row["teacher"], "deepseek")
            for i, row in enumerate(rows(BANKING / "banking77_deepseek_v4.1_flash.jsonl.gz"))
        ],
        [
            exchange(f"invoice{i}", read, row["text"], row["teacher"], "deepseek")
            for i, row in enumerate(rows(INVOICES / "invoices_deepseek_v4_flash.jsonl.gz"))
        ],
        [
            exchange(
                f"product{i}",
                "",
                find.format(row["category"], row["input"]),
                row["pred"],
                row["model"],
            )
            for i, row in enumerate(rows(PRODUCTS / "runs.jsonl.gz"))
        ],
    ]
    return sorted((one for kind in kinds for one in kind), key=lambda one: one.exchange_id[::-1])


def test_three_recorded_tasks_are_found_in_interleaved_traffic() -> None:
    traffic = recorded()
    banking, products, invoices = discover(traffic).tasks
    assert (banking.volume, invoices.volume, products.volume) == (13_083, 3_000, 5_075)
    assert banking.task.shape is AnswerShape.LABELS
    assert 75 <= len(banking.task.labels) <= 79
    assert banking.strays <= 13_083 * 0.005
    assert banking.constant_share > 0.9
    assert invoices.task.fields == (
        "vendor_name",
        "invoice_number",
        "invoice_date",
        "due_date",
        "currency",
        "total_amount",
        "tax_amount",
        "po_number",
    )
    assert set(invoices.presence.values()) == {1.0}
    assert products.task.shape is AnswerShape.FIELDS
    assert products.teachers == {"gpt-3.5-turbo-0613": 1_015, "gpt-4-0613": 4_060}


def test_products_asked_again_show_how_far_the_teacher_agrees_with_itself() -> None:
    traffic = [one for one in recorded() if one.exchange_id.startswith("product")]
    found = discover(traffic)
    (products,) = found.tasks
    assert products.repeat_share == pytest.approx(0.8, abs=0.01)
    assert products.repeated_pairs > 3_000
    assert products.self_agreement is not None
    assert 0.48 <= products.self_agreement <= 0.82
    for one in traffic[:50]:
        asked = one.request.messages[-1].text
        category, title = asked.split("\n", 1)[1].split("\n", 1)
        slots = f"{category.removeprefix('Category: ')}\n{title.removeprefix('Title: ').strip()}"
        assert assign(found.models, one) == (products.task.name, slots)
