"""A team's own price file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from stillhouse.catalogues import yaml_book
from stillhouse.core.errors import CallerError
from stillhouse.core.money import Paid
from stillhouse.ledger.book import PriceBook
from stillhouse.ledger.prices import price_from_row

WEEKEND = """
- provider: deepseek
  model: deepseek-v4-flash
  names: [deepseek-v4-flash*]
  valid_from: 2026-09-10
  known_from: 2026-09-12T08:00:00+08:00
  usd_per_mtok: {input: 0.15, cache_read: 0.003, output: 0.60}
  window: {zone: Asia/Shanghai, weekdays: [sat, Sun], from: 00:00, to: 24:00}
  source_url: https://api-docs.deepseek.com/quick_start/pricing
- model: house-model            # no host: whoever serves it
  service_tier: flex
  batch: true
  region: eu
  usd_per_mtok: {input: 1.25}
  usd_per_thousand: {web_searches: 10, requests: 5}
  tiers:
    - above: 200000
      usd_per_mtok: {input: 2.5}
"""


def rows(tmp_path: Path, text: str) -> list[dict[str, object]]:
    path = tmp_path / "prices.yaml"
    path.write_text(text, "utf-8")
    return yaml_book.price_rows(path)


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**6


def test_a_documented_file_is_read_exactly(tmp_path: Path) -> None:
    weekend, house = (price_from_row(row, 42) for row in rows(tmp_path, WEEKEND))
    assert weekend.own
    assert weekend.amounts == {
        "input_tokens": Paid.of("0.15").pico,
        "cache_read_tokens": Paid.of("0.003").pico,
        "output_tokens": Paid.of("0.6").pico,
    }
    assert weekend.window is not None
    assert (weekend.window.weekdays, weekend.window.end_minute) == ((6, 7), 1440)
    assert weekend.valid_from_us == us("2026-09-10")
    assert weekend.known_from_us == us("2026-09-12")
    assert (house.provider, house.service_tier, house.batch, house.region) == (
        "", "flex", True, "eu")  # fmt: skip
    assert house.amounts["requests"] == Paid.of("5000").pico
    assert house.amounts_at(200_001) == {"input_tokens": Paid.of("2.5").pico}
    assert (house.known_from_us, house.window, house.valid_from_us) == (42, None, None)


def test_a_weekend_price_of_the_team_wins_over_the_peak_price_of_a_catalogue(
    tmp_path: Path,
) -> None:
    peak: dict[str, object] = {
        "provider": "deepseek",
        "model": "deepseek-v4-flash",
        "amounts": {"input_tokens": Paid.of("0.30").pico},
        "window": {"start_minute": 60, "end_minute": 240},
    }
    book = PriceBook(price_from_row(row, 0) for row in [peak, *rows(tmp_path, WEEKEND)])
    saturday = book.find("deepseek-v4-flash", "deepseek", us("2026-09-26T02:00"))
    monday = book.find("deepseek-v4-flash", "deepseek", us("2026-09-28T02:00"))
    assert saturday is not None
    assert saturday.amounts["input_tokens"] == Paid.of("0.15").pico
    assert monday is not None
    assert monday.amounts["input_tokens"] == Paid.of("0.30").pico


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[]\n"])
def test_an_empty_file_holds_no_price(tmp_path: Path, text: str) -> None:
    assert rows(tmp_path, text) == []


PRICE = "usd_per_mtok: {input: 1}"
BROKEN = [
    ("model: m", "must be a list"),
    ("- just text", "entry 1: 'just text' must be a mapping"),
    ("- {a: [", "is no YAML"),
    (f"- {PRICE}", "entry 1: model is missing"),
    ("- model: m", "entry 1: no price"),
    (f"- model: ok\n  {PRICE}\n- model: m", "entry 2: no price"),
    (f"- model: m\n  {PRICE}\n  colour: red", "the key 'colour' is unknown"),
    (f"- model: [m]\n  {PRICE}", "model is .'m'."),
    (f"- model: m\n  {PRICE}\n  names: m", "names is 'm'"),
    (f"- model: m\n  {PRICE}\n  names: [[m]]", "names is"),
    (f"- model: m\n  {PRICE}\n  valid_from: soon", "valid_from is 'soon'"),
    (f"- model: m\n  {PRICE}\n  batch: maybe", "batch is 'maybe'"),
    ("- model: m\n  usd_per_mtok: {pages: 1}", "usd_per_mtok has 'pages'"),
    ("- model: m\n  usd_per_mtok: {input: -1}", "usd_per_mtok: input is '-1'"),
    ("- model: m\n  usd_per_mtok: {input: nan}", "usd_per_mtok: input is 'NaN'"),
    ("- model: m\n  usd_per_mtok: {input: 1 USD}", "usd_per_mtok: input is '1 USD'"),
    ("- model: m\n  usd_per_mtok: {input: }", "usd_per_mtok: input is 'None'"),
    (f"- model: m\n  {PRICE}\n  tiers: [{{{PRICE}}}]", "tiers 1: above is missing"),
    (f"- model: m\n  {PRICE}\n  tiers: [{{above: many, {PRICE}}}]", "above is 'many'"),
    (f"- model: m\n  {PRICE}\n  window: {{weekdays: [someday]}}", "weekdays is 'someday'"),
    (f"- model: m\n  {PRICE}\n  window: {{from: 9}}", "window: from is '9'"),
    (f"- model: m\n  {PRICE}\n  window: {{until: 9}}", "the key 'until' is unknown"),
]


@pytest.mark.parametrize(("text", "named"), BROKEN)
def test_what_cannot_be_read_is_named_by_file_entry_and_key(
    tmp_path: Path, text: str, named: str
) -> None:
    with pytest.raises(CallerError, match=named) as error:
        rows(tmp_path, text)
    assert "prices.yaml" in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"absent\.yaml cannot be read"):
        yaml_book.price_rows(tmp_path / "absent.yaml")


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_bytes(b"- model: caf\xe9\n")
    with pytest.raises(CallerError, match="is no YAML"):
        yaml_book.price_rows(path)
