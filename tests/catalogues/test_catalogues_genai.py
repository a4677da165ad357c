"""The genai-prices catalogue against the package's own calculation, and against real bills.

Left out of the comparison with the package, because here it is known to be wrong or to guess:
models without a stated price (the package says 0, the book says unpriced), leaves without a price
of their own other than cached reads and reasoning (it bills audio, images and cache writes as text
input), and daily windows before the dated price that they vary (its issue 582).
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data import providers
from genai_prices.types import ModelInfo, Provider

from stillhouse.catalogues import genai
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Attempt, Usage
from stillhouse.ledger.book import PriceBook
from stillhouse.ledger.charging import billed, charge
from stillhouse.ledger.names import host_from_row
from stillhouse.ledger.prices import Price, price_from_row
from stillhouse.ledger.usage import decompose

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[2] / "../shared/data"))
LAST_DIGITS = Decimal("1e-11")


@cache
def catalogue() -> tuple[Price, ...]:
    return tuple(price_from_row(row, known_from_us=0) for row in genai.price_rows())


@cache
def book(*own: str) -> PriceBook:
    prices = [price_from_row(json.loads(row), known_from_us=0) for row in own]
    return PriceBook((*catalogue(), *prices), map(host_from_row, genai.host_rows()))


def us(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**6


def their_usage(usage: Usage) -> TheirUsage:
    return TheirUsage(
        input_tokens=usage.total_input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.total_output_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        web_searches=usage.web_searches,
    )


def usage_for(price: Price, draw: random.Random) -> Usage:
    """Counts that cross the tiers, for the leaves that the price speaks of."""
    counts = {
        "input_tokens": draw.choice([0, 900, 150_000, 300_000]) + draw.randrange(1000),
        "cache_read_tokens": draw.choice([0, draw.randrange(200_000)]),
        "output_tokens": draw.randrange(5000),
        "reasoning_tokens": draw.choice([0, draw.randrange(3000)]),
    }
    for leaf in ("cache_write_5m_tokens", "cache_write_1h_tokens", "web_searches"):
        if leaf in price.amounts:
            counts[leaf] = draw.randrange(20)
    if "output_tokens" not in price.amounts:
        counts |= {"output_tokens": 0, "reasoning_tokens": 0}
    return Usage(**counts)


def models() -> Iterator[tuple[Provider, ModelInfo]]:
    """Every eleventh model and every one whose price has dates, hours or variants."""
    every = [(provider, model) for provider in providers for model in provider.models]
    for index, (provider, model) in enumerate(every):
        if index % 11 == 0 or isinstance(model.prices, list) or model.price_variants:
            yield provider, model


INSTANTS = [
    datetime(2025, 6, 2, 14, 30, tzinfo=UTC),
    datetime(2026, 9, 26, 14, 30, tzinfo=UTC),
    datetime(2026, 11, 20, 2, 30, tzinfo=UTC),
]
CONTEXTS: list[tuple[dict[str, str], str, bool]] = [
    ({}, "", False),
    ({"processing": "batch"}, "", True),
    ({"service_tier": "flex"}, "flex", False),
    ({"service_tier": "priority"}, "priority", False),
]


@pytest.mark.parametrize("at", INSTANTS, ids=str)
@pytest.mark.parametrize(("context", "tier", "batch"), CONTEXTS, ids=str)
def test_the_book_agrees_with_the_package_on_every_priced_body(
    at: datetime, context: dict[str, str], tier: str, batch: bool
) -> None:
    draw = random.Random(7)
    compared = 0
    for provider, model in models():
        price = book().find(model.id, provider.id, us(at), service_tier=tier, batch=batch)
        if price is None:
            continue
        usage = usage_for(price, draw)
        ours = billed(charge(Attempt("a", model.id, usage=usage), price))
        theirs = calc_price(
            their_usage(usage), model.id, provider_id=provider.id,
            genai_request_timestamp=at, price_context=context,
        )  # fmt: skip
        assert ours is not None, (provider.id, model.id, usage)
        assert abs(ours.decimal - theirs.total_price) < LAST_DIGITS, (provider.id, model.id, usage)
        compared += 1
    wanted = 300 if not context else 20 if at.year == 2026 and at.month == 11 else 0
    assert compared >= wanted


NAMES = [
    "gpt-4o", "gpt-4o-2024-08-06", "gpt-5.2-20251211", "o3-mini", "claude-sonnet-4-5-20250929",
    "claude-3-5-haiku-20241022", "gemini-2.5-pro", "gemini-2.5-flash-preview-05-20", "grok-4",
    "mistral-large-latest", "deepseek-chat", "command-r-plus", "kimi-k2-0711-preview", "glm-4.6",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_model_named_without_its_host_is_the_package_s_choice(name: str) -> None:
    usage = Usage(input_tokens=1000, output_tokens=100)
    try:
        theirs = calc_price(their_usage(usage), name, genai_request_timestamp=INSTANTS[1])
    except LookupError:
        assert book().find(name, "", us(INSTANTS[1])) is None
        return
    price = book().find(name, "", us(INSTANTS[1]))
    assert price is not None
    assert (price.provider, price.model) == (theirs.provider.id, theirs.model.id)


def test_the_model_of_a_prefixed_name_is_sought_at_the_host_that_the_prefix_names() -> None:
    at = us(INSTANTS[1])
    plain = book().find("claude-sonnet-4-5", "", at)
    assert plain is not None
    assert book().find("anthropic/claude-sonnet-4-5", "", at) == plain
    resold = book().find("claude-sonnet-4-5", "azure", at)
    assert resold == plain


@pytest.mark.parametrize(
    ("at", "usd_per_mtok"),
    [
        (datetime(2026, 7, 4, 2, tzinfo=UTC), "0.14"),  # the package says 0.30: issue 582
        (datetime(2026, 9, 25, 0, tzinfo=UTC), "0.15"),
        (datetime(2026, 9, 25, 2, tzinfo=UTC), "0.30"),
    ],
)
def test_a_daily_window_is_no_older_than_the_price_it_varies(
    at: datetime, usd_per_mtok: str
) -> None:
    price = book().find("deepseek-v4-flash", "deepseek", us(at))
    assert price is not None
    assert price.amounts["input_tokens"] == Paid.of(usd_per_mtok).pico


def test_a_model_without_a_stated_price_is_unpriced_and_not_free() -> None:
    free = "deepseek/deepseek-chat:free"
    assert calc_price(TheirUsage(input_tokens=9), free, provider_id="openrouter").total_price == 0
    assert book().find(free, "openrouter", us(INSTANTS[1])) is None


def test_the_long_gemini_request_of_litellm_14849_costs_what_the_dated_table_says() -> None:
    body = {"prompt_tokens": 262_960, "completion_tokens": 1744,
            "prompt_tokens_details": {"cached_tokens": 257_955}}  # fmt: skip
    price = book().find("gemini-2.5-pro", "google", us(INSTANTS[2]))
    attempt = Attempt("a", "gemini-2.5-pro", usage=decompose(body, "openai"))
    assert billed(charge(attempt, price)) == Paid.of("0.10316125")


def test_the_package_is_not_imported_before_its_prices_are_asked_for() -> None:
    code = (
        "import sys, stillhouse, stillhouse.catalogues.genai, stillhouse.ledger.book; "
        "sys.exit('genai_prices' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def own_row(model: str, input_usd: str, cached_usd: str, output_usd: str) -> str:
    amounts = {"input_tokens": input_usd, "cache_read_tokens": cached_usd,
               "output_tokens": output_usd}  # fmt: skip
    exact = {leaf: Paid.of(price).pico for leaf, price in amounts.items()}
    return json.dumps({"own": True, "provider": "deepinfra", "model": model, "amounts": exact})


RECORDED = [
    ("banking77_deepseek/banking77_deepseek_v4.1_flash.jsonl.gz", "deepseek/deepseek-v4.1-flash",
     ("0.14", "0.0042", "0.42"), 13_083, "0.0796028296"),
    ("invoices_deepseek/invoices_deepseek_v4_flash.jsonl.gz", "deepseek/deepseek-v4-flash-0731",
     ("0.06", "0.015", "0.18"), 3_000, "0.13840338"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "model", "prices", "n_rows", "bill"), RECORDED)
def test_recorded_calls_cost_what_was_billed_to_the_last_digit(
    file: str, model: str, prices: tuple[str, str, str], n_rows: int, bill: str
) -> None:
    if not (DATA / file).exists():
        pytest.skip(f"the recorded traffic {file} is not on this machine")
    assert book().find(model, "deepinfra/fp8", us(INSTANTS[1])) is None
    priced = book(own_row(model, *prices))
    with gzip.open(DATA / file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    total = Paid(0)
    for number, row in enumerate(rows):
        body = {"input_tokens": row["prompt_tokens"], "cached_tokens": row["cached_tokens"],
                "output_tokens": row["completion_tokens"]}  # fmt: skip
        attempt = Attempt(str(number), model, usage=decompose(body, "columns"))
        price = priced.find(model, "deepinfra/fp8", int(row["ts"] * 10**6))
        cost = billed(charge(attempt, price))
        assert cost == Paid.of(row["cost_usd"])
        total += cost
    assert len(rows) == n_rows
    assert total == Paid.of(bill)
