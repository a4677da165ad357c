"""Values on their way to PostgreSQL and back: what goes in comes out, as it does with SQLite.

PostgreSQL's texts hold no NUL and no half of a surrogate pair, and what models are asked and answer
holds both. Such a character is written as an escape: SUBSTITUTE (U+001A), its number in hexadecimal
digits, and a semicolon; so is SUBSTITUTE itself.
"""

from __future__ import annotations

import re
from typing import Any

from psycopg.abc import AdaptContext
from psycopg.adapt import Buffer, Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper
from psycopg.types.string import TextLoader as PlainTextLoader

ESCAPE = "\x1a"
_UNHELD = re.compile("[\0\x1a\ud800-\udfff]")
_ESCAPED = re.compile(r"\x1a([0-9a-f]+);")
_ODD = ("\0", ESCAPE)


def escaped(text: str) -> str:
    """Write what PostgreSQL does not hold as escapes.

    >>> escaped("a\\0b"), unescaped(escaped("a\\0b"))
    ('a\\x1a0;b', 'a\\x00b')
    """
    return _UNHELD.sub(lambda found: f"{ESCAPE}{ord(found[0]):x};", text)


def unescaped(text: str) -> str:
    """Undo `escaped`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


class TextDumper(StrDumper):
    """Texts as texts, with escapes where there must be."""

    def dump(self, obj: str) -> Buffer | None:
        """The bytes that are sent."""
        if "\0" in obj or ESCAPE in obj:
            obj = escaped(obj)
        try:
            return obj.encode()
        except UnicodeEncodeError:
            return escaped(obj).encode()


class TextLoader(PlainTextLoader):
    """Texts as they were before they were escaped."""

    def load(self, data: Buffer) -> str:
        """The text that was kept."""
        text = str(data, "utf-8")
        return unescaped(text) if ESCAPE in text else text


class WholeDumper(Int8Dumper):
    """Whole numbers, and True and False, as 64 bits: one statement then fits every value."""

    def dump(self, obj: Any) -> Buffer | None:
        """The digits that are sent."""
        return b"%d" % obj


class NumericLoader(Loader):
    """Sums of 64-bit numbers, which PostgreSQL makes wide: whole ones come back as int."""

    def load(self, data: Buffer) -> int | float:
        """The exact integer, or the nearest float of a fraction."""
        digits = bytes(data)
        return int(digits) if digits.lstrip(b"-").isdigit() else float(digits)


def adapt(context: AdaptContext) -> None:
    """Let a connection speak so."""
    adapters = context.adapters
    if adapters is None:
        raise TypeError(f"{context!r} has no adapters")
    adapters.register_dumper(str, TextDumper)
    for whole in (int, bool):
        adapters.register_dumper(whole, WholeDumper)
    for name in ("text", "varchar", "name"):
        adapters.register_loader(name, TextLoader)
    adapters.register_loader("numeric", NumericLoader)
