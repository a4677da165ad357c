"""Reads single values of a row: text, counts, instants, money; or says why it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from stillhouse.core.money import Paid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_10000_US = 253_402_300_800_000_000
_MOST_TOKENS = 10**12
_MOST_USD = 10**6
_COMPACT_DATE = len("20260926")
_COUNTED = ("_tokens", "_requests")


class RowError(Exception):
    """One row cannot be read; the text says why and names the value seen."""


def shown(value: object) -> str:
    """Write a value into a sentence: its text, cut to 40 characters.

    >>> shown("a" * 60)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."
    """
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def as_text(value: object, name: str) -> str:
    """Read text; nothing becomes empty, a number becomes its digits.

    >>> as_text(None, "model"), as_text(7, "team")
    ('', '7')
    """
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise RowError(f"{name} is {shown(value)}, not text")


def _number(value: object, name: str) -> float | None:
    """Read a finite number >= 0, written as a number or as text; None where there is none."""
    if value is None or value == "":
        return None
    try:
        number = float("nan" if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise RowError(f"{name} is {shown(value)}, not a number") from None
    if number < 0:
        raise RowError(f"{name} is {shown(value)}, which cannot be negative")
    if not number < float("inf"):
        raise RowError(f"{name} is {shown(value)}, not a number")
    return number


def as_count(value: object, name: str) -> int | None:
    """Read a whole number >= 0; None where there is none.

    >>> as_count("397", "input_tokens"), as_count(4.0, "output_tokens"), as_count("", "n")
    (397, 4, None)
    """
    number = _number(value, name)
    if number is None:
        return None
    if number != int(number) or number > _MOST_TOKENS:
        raise RowError(f"{name} is {shown(value)}, not a count of tokens")
    return int(number)


def check_counts(usage: Mapping[str, object]) -> None:
    """Refuse a provider's usage object that holds a count below zero or a count that is no number.

    >>> check_counts({"prompt_tokens": -1})
    Traceback (most recent call last):
        ...
    stillhouse.logs.values.RowError: usage.prompt_tokens is -1, which cannot be negative
    """
    for name, value in usage.items():
        if type(value) is int:
            if value < 0:
                raise RowError(f"usage.{name} is {value}, which cannot be negative")
            if value > _MOST_TOKENS:
                raise RowError(f"usage.{name} is {value}, not a count of tokens")
        elif type(value) is dict:
            check_counts(value)
        elif value is not None and name.endswith(_COUNTED):
            raise RowError(f"usage.{name} is {shown(value)}, not a count of tokens")


def as_milliseconds(value: object, name: str) -> float | None:
    """Read a duration in milliseconds; None where there is none."""
    return _number(value, name)


def as_paid(value: object, name: str) -> Paid | None:
    """Read an amount in US dollars; None where there is none.

    >>> as_paid("0.0003", "cost_usd")
    Paid('0.0003' USD)
    """
    number = _number(value, name)
    if number is None:
        return None
    if number > _MOST_USD:
        raise RowError(f"{name} is {shown(value)}, more than one call can cost")
    return Paid.of(value.strip() if isinstance(value, str) else value)  # type: ignore[arg-type]


def as_instant(value: object, name: str) -> int | None:
    """Read an instant as microseconds since 1970 in UTC; None where there is none.

    Text is ISO 8601 (UTC where no zone is given) or a number; a number counts seconds,
    milliseconds, microseconds or nanoseconds since 1970, told apart by its size.

    >>> as_instant("2026-09-26T13:10:45Z", "ts") == as_instant(1790428245, "ts")
    True
    >>> as_instant(1790428245000, "ts") == as_instant("1790428245.0", "ts")
    True
    """
    if type(value) is str and ("-" in value or ":" in value or len(value) == _COMPACT_DATE):
        return _from_iso(value, name)
    number = _number(value, name)
    if number is None:
        return None
    scale = 1e6
    while number * scale >= _YEAR_10000_US and scale > 1e-3:
        scale /= 1000
    micros = round(number * scale)
    if micros >= _YEAR_10000_US:
        raise RowError(f"{name} is {shown(value)}, not an instant")
    return micros


def _from_iso(value: str, name: str) -> int:
    try:
        instant = datetime.fromisoformat(value.strip())
    except ValueError:
        raise RowError(
            f"{name} is {shown(value)}, neither ISO 8601 nor seconds since 1970"
        ) from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    since = instant - _EPOCH
    if since.days < 0:
        raise RowError(f"{name} is {shown(value)}, before 1970")
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
