"""The kinds of values that keys hold: what each expects, and how it is read from TOML."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import NamedTuple

from stillhouse.core.money import PICO, Paid
from stillhouse.core.quotas import Quota, Scope, Unit, Window
from stillhouse.settings.complaints import looks_secret

LARGEST_PICO = 4_000_000 * PICO
"""Counters are 64-bit numbers of which two must add up."""

_WINDOWS = tuple(one.value for one in Window if one is not Window.NOW)
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?")
_SIZES = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class KindError(ValueError):
    """A value is not what its key holds; a text is the rest of the sentence about it."""


class Kind(NamedTuple):
    """One kind of value: what it expects, in words, and how it is read (or KindError)."""

    expects: str
    read: Callable[[object], object]


class Field(NamedTuple):
    """One key: its name in the file, its kind, and its promise for the reference.

    `into` is the name of the noun's field where it differs; `default` is for the reference where
    the noun does not tell.
    """

    name: str
    kind: Kind
    promise: str
    into: str = ""
    default: str | None = None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise KindError
    if looks_secret(value):
        raise KindError(
            "looks like a key; secrets do not stand in this file: put it into an environment "
            "variable and name that variable in key_env"
        )
    return value


def _env_name(value: object) -> str:
    text = _text(value)
    if not _ENV.fullmatch(text):
        raise KindError
    return text


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise KindError
    return tuple(_text(one) for one in value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise KindError
    return value


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise KindError
    return int(match[1]) * _SIZES[match[2]]


def read_money(value: object) -> int:
    """Dollars as pico-dollars, exactly; KindError where they are none.

    >>> read_money("0.25")
    250000000000
    """
    if isinstance(value, float):
        raise KindError("is a binary fraction and not exact; write the amount as text")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise KindError
    try:
        amount = Decimal(value)
    except InvalidOperation as error:
        raise KindError from error
    if not amount.is_finite() or amount < 0:
        raise KindError
    pico = Paid.of(amount).pico
    if pico == 0 and amount:
        raise KindError("is below the smallest amount, a millionth of a millionth of a dollar")
    if pico > LARGEST_PICO:
        raise KindError("is more than 4,000,000 dollars, the most that one budget can count")
    return pico


def read_cap(value: object) -> Quota:
    """A cap on the dollars of a key in a window, as `10/month`; KindError where it is none.

    >>> read_cap("0.25/day").limit
    250000000000
    """
    if not isinstance(value, str):
        raise KindError
    amount, _, window = value.partition("/")
    if window not in _WINDOWS:
        raise KindError(f"has no window; write USD/{'|'.join(_WINDOWS)}")
    try:
        pico = read_money(amount.removeprefix("$"))
    except KindError as wrong:
        raise KindError("is no amount; write it as 10.50/month") from wrong
    return Quota(Scope.KEY, "*", Unit.COST, Window(window), pico)


def _caps(value: object) -> tuple[Quota, ...]:
    if not isinstance(value, list):
        raise KindError
    found: dict[Window, Quota] = {}
    for one in value:
        try:
            cap = read_cap(one)
        except KindError as wrong:
            raise KindError(f"has {one!r}, which {wrong}" if str(wrong) else "") from wrong
        if found.setdefault(cap.window, cap) is not cap:
            raise KindError(f"has two caps per {cap.window}; keep one of the two")
    return tuple(found.values())


def _headers(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise KindError
    for name, content in value.items():
        if name.lower() in ("authorization", "x-api-key", "api-key", "cookie"):
            raise KindError(
                f"has {name}, which carries a secret; put it into an environment variable and "
                "name that variable in key_env"
            )
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise KindError(f"has {name!r}, which is no name of a header")
        if not _text(content).isprintable():
            raise KindError(f"has a line break in {name}")
    return dict(value)


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise KindError
    return value


TEXT = Kind("text", _text)
TEXTS = Kind("a list of texts", _texts)
FLAG = Kind("true or false", _flag)
ENV_NAME = Kind("the name of an environment variable", _env_name)
SIZE = Kind('bytes: a whole number, or text such as "32 MiB"', _size)
MONEY = Kind('dollars as decimal text, such as "100.50"', read_money)
CAPS = Kind('a list of caps in dollars, such as ["5/day", "100/month"]', _caps)
HEADERS = Kind("a table of names and texts", _headers)
TABLE = Kind("a table", _table)
ANY = Kind("a list", lambda value: value)


def whole(least: int, most: int | None = None) -> Kind:
    """Whole numbers from `least` to `most`.

    >>> whole(1, 65535).expects
    'a whole number from 1 to 65535'
    """

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise KindError
        if most is not None and value > most:
            raise KindError
        return value

    upper = f" from {least} to {most}" if most is not None else f" of at least {least}"
    return Kind(f"a whole number{upper}", read)


def number(least: float, most: float = float("inf"), *, beyond: bool = False) -> Kind:
    """Finite numbers from `least` (or beyond it) to `most`.

    >>> number(0, beyond=True).expects, number(0, 1).expects
    ('a number above 0', 'a number from 0 to 1')
    """

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise KindError
        if not least <= value <= most or value == float("inf") or (beyond and value == least):
            raise KindError
        return float(value)

    if most != float("inf"):
        return Kind(f"a number from {least} to {most}", read)
    return Kind(f"a number above {least}" if beyond else f"a number of at least {least}", read)


def one_of(choices: type[StrEnum], *, but: Collection[StrEnum] = ()) -> Kind:
    """One of the words of an enumeration, but for some."""
    words = {choice.value: choice for choice in choices if choice not in but}

    def read(value: object) -> StrEnum:
        if not isinstance(value, str) or value not in words:
            raise KindError
        return words[value]

    return Kind("one of " + ", ".join(words), read)


def some_of(choices: type[StrEnum]) -> Kind:
    """A list of words of an enumeration, at least one."""

    def read(value: object) -> tuple[StrEnum, ...]:
        if not isinstance(value, list) or not value:
            raise KindError
        try:
            return tuple(choices(str(one)) for one in value)
        except ValueError as error:
            raise KindError from error

    return Kind("a list of " + ", ".join(choices), read)
