"""Opens recorded files: plain or gzip, line by line, with a position to go on from."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from stillhouse.core.errors import CallerError

LONGEST_LINE = 64 * 2**20
"""Bytes; a longer line is no row of a log."""

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_NEWLINE = 10
_READ_AHEAD = 2**18


class Position(NamedTuple):
    """A place between two rows: bytes and lines before it, counted after decompression."""

    offset: int = 0
    line: int = 0


START = Position()


def check_file(path: Path) -> None:
    """Raise CallerError unless there is a file that can be read."""
    try:
        if path.is_dir():
            raise CallerError(f"{path} is a directory; name the files in it, as {path}/*.jsonl")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise CallerError(f"{path} does not exist; give the path of a log") from None
    except OSError as fault:
        raise _unreadable(path, fault) from fault


def fingerprint(path: Path) -> str:
    """SHA-256 of the file's bytes as hexadecimal text, read in pieces."""
    check_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable(path: Path, fault: OSError) -> CallerError:
    return CallerError(f"{path} cannot be read ({fault.strerror or fault}); check it and try again")


class Lines:
    """The lines of a file as bytes, and where the reading stands: `offset` and `line`.

    Iterate once. A line over `longest` bytes is cut there and the rest of it skipped. Raises
    CallerError where the file itself fails, as a gzip stream that ends too early.
    """

    def __init__(self, path: Path, start: Position = START, longest: int = LONGEST_LINE) -> None:
        check_file(path)
        self.path = path
        self.longest = longest
        self.offset, self.line = start
        self.share_read = 0.0

    def __iter__(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb", buffering=_READ_AHEAD) as raw:
                zipped = raw.read(2) == _GZIP
                raw.seek(0)
                if zipped:
                    with gzip.GzipFile(fileobj=raw) as unzipped:
                        yield from self._lines_of(unzipped, raw)
                else:
                    yield from self._lines_of(raw, raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
            raise CallerError(
                f"{self.path} is damaged after line {self.line}: its gzip stream is broken or cut "
                "off; fetch it again"
            ) from fault
        except OSError as fault:
            raise _unreadable(self.path, fault) from fault

    def _lines_of(self, file: IO[bytes] | gzip.GzipFile, raw: IO[bytes]) -> Iterator[bytes]:
        size = max(1, self.path.stat().st_size)
        file.seek(self.offset)
        readline, limit = file.readline, self.longest + 1
        while line := readline(limit):
            self.line += 1
            self.offset += len(line)
            if len(line) == limit and line[-1] != _NEWLINE:
                self._skip_rest(file)
            if not self.line & 255:
                self.share_read = raw.tell() / size
            yield line if self.line > 1 else line.removeprefix(_BOM)
        self.share_read = 1.0

    def _skip_rest(self, file: IO[bytes] | gzip.GzipFile) -> None:
        while rest := file.readline(_READ_AHEAD):
            self.offset += len(rest)
            if rest[-1] == _NEWLINE:
                return
