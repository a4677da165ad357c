"""Reads a team's own dated prices from a YAML file.

The file is a list. One entry is one dated fact; a changed price is a further entry, never an edit:

    - provider: deepseek              # the host that sends the bill; leave out for any host
      model: deepseek-v4-flash
      names: [deepseek-v4-flash*]     # optional: names in logs, with * at an end, or re:...
      valid_from: 2026-09-10          # optional: a day or an instant; UTC unless it says otherwise
      valid_to: 2027-01-01            # optional, excluded
      known_from: 2026-09-12          # optional: when the team learned it
      usd_per_mtok: {input: 0.15, cache_read: 0.003, output: 0.60}
      window: {zone: Asia/Shanghai, weekdays: [sat, sun], from: 00:00, to: 24:00}   # optional
      source_url: https://api-docs.deepseek.com/quick_start/pricing

Further optional keys: `usd_per_thousand` {web_searches, requests}; `tiers`, a list of {above: input
tokens, usd_per_mtok, usd_per_thousand}, each with all its amounts; `service_tier`; `batch: true`;
`region`; `known_to`. The leaves of `usd_per_mtok` are the token counts of a usage without their
`_tokens`: input, cache_read, cache_write_5m, cache_write_1h, output, reasoning, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from stillhouse.core.errors import CallerError
from stillhouse.core.money import Paid
from stillhouse.core.traffic import LEAVES

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_PER_MTOK = {leaf.removesuffix("_tokens"): leaf for leaf in LEAVES if leaf.endswith("_tokens")}
_PER_THOUSAND = {"web_searches": "web_searches", "requests": "requests"}


def price_rows(path: Path) -> list[dict[str, Any]]:
    """Read a price file: rows for `ledger.prices.price_from_row`, each marked `own`.

    Raises CallerError naming the file, the entry and the key that cannot be read.
    """
    return [
        _row(_Entry(f"{path}, entry {number}", entry))
        for number, entry in enumerate(_load(path), start=1)
    ]


def _load(path: Path) -> list[object]:
    try:
        # The base loader keeps every scalar as text: no binary fractions, and 10:00 is no number.
        content = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    except OSError as error:
        raise CallerError(f"the price file {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CallerError(f"the price file {path} is no YAML: {reason}; correct it") from error
    if content in ("", None):
        return []
    if not isinstance(content, list):
        raise CallerError(
            f"the price file {path} must be a list of prices, one '- model: ...' each"
        )
    return content


class _Entry:
    """One mapping of the file, read key by key; what stays unread is a mistake."""

    def __init__(self, place: str, content: object) -> None:
        self.place = place
        if not isinstance(content, dict):
            raise CallerError(f"{place}: {content!r} must be a mapping, as 'model: ...'")
        self._unread: dict[str, Any] = dict(content)

    def error(self, key: str, seen: object, remedy: str) -> CallerError:
        return CallerError(f"{self.place}: {key} is {seen!r}; {remedy}")

    def take(self, key: str, read: Callable[[str], Any], remedy: str) -> Any:
        """Read one scalar with `read`, or give None where the key is absent or empty."""
        value = self._unread.pop(key, "")
        if value == "":
            return None
        try:
            if isinstance(value, str):
                return read(value)
        except (ValueError, KeyError, InvalidOperation) as error:
            raise self.error(key, value, remedy) from error
        raise self.error(key, value, remedy)

    def text(self, key: str) -> str:
        return self.take(key, str, "give one text") or ""

    def entries(self, key: str) -> list[_Entry]:
        """The mappings in a list."""
        items = self._list(key)
        return [_Entry(f"{self.place}, {key} {n}", item) for n, item in enumerate(items, start=1)]

    def texts(self, key: str) -> list[str]:
        items = self._list(key)
        if not all(isinstance(item, str) for item in items):
            raise self.error(key, items, "give a list of texts")
        return items

    def _list(self, key: str) -> list[Any]:
        value = self._unread.pop(key, None) or []
        if not isinstance(value, list):
            raise self.error(key, value, "give a list, as [a, b]")
        return value

    def entry(self, key: str) -> _Entry | None:
        value = self._unread.pop(key, None)
        return _Entry(f"{self.place}, {key}", value) if value else None

    def keys(self) -> list[str]:
        return list(self._unread)

    def close(self) -> None:
        if self._unread:
            raise CallerError(
                f"{self.place}: the key {next(iter(self._unread))!r} is unknown; "
                "see the keys of a price file, or correct its spelling"
            )


def _row(entry: _Entry) -> dict[str, Any]:
    row = {
        "own": True,
        "provider": entry.text("provider").lower(),
        "model": entry.text("model"),
        "names": entry.texts("names"),
        "amounts": _amounts(entry),
        "tiers": [_tier(tier) for tier in entry.entries("tiers")],
        **{f"{key}_us": entry.take(key, _instant, "give a day as 2026-09-10") for key in _TIMES},
        "service_tier": entry.text("service_tier"),
        "batch": entry.take("batch", _truth, "give true or false") or False,
        "region": entry.text("region"),
        "window": _window(entry.entry("window")),
        "source_url": entry.text("source_url"),
    }
    entry.close()
    if not row["model"]:
        raise CallerError(f"{entry.place}: model is missing; name the model that the price is for")
    return row


_TIMES = ("valid_from", "valid_to", "known_from", "known_to")


def _tier(entry: _Entry) -> dict[str, Any]:
    above = entry.take("above", int, "give a number of input tokens, as 200000")
    if above is None:
        raise CallerError(f"{entry.place}: above is missing; give a number of input tokens")
    tier = {"above": above, "amounts": _amounts(entry)}
    entry.close()
    return tier


def _amounts(entry: _Entry) -> dict[str, int]:
    """Pico-USD per million units of every leaf that has a price."""
    amounts: dict[str, int] = {}
    for key, leaves, scale in (
        ("usd_per_mtok", _PER_MTOK, 1),
        ("usd_per_thousand", _PER_THOUSAND, 1000),
    ):
        prices = entry.entry(key)
        for name in prices.keys() if prices else ():
            if prices is None or name not in leaves:
                raise CallerError(
                    f"{entry.place}: {key} has {name!r}; use some of {', '.join(leaves)}"
                )
            amount = prices.take(name, Decimal, "give a price in USD, as 0.15")
            if amount is None or not amount.is_finite() or amount < 0:
                raise prices.error(name, str(amount), "give a price in USD of 0 or more")
            amounts[leaves[name]] = Paid.of(amount * scale).pico
    if not amounts:
        raise CallerError(f"{entry.place}: no price; give usd_per_mtok, as {{input: 0.15}}")
    return amounts


def _window(entry: _Entry | None) -> Mapping[str, Any] | None:
    if entry is None:
        return None
    window = {
        "zone": entry.text("zone") or "UTC",
        "weekdays": [_weekday(entry, day) for day in entry.texts("weekdays")],
        "start_minute": entry.take("from", _minute, "give a time as 00:30") or 0,
        "end_minute": entry.take("to", _minute, "give a time as 16:30, or 24:00") or 0,
    }
    entry.close()
    return window


def _weekday(entry: _Entry, day: str) -> int:
    if day.lower() not in _WEEKDAYS:
        raise entry.error("weekdays", day, f"use {', '.join(_WEEKDAYS)}")
    return _WEEKDAYS.index(day.lower()) + 1


def _minute(text: str) -> int:
    if not _CLOCK.fullmatch(text):
        raise ValueError(text)
    return int(text[:2]) * 60 + int(text[3:])


def _instant(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**6


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]
