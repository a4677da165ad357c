"""Reads the price table of the installed `genai_prices` package as plain rows.

The package is imported on the first call only: it takes several tenths of a second. What its table
cannot say is converted conservatively:

- A daily window has no date of its own there. Here it starts with the dated price that stands
  before it in the list, because a window varies a price and cannot be older than it.
- Prices for a batch or a service tier become rows of their own; other request conditions (`speed`,
  `route`, `search_type`) are left out, and so are units that a usage does not count (seconds of
  audio, characters, pages, video).
- An entry that states no price gives no row: its model is unpriced, not free.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

from stillhouse.core.money import Paid

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, PriceVariant, Provider

PlainRow = dict[str, Any]

_LEAVES = {
    "input_mtok": "input_tokens",
    "cache_read_mtok": "cache_read_tokens",
    "cache_write_mtok": "cache_write_5m_tokens",  # the lifetime that vendors mean unless they say
    "cache_write_5m_mtok": "cache_write_5m_tokens",
    "cache_write_1h_mtok": "cache_write_1h_tokens",
    "input_audio_mtok": "input_audio_tokens",
    "cache_audio_read_mtok": "cache_audio_read_tokens",
    "input_image_mtok": "input_image_tokens",
    "output_mtok": "output_tokens",
    "output_reasoning_mtok": "reasoning_tokens",
    "output_audio_mtok": "output_audio_tokens",
    "output_image_mtok": "output_image_tokens",
    "web_searches_kcount": "web_searches",
    "requests_kcount": "requests",
}


def host_rows() -> list[PlainRow]:
    """Every host with the names that logs may give it: rows for `ledger.names.host_from_row`."""
    return [
        {
            "name": provider.id,
            "aliases": _patterns(provider.provider_match),
            "url": provider.api_pattern,
            "models": _patterns(provider.model_match),
            "resells": provider.fallback_model_providers or (),
        }
        for provider in _providers()
    ]


def price_rows() -> list[PlainRow]:
    """Every dated token price: rows for `ledger.prices.price_from_row`."""
    return [
        row
        for provider in _providers()
        for model in provider.models
        for row in _model_rows(provider, model)
    ]


def _providers() -> Sequence[Provider]:
    from genai_prices.data import providers

    return providers


@dataclass(frozen=True, slots=True)
class _Span:
    """Values under the package's own keys, and the time that they hold for."""

    values: Mapping[str, Any]
    start: int | None = None
    end: int | None = None
    window: PlainRow | None = None

    def overlaid(self, other: _Span) -> _Span:
        """The time that both cover, with the other's values over these."""
        ends = [end for end in (self.end, other.end) if end is not None]
        return _Span(
            {**self.values, **other.values},
            _latest(self.start, other.start),
            min(ends, default=None),
            self.window,
        )

    @property
    def is_empty(self) -> bool:
        return self.start is not None and self.end is not None and self.end <= self.start


def _model_rows(provider: Provider, model: ModelInfo) -> Iterator[PlainRow]:
    shared: PlainRow = {
        "provider": provider.id,
        "model": model.id,
        "names": _patterns(model.match),
        "source_url": provider.pricing_urls[0] if provider.pricing_urls else "",
    }
    prices = model.prices
    plain = list(_spans(prices)) if isinstance(prices, list) else [_Span(_stated(prices))]
    yield from _rows(shared, plain)
    for (tier, batch), variants in _by_condition(model.price_variants or ()).items():
        special = [base.overlaid(over) for base in plain for over in _variant_spans(variants)]
        yield from _rows({**shared, "service_tier": tier, "batch": batch}, special)


def _rows(shared: PlainRow, spans: Iterable[_Span]) -> Iterator[PlainRow]:
    for span in spans:
        values = {leaf: span.values[key] for key, leaf in _LEAVES.items() if key in span.values}
        if not values or span.is_empty:
            continue
        starts = {tier.start for value in values.values() for tier in getattr(value, "tiers", ())}
        yield {
            **shared,
            "amounts": _amounts(values, -1),
            "tiers": [
                {"above": start, "amounts": _amounts(values, start)} for start in sorted(starts)
            ],
            "valid_from_us": span.start,
            "valid_to_us": span.end,
            "window": span.window,
        }


def _amounts(values: Mapping[str, Any], above: int) -> dict[str, int]:
    """Pico-USD per million units for a request whose input has just more than `above` tokens."""
    amounts = {}
    for leaf, value in values.items():
        price = getattr(value, "base", value)
        for tier in getattr(value, "tiers", ()):
            if tier.start <= above:
                price = tier.price
        per_million = 1 if leaf.endswith("_tokens") else 1000  # the rest is priced per thousand
        amounts[leaf] = Paid.of(price * per_million).pico
    return amounts


def _stated(prices: ModelPrice) -> dict[str, Any]:
    return {key: value for key, value in vars(prices).items() if value is not None}


def _spans(prices: Sequence[ConditionalPrice]) -> Iterator[_Span]:
    """Each conditional price with its time: the last one that is active wins in the package."""
    starts = [_start(price.constraint) for price in prices]
    for index, price in enumerate(prices):
        before = [start for start in starts[: index + 1] if start is not None]
        after = [start for start in starts[index + 1 :] if start is not None]
        window = _window(price.constraint)
        start = max(before, default=None) if window else starts[index]
        yield _Span(_stated(price.prices), start, min(after, default=None), window)


def _by_condition(variants: Sequence[PriceVariant]) -> dict[tuple[str, bool], list[PriceVariant]]:
    """Variants by (service tier, batch); those for other conditions are left out."""
    found: dict[tuple[str, bool], list[PriceVariant]] = {}
    for variant in variants:
        match variant.when:
            case {"processing": "batch", **rest} if not rest:
                found.setdefault(("", True), []).append(variant)
            case {"service_tier": tier, **rest} if not rest and tier != "default":
                found.setdefault((tier, False), []).append(variant)
    return found


def _variant_spans(variants: Sequence[PriceVariant]) -> Iterator[_Span]:
    """What variants of one condition say together; in the package the first active one wins."""
    starts = [_start(variant.constraint) for variant in variants]
    dated = sorted({start for start in starts if start is not None})
    bounds = [None, *dated] if None in starts else dated
    for start, end in zip(bounds, [*bounds[1:], None], strict=True):
        values: dict[str, Any] = {}
        for variant, since in zip(variants, starts, strict=True):
            if since is None or (start is not None and since <= start):
                values = {**_stated(variant.prices), **values}
        yield _Span(values, start, end)


def _latest(*starts: int | None) -> int | None:
    return max((start for start in starts if start is not None), default=None)


def _start(constraint: object) -> int | None:
    day = getattr(constraint, "start_date", None)
    if not isinstance(day, date):
        return None
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 10**6


def _window(constraint: object) -> PlainRow | None:
    start, end = getattr(constraint, "start_time", None), getattr(constraint, "end_time", None)
    if not isinstance(start, time) or not isinstance(end, time):
        return None
    return {"start_minute": _utc_minute(start), "end_minute": _utc_minute(end)}


def _utc_minute(moment: time) -> int:
    offset = moment.utcoffset()
    shift = int(offset.total_seconds()) // 60 if offset else 0
    return (moment.hour * 60 + moment.minute - shift) % (24 * 60)


def _patterns(clause: object) -> tuple[str, ...]:
    """A match clause as name patterns of the ledger."""
    match vars(clause) if clause is not None else {}:
        case {"equals": name}:
            return (name.lower(),)
        case {"starts_with": name}:
            return (f"{name.lower()}*",)
        case {"ends_with": name}:
            return (f"*{name.lower()}",)
        case {"contains": name}:
            return (f"*{name.lower()}*",)
        case {"regex": expression}:
            return (f"re:{expression}",)
        case {"or_": parts}:
            return tuple(pattern for part in parts for pattern in _patterns(part))
        case {"and_": parts}:
            return ("re:" + "".join(f"(?={_lookahead(_patterns(part))})" for part in parts),)
    return ()


def _lookahead(patterns: Sequence[str]) -> str:
    return "|".join(map(_expression, patterns))


def _expression(pattern: str) -> str:
    if pattern.startswith("re:"):
        return f".*(?:{pattern[3:]})"
    core = re.escape(pattern.strip("*"))
    if pattern.startswith("*"):
        return f".*{core}" if pattern.endswith("*") else f".*{core}$"
    return core if pattern.endswith("*") else f"{core}$"
