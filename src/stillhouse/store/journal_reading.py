"""Reads journals while they are written: every whole entry once, damage named, nothing skipped."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import orjson

from stillhouse.core.calls import Entry
from stillhouse.core.errors import StoreError
from stillhouse.store.journal_frames import (
    HEADER,
    MAGIC,
    SUFFIX,
    Frame,
    Kind,
    Place,
    PriceFacts,
    decoded,
    frame_at,
    frames,
    length_at,
    next_frame,
)

READ_BYTES = 2**22
STATUS = "fold.json"
ASIDE = "aside.jsonl"
_NAME = re.compile(rf"([0-9a-f]{{16}}-.+)-(\d{{6,}}){re.escape(SUFFIX)}")


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the journal in {folder} cannot be read or put away ({error.strerror}); check the "
            "disk and the rights of the directory"
        ) from error


class JournalReader:
    """One run's entries in order, over all of its segments, from a place on.

    Iterating gives what is there now; iterating again goes on behind it. `prices` are the facts of
    the prices that were named so far, `damaged` says in sentences what could not be read, and
    `torn_bytes` is how much of the last segment's end is no whole entry.
    """

    def __init__(self, folder: Path, run: str, after: Place = (0, 0)) -> None:
        self._folder, self._run = folder, run
        self.segment, self.offset = after
        self.prices: dict[str, str] = {}
        self.damaged: list[str] = []
        self.torn_bytes = 0
        self._hurt: set[int] = set()
        self._explained: int | None = None

    @property
    def place(self) -> Place:
        """Behind the last entry read."""
        return self.segment, self.offset

    @property
    def hurt(self) -> frozenset[int]:
        """The segments that hold damage."""
        return frozenset(self._hurt)

    def __iter__(self) -> Iterator[tuple[Place, Entry]]:
        with _translated(self._folder):
            while self._exists(self.segment) or self._leap():
                later = self._next()  # asked first: then this segment is complete when it is read
                yield from self._read_segment()
                if later is None:
                    return
                if self.torn_bytes:
                    end = self.offset + self.torn_bytes
                    self._note_damage(self.offset, end, "holds no whole entry")
                    self.torn_bytes = 0
                self.segment, self.offset = later, 0

    def _path(self, segment: int) -> Path:
        return self._folder / f"{self._run}-{segment:06d}{SUFFIX}"

    def _exists(self, segment: int) -> bool:
        return self._path(segment).exists()

    def _next(self) -> int | None:
        if self._exists(self.segment + 1):
            return self.segment + 1
        later = [number for number in segments(self._folder, self._run) if number > self.segment]
        return min(later, default=None)

    def _leap(self) -> bool:
        """Turn to the next segment where this one is gone: it was folded and removed."""
        later = self._next()
        if later is None:
            return False
        self.segment, self.offset = later, 0
        return True

    def _read_segment(self) -> Iterator[tuple[Place, Entry]]:
        file = os.open(self._path(self.segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not self.offset:
                if os.pread(file, len(MAGIC), 0) != MAGIC:
                    self.offset = os.fstat(file).st_size
                    self._note_damage(0, self.offset, "is no segment of this version")
                    return
                self.offset = len(MAGIC)
            elif self._explained != self.segment:
                self._explain(file)
            self._explained = self.segment
            while True:
                yield from self._whole(file)
                if not self._behind_damage(file):
                    return
        finally:
            os.close(file)

    def _explain(self, file: int) -> None:
        """Learn the prices that were named before the place where reading begins."""
        for frame in _frames(file, len(MAGIC), self.offset):
            if frame.kind == Kind.PRICE:
                self._learn(frame)

    def _whole(self, file: int) -> Iterator[tuple[Place, Entry]]:
        for frame in _frames(file, self.offset, None):
            self.offset = frame.end
            if frame.kind == Kind.PRICE:
                self._learn(frame)
            elif frame.kind in (Kind.STARTED, Kind.ENDED):
                try:
                    entry = decoded(frame)
                except (ValueError, msgspec.MsgspecError) as error:
                    why = f"holds an entry that this version cannot read ({error})"
                    self._note_damage(frame.start, frame.end, why)
                    continue
                yield (self.segment, frame.start), entry  # type: ignore[misc]

    def _learn(self, frame: Frame) -> None:
        found = decoded(frame)
        assert isinstance(found, PriceFacts)
        self.prices[found.price_id] = found.facts

    def _behind_damage(self, file: int) -> bool:
        """Go on at the next whole frame; where there is none, this is the end so far."""
        size = os.fstat(file).st_size
        self.torn_bytes = max(0, size - self.offset)
        if self.torn_bytes <= 1:
            return False
        data = os.pread(file, self.torn_bytes, self.offset)
        if frame_at(data, 0, self.offset) is not None:  # it was being written a moment ago
            return True
        found = next_frame(data, self.offset)
        if found is None:
            return False
        self._note_damage(self.offset, found.start, "is damaged")
        self.offset, self.torn_bytes = found.start, 0
        return True

    def _note_damage(self, start: int, end: int, why: str) -> None:
        self._hurt.add(self.segment)
        name = self._path(self.segment).name
        self.damaged.append(f"{name} {why} from byte {start} to {end}; the file is kept")


def _frames(file: int, offset: int, until: int | None) -> Iterator[Frame]:
    """The whole frames of a file from an offset on, read in large pieces."""
    wanted = READ_BYTES
    while until is None or offset < until:
        data = os.pread(file, wanted, offset)
        before = offset
        for frame in frames(data, offset):
            if until is not None and frame.start >= until:
                return
            offset = frame.end
            yield frame
        if offset == before:
            length = length_at(data, 0)
            if length is None or len(data) < wanted or wanted >= HEADER.size + length:
                return
            wanted = HEADER.size + length
        else:
            wanted = READ_BYTES


def segments(folder: Path, run: str) -> list[int]:
    """Numbers of a run's segments, in order."""
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[2]) for match in found if match and match[1] == run)


class JournalFolder:
    """A directory of journals, for the one who folds them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runs(self) -> list[str]:
        """Every life of every worker that has segments here, by the time of its start."""
        with _translated(self.folder):
            if not self.folder.is_dir():
                return []
            found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
            return sorted({match[1] for match in found if match})

    def alive(self, run: str) -> bool:
        """Whether a run's writer lives: then more may come."""
        with _translated(self.folder):
            while True:
                before = segments(self.folder, run)
                if any(_is_locked(self._path(run, number)) for number in before):
                    return True
                # A new segment is locked before the old one is let go: if none has come, none will.
                if segments(self.folder, run) == before:
                    return False

    def read(self, run: str, after: Place) -> JournalReader:
        """The entries of a run from a place on."""
        return JournalReader(self.folder, run, after)

    def unread_bytes(self, run: str, after: Place) -> int:
        """How many bytes of a run lie behind a place."""
        total = 0
        with _translated(self.folder):
            for number in segments(self.folder, run):
                if number >= after[0]:
                    with suppress(FileNotFoundError):
                        total += self._path(run, number).stat().st_size
                        total -= after[1] if number == after[0] else 0
        return max(0, total)

    def put_away(
        self, run: str, before: int | None, *, keep: bool, hurt: frozenset[int] = frozenset()
    ) -> None:
        """Remove a run's segments before a number, or all; `keep` gives them another name instead.

        Damaged ones are kept under the name `.damaged` in any case.
        """
        with _translated(self.folder):
            for number in segments(self.folder, run):
                if before is None or number < before:
                    path = self._path(run, number)
                    if number in hurt:
                        path.rename(path.with_suffix(".damaged"))
                    elif keep:
                        path.rename(path.with_suffix(".folded"))
                    else:
                        path.unlink()

    def forget_folded(self, before_us: int) -> int:
        """Remove kept segments that were last written before an instant; returns how many."""
        removed = 0
        with _translated(self.folder):
            for path in self.folder.glob("*.folded"):
                if path.stat().st_mtime_ns // 1000 < before_us:
                    path.unlink()
                    removed += 1
        return removed

    def set_aside(self, run: str, reason: str, entries: list[Entry]) -> None:
        """Keep entries that the database refuses in a file of their own, on the disk."""
        kept = [msgspec.structs.asdict(entry) for entry in entries]
        row = {"run": run, "reason": reason, "entries": kept}
        with _translated(self.folder):
            (self.folder / ASIDE).touch(mode=0o600)
        with _translated(self.folder), (self.folder / ASIDE).open("ab", buffering=0) as file:
            file.write(msgspec.json.encode(row) + b"\n")
            os.fsync(file.fileno())

    def note(self, status: Mapping[str, object]) -> None:
        """Say in `fold.json` how far the folding is; readers see the old or the new, whole."""
        with _translated(self.folder):
            new = self.folder / f".{STATUS}.new"
            new.touch(mode=0o600)
            new.write_bytes(orjson.dumps(status, option=orjson.OPT_INDENT_2))
            new.rename(self.folder / STATUS)

    @contextmanager
    def folding(self) -> Iterator[None]:
        """Hold the right to fold this folder: one process at a time, until it ends."""
        with _translated(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.folder / "fold.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreError(
                    f"another process folds the journals in {self.folder}; leave it to that one, "
                    "or end it first"
                ) from error
            yield
        finally:
            os.close(lock)

    def _path(self, run: str, number: int) -> Path:
        return self.folder / f"{run}-{number:06d}{SUFFIX}"


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
