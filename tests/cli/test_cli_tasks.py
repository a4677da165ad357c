from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse import wiring

Run = Callable[..., Any]
"""Runs the command line; gives its exit code, output, errors, and the output as JSON."""

QUEUES = "Route the [b]support[/b] ticket to one queue: billing, shipping or technical."
ORDERS = "Extract item, size and colour from the order message as a JSON object."
WORDS = ("card", "parcel", "login", "invoice", "refund", "password", "address", "voucher")


def calls() -> list[dict[str, object]]:
    """Two tasks and some chat; every tenth ticket is asked twice, and answered twice."""
    draw = random.Random(5)
    rows: list[dict[str, object]] = []
    for n in range(150):
        words = " ".join(draw.choices(WORDS, k=6)) + " " + "xyz"[n % 3] * (1 + n // 3)
        row: dict[str, object] = {"created_at": 1_780_000_000 + 60 * n, "input_tokens": 40}
        if n % 3 == 0:
            order = json.dumps({"item": words[:6], "size": "SML"[n % 2], "colour": "red"})
            row |= {"system": ORDERS, "prompt": words, "answer": order, "model": "gpt-4o"}
        elif n % 3 == 1 or n > 120:
            queue = ("billing", "shipping", "technical")[n % 7 % 3]
            row |= {"system": QUEUES, "prompt": words, "answer": queue, "model": "gpt-4o-mini"}
        else:
            chat = {"prompt": f"{words}?", "answer": words[::-1], "model": "house-llm"}
            row |= {"system": "You are a helpful assistant."} | chat
        rows.append(row)
    tickets = [row for row in rows if row["system"] == QUEUES]
    again = [row | {"created_at": 1_780_100_000 + n} for n, row in enumerate(tickets[::10])]
    again[0]["answer"] = "shipping" if again[0]["answer"] != "shipping" else "billing"
    return rows + again


@pytest.fixture
def books(run: Run, tmp_path: Path) -> Run:
    text = "".join(json.dumps(row) + "\n" for row in calls())
    (tmp_path / "calls.jsonl").write_text(text, "utf-8")
    assert run("import", "calls.jsonl").code == 0
    return run


def test_every_task_is_shown_with_its_shape_volume_spend_and_answers(books: Run) -> None:
    said = books("tasks")
    assert said.code == 0
    out = said.out.replace("\u202f", " ")
    assert "2 tasks in 156 requests" in out
    assert "JSON, 3 fields" in out
    assert "3 labels" in out
    assert "asked of gpt-4o-mini" in out
    assert "item 100 %, size 100 %, colour 100 %" in out
    assert "% of 6" in out
    assert "Next: stillhouse tasks " in out


def test_json_has_everything_and_the_spend_of_the_books(books: Run) -> None:
    found = books("tasks", "--json").json
    assert found["requests"] == len(calls())
    labels, fields = found["tasks"]
    assert labels["labels"] == ["billing", "shipping", "technical"]
    assert sum(labels["answers"].values()) == labels["requests"] - labels["stray_answers"]
    assert labels["teachers"] == {"gpt-4o-mini": labels["requests"]}
    assert labels["template"] == f"[system]\n{QUEUES}\n\n[user]\n{{text}}"
    assert 0 < labels["self_agreement"] < 1
    assert labels["repeated_pairs"] == 6
    assert fields["field_presence"] == {"item": 1, "size": 1, "colour": 1}
    assert fields["fields"] == ["item", "size", "colour"]
    assert 0.3 < fields["constant_input_share"] < 1

    spent = {row["task"]: row for row in books("ledger", "--json").json["by"]["task"]}
    for task in (labels, fields):
        assert spent[task["name"]] == {"task": task["name"], **task["spend"]}


def test_the_same_traffic_gives_the_same_tasks(books: Run) -> None:
    assert books("tasks").out == books("tasks").out


def test_one_task_is_shown_closely(books: Run) -> None:
    name = books("tasks", "--json").json["tasks"][0]["name"]
    out = books("tasks", name).out.replace("\u202f", " ")
    lines = out.splitlines()
    assert lines[0] == name
    at = lines.index("Prompt")
    assert lines[at + 1 : at + 6] == ["  [system]", f"  {QUEUES}", "", "  [user]", "  {text}"]
    assert "word for word before; the teacher then gave the same answer in" in out
    assert "█" in lines[lines.index("Answers") + 1]
    assert lines[lines.index("Examples of what is asked") + 1].startswith("  - ")
    assert books("tasks", name, "--json").json["tasks"][0]["name"] == name


def test_a_task_that_does_not_exist_is_said_with_those_that_do(books: Run) -> None:
    said = books("tasks", "nowhere", "--json")
    assert (said.code, said.out) == (2, "")
    assert "there is no task 'nowhere'; the tasks found are route-" in said.err


def test_rare_tasks_are_left_out(books: Run) -> None:
    said = books("tasks", "--min-rows", "1000")
    assert said.code == 0
    assert said.out == "No task repeats 1000 times or more in 156 requests.\n"
    assert "no task was found" in books("tasks", "some", "--min-rows", "1000").err
    assert books("tasks", "--min-rows", "0").code == 2


def test_a_tag_names_the_task(run: Run, tmp_path: Path) -> None:
    rows = [row | {"task": "triage"} for row in calls() if row["system"] == QUEUES]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "calls.jsonl").write_text(text, "utf-8")
    run("import", "calls.jsonl")
    (task,) = run("tasks", "--json").json["tasks"]
    assert (task["name"], task["tagged"], task["requests"]) == ("triage", True, len(rows))


def test_without_traffic_there_is_no_task(run: Run, tmp_path: Path) -> None:
    said = run("tasks")
    assert said.code == 2
    assert "there is no database at stillhouse.db" in said.err
    wiring.open_store(str(tmp_path / "stillhouse.db")).close()
    assert "The books are empty" in run("tasks").out
    assert run("tasks", "--json").json["tasks"] == []


def test_rows_are_kept_outside_of_memory_in_their_order() -> None:
    rows = [(f"{n:032x}", "task", f"line\n{n} · {'é' * n}") for n in range(100)]
    with wiring.rows_aside() as aside:
        for row in rows:
            aside.append(row)
        assert list(aside) == rows
        assert list(aside) == rows
