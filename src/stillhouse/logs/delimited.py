"""Splits CSV records, which may span lines, out of a file's lines."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from stillhouse.logs.content import Body
from stillhouse.logs.lines import Lines
from stillhouse.logs.values import RowError

_LONGEST_CELL = 2**22
"""Characters: an unclosed quote swallows no more of the file than this."""

DELIMITERS = (",", ";", "\t", "|")


class Records:
    """The records of a delimited text, one at a time, with the text that each was read from.

    Iterating yields (line on which the record starts, cells or the fault, its text).
    """

    def __init__(self, lines: Lines, delimiter: str) -> None:
        self._lines = lines
        self._taken: list[str] = []
        self._fault = ""
        # The limit is one for the whole process, and Python's own is too small for prompts.
        csv.field_size_limit(_LONGEST_CELL)
        self._reader = csv.reader(self._text(), delimiter=delimiter, strict=True)

    def _text(self) -> Iterator[str]:
        for raw in self._lines:
            try:
                text = raw.decode()
            except UnicodeDecodeError as fault:
                self._fault = not_utf8(fault)
                text = raw.decode("latin-1")
            self._taken.append(text)
            yield text

    def __iter__(self) -> Iterator[tuple[int, list[str] | RowError, str]]:
        while True:
            self._taken.clear()
            self._fault = ""
            start = self._lines.line + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as fault:
                reason = f"the row, up to line {self._lines.line}, is not CSV: {fault}"
                yield start, RowError(reason), "".join(self._taken)
                continue
            yield start, RowError(self._fault) if self._fault else cells, "".join(self._taken)


def not_utf8(fault: UnicodeDecodeError) -> str:
    """Say where a text stops being UTF-8.

    >>> try:
    ...     b"caf\\xe9".decode()
    ... except UnicodeDecodeError as fault:
    ...     not_utf8(fault)
    'the row is not UTF-8 (byte 0xE9 at column 4); it looks like Latin-1'
    """
    return (
        f"the row is not UTF-8 (byte 0x{fault.object[fault.start]:02X} at column "
        f"{fault.start + 1}); it looks like Latin-1"
    )


def by_column(header: tuple[str, ...], cells: list[str]) -> Body:
    """Name the cells of a record by its header."""
    if len(cells) != len(header):
        raise RowError(f"the row has {len(cells)} cells where the header names {len(header)}")
    return dict(zip(header, cells, strict=True))


def delimiter_of(line: str) -> str:
    """The delimiter that splits a header line into most cells; empty where none does.

    >>> delimiter_of("text;answer;model, version"), delimiter_of("hello")
    (';', '')
    """
    best = max(DELIMITERS, key=line.count)
    return best if best in line else ""


def header_of(lines: Iterable[str], delimiter: str) -> tuple[str, ...]:
    """The first record: the names of the columns."""
    return tuple(name.strip() for name in next(csv.reader(iter(lines), delimiter=delimiter), []))
