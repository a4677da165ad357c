"""Batches through the endpoint by the vendors' own SDKs, counted once however often fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from anthropic import Anthropic
from openai import OpenAI

from stillhouse.core.calls import Ended
from stillhouse.core.quotas import Quota, Scope, Unit, Window
from stillhouse.flows.verify import Audit, verify
from stillhouse.settings.reading import parse_settings
from stillhouse.store.sqlite import SqliteStore
from stillhouse.testing.batching import BatchUpstream
from stillhouse.wiring import SystemClock
from stillhouse.wiring.books import access_of
from stillhouse.wiring.folding import folder_of

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

PRICES = """
- model: acme-1
  provider: acme
  batch: true
  usd_per_mtok: {input: 1, cache_read: 0.5, output: 4}
- model: acme-1
  provider: acme
  usd_per_mtok: {input: 2, cache_read: 1, output: 8}
- model: claude-acme
  provider: acme
  batch: true
  usd_per_mtok: {input: 3, cache_read: 0.3, output: 15}
"""
PICO = {
    "acme-1": {"input_tokens": 10**6, "cache_read_tokens": 5 * 10**5, "output_tokens": 4 * 10**6},
    "claude-acme": {
        "input_tokens": 3 * 10**6,
        "cache_read_tokens": 3 * 10**5,
        "output_tokens": 15 * 10**6,
    },
}
TEXTS = ["Sun?", "Moon?", "fail", "Rain?", "expire", "Wind?"]
GOOD = 4


@pytest.fixture(scope="module")
def upstream(harbour: Harbour) -> BatchUpstream:
    return harbour.batching()


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prices") / "prices.yaml"
    file.write_text(PRICES, "utf-8")
    return file


@pytest.fixture(scope="module")
def toml(upstream: BatchUpstream) -> str:
    return f"""
[upstreams.robots]
kind = "scripted"
wires = ["chat", "messages"]
[upstreams.acme]
base_url = "{upstream.url}/v1"
allow_private = true
host = "acme"
wires = ["chat", "responses", "messages"]
models = ["acme-*", "claude-*"]
[upstreams.other]
base_url = "{upstream.url}/elsewhere"
allow_private = true
"""


def served_by(harbour: Harbour, toml: str, prices: Path, **more: Any) -> Served:
    return harbour.serve(toml, prices=prices, **more)


@pytest.fixture
def served(harbour: Harbour, toml: str, prices: Path) -> Served:
    return harbour.serve(toml, prices=prices)


def openai(served: Served, token: str = "plain") -> OpenAI:
    return OpenAI(base_url=served.v1, api_key=served.tokens[token], max_retries=0)


def lines_of(texts: list[str], model: str = "acme-1", url: str = "/v1/chat/completions") -> bytes:
    rows = [
        {
            "custom_id": f"ask-{at}",
            "method": "POST",
            "url": url,
            "body": {"model": model, "messages": [{"role": "user", "content": text}]},
        }
        for at, text in enumerate(texts)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def made_by(client: OpenAI, texts: list[str] = TEXTS) -> Any:
    file = client.files.create(file=("ask.jsonl", lines_of(texts)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def paid(line: dict[str, Any]) -> int:
    """What a line of results costs, worked out by hand; pico-dollars."""
    if "result" in line:
        said = line["result"].get("message") or {}
        usage = said.get("usage", {})
        counts = {
            "input_tokens": usage.get("input_tokens", 0),
            "cache_read_tokens": usage.get("cache_read_input_tokens", 0),
            "output_tokens": usage.get("output_tokens", 0),
        }
    else:
        said = (line["response"] or {}).get("body") or {}
        usage = said.get("usage", {})
        read = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        counts = {
            "input_tokens": usage.get("prompt_tokens", 0) - read,
            "cache_read_tokens": read,
            "output_tokens": usage.get("completion_tokens", 0),
        }
    price = PICO[said["model"]] if usage else {}
    return sum(amount * counts[leaf] for leaf, amount in price.items())


def read_lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def booked(served: Served) -> SqliteStore:
    """The books, with all in them that the journals hold; to be closed."""
    settings = parse_settings(
        f'[journal]\nfolder = "{served.folder}/journal"\n'
        f'[books]\ndatabase = "{served.folder}/books.db"\n'
        '[upstreams.robots]\nkind = "scripted"\n',
        {},
        "test.toml",
    )
    folder, _ = folder_of(settings, {})
    folder.fold_once(SystemClock().now_us())
    return SqliteStore(served.folder / "books.db")


def cost_of(call: Any) -> int:
    return sum(charge.billed.pico for charge in call.charges if charge.billed is not None)


def spent(served: Served) -> dict[str, int]:
    """What the counters of quotas say, by their names less the window's start."""
    with access_of(f"{served.folder}/books.db") as access:
        return {name.split("@")[0]: s.spent for name, s in access.counters().items()}


def fetched(client: OpenAI, batch: Any) -> bytes:
    return b"".join(
        client.files.content(name).content for name in (batch.output_file_id, batch.error_file_id)
    )


def test_results_that_are_fetched_by_two_workers_again_and_again_are_booked_once(
    harbour: Harbour, served: Served, toml: str, prices: Path
) -> None:
    second = served_by(harbour, toml, prices, beside=served)
    with openai(served) as client, openai(second) as other:
        batch = made_by(client)
        bodies = {fetched(one, batch) for one in (client, other, client, other)}
    assert len(bodies) == 1
    lines = read_lines(bodies.pop())
    assert len(lines) == len(TEXTS)
    ends = [entry for entry in served.entries() if isinstance(entry, Ended)]
    assert len(ends) == 4 * len(TEXTS)
    with booked(served) as store:
        calls = list(store.booked())
        assert len(calls) == len(TEXTS)
        assert sum(map(cost_of, calls)) == sum(map(paid, lines)) > 0
        assert list(verify(store, Audit())) == []
        good = [call for call in calls if call.attempt.ok]
        assert len(good) == GOOD
        assert all(call.attempt.batch and call.attempt.model == "acme-1" for call in good)
        assert {call.attempt.evidence.value for call in good} == {"reported"}
        bad = [call for call in calls if not call.attempt.ok]
        assert sorted((call.fate, call.status, cost_of(call)) for call in bad) == [
            ("status", 400, 0),
            ("total_timeout", 0, 0),
        ]
