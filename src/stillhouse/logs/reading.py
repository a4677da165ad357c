"""Reads a recorded file row by row: calls, and broken rows with their reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import BrokenRow, LoggedCall
from stillhouse.logs.batch import BatchInput
from stillhouse.logs.content import Body
from stillhouse.logs.delimited import Records, by_column, not_utf8
from stillhouse.logs.detection import PAIRS, ROW_TITLES, LogFormat, kind_of
from stillhouse.logs.lines import LONGEST_LINE, START, Lines, Position
from stillhouse.logs.pairs import read_pair
from stillhouse.logs.stored import read_stored
from stillhouse.logs.table import TableReader
from stillhouse.logs.values import RowError

Parse = Callable[[Body, int], LoggedCall]

# What a body of an unexpected shape makes the readers raise: they do not check every field first,
# because a good row should not pay for the bad ones.
_FAULTS = (
    RowError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    ValueError,
    RecursionError,
)


def read(
    path: Path, fmt: LogFormat, start: Position = START, longest_line: int = LONGEST_LINE
) -> LogReader:
    """Read a file of a known format from a position on; see LogReader.

    Raises CallerError where the file cannot be read or holds no answers.
    """
    if not fmt.has_answers:
        raise CallerError(
            f"{path} holds the requests of a batch and no answers; name the batch's output file"
        )
    return LogReader(path, fmt, start, longest_line)


class LogReader:
    """The rows of a file, once: each a LoggedCall, or a BrokenRow to be set aside.

    After each row, `position` is the place to go on from. Only a fault of the file itself raises,
    as CallerError.
    """

    def __init__(self, path: Path, fmt: LogFormat, start: Position, longest_line: int) -> None:
        self._lines = Lines(path, start, longest_line)
        self._format = fmt

    @property
    def position(self) -> Position:
        """Where the row after the last one starts."""
        return Position(self._lines.offset, self._lines.line)

    @property
    def share_read(self) -> float:
        """About which share of the file is behind, 0 to 1; on disk, so before decompression."""
        return self._lines.share_read

    def __iter__(self) -> Iterator[LoggedCall | BrokenRow]:
        layout, companion = self._format.layout, self._format.companion
        if companion is not None:
            with BatchInput(companion) as requests:
                yield from self._json_rows(requests.read_answer)
        elif layout is None:
            yield from self._json_rows(read_pair if self._format.name == PAIRS else read_stored)
        elif layout.delimiter:
            yield from self._records(TableReader(layout).read_row, layout.delimiter, layout.header)
        else:
            yield from self._json_rows(TableReader(layout).read_row)

    def _json_rows(self, parse: Parse) -> Iterator[LoggedCall | BrokenRow]:
        lines, loads = self._lines, orjson.loads
        row: LoggedCall | BrokenRow
        for raw in lines:
            try:
                row = parse(loads(raw), lines.line)
            except _FAULTS as fault:
                if raw.isspace():
                    continue
                reason = self._reason(raw, fault)
                row = BrokenRow(lines.line, reason, raw.decode(errors="replace").rstrip("\r\n"))
            yield row

    def _reason(self, raw: bytes, fault: Exception) -> str:
        """Why a line is no row of this format; worked out only when it is not."""
        if len(raw) > self._lines.longest:
            return f"the row is longer than {self._lines.longest} bytes"
        try:
            found = orjson.loads(raw.rstrip().decode())
        except UnicodeDecodeError as encoding:
            return not_utf8(encoding)
        except orjson.JSONDecodeError as broken:
            return f"the row is not JSON: {broken.msg} at column {broken.colno}"
        if type(found) is not dict:
            return "the row is JSON, but no object"
        wanted, kind = self._format.name, kind_of(found)
        if kind and kind != wanted:
            return f"the row is {ROW_TITLES[kind]} in a file of {wanted}"
        return self._told(fault)

    def _told(self, fault: Exception) -> str:
        if isinstance(fault, RowError):
            return str(fault)
        return f"the row does not have the shape of {ROW_TITLES[self._format.name]}"

    def _records(
        self, parse: Parse, delimiter: str, header: tuple[str, ...]
    ) -> Iterator[LoggedCall | BrokenRow]:
        records = iter(Records(self._lines, delimiter))
        if self._lines.offset == 0:
            next(records)
        row: LoggedCall | BrokenRow
        for line, cells, raw in records:
            if not cells:
                continue
            try:
                if isinstance(cells, RowError):
                    raise cells
                row = parse(by_column(header, cells), line)
            except _FAULTS as fault:
                row = BrokenRow(line, self._told(fault), raw.rstrip("\r\n"))
            yield row
