"""The journal: what happens is on disk, in order, before anybody is told that it happened.

Each worker process writes segments of its own, so that no write waits for another process. See
`docs/explanation/journal.md`.
"""

from __future__ import annotations

import fcntl
import os
import re
from asyncio import Future
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from stillhouse.core.calls import Entry, Started
from stillhouse.core.errors import StoreError
from stillhouse.store.journal_frames import MAGIC, SUFFIX, Kind, PriceFacts, framed
from stillhouse.store.journal_syncing import Syncer, unsynced

SEGMENT_BYTES = 64 * 2**20
WINDOW_SECONDS = 0.2

_STARTED, _ENDED = Kind.STARTED, Kind.ENDED
_REFUSED = (
    "the journal in {folder} cannot be written ({why}); free some space there, or name another "
    "directory for it"
)


class Durability(StrEnum):
    """What an entry survives once `append` is through.

    PROCESS: the death of the worker, not a power cut (the kernel writes within half a minute).
    WINDOW: as well a power cut, but for the last `window_seconds`. POWER: a power cut.
    """

    PROCESS = "process"
    WINDOW = "window"
    POWER = "power"


class JournalWriter:
    """One worker's journal, see `core.ports.Journal`; used from one thread.

    The open segment is locked (`flock`) as long as the writer lives: that is how the folder knows
    that nothing more will come. `price_facts` gives the facts, as JSON, of a price id; they are
    written before the first entry of a segment that names it. Neither fork a process that holds a
    writer, nor put the folder on a network file system.
    """

    def __init__(
        self,
        folder: Path,
        worker: str,
        *,
        started_us: int,
        durability: Durability | str = Durability.WINDOW,
        window_seconds: float = WINDOW_SECONDS,
        segment_bytes: int = SEGMENT_BYTES,
        price_facts: Callable[[str], str | None] | None = None,
    ) -> None:
        name = re.sub(r"[^A-Za-z0-9_.]", "_", worker) or "worker"
        self._folder = folder
        self._run = f"{started_us:016x}-{name}.{os.getpid()}"
        self._segment_bytes = max(segment_bytes, len(MAGIC) + 1)
        self._price_facts = price_facts
        durability = Durability(durability)
        self._awaited = durability is Durability.POWER
        self._number = 0
        self._noted: set[str] = set()
        self._spoiled = self._closed = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = self._new_segment(0)
            self._end = len(MAGIC)
            self._syncer = None
            if durability is not Durability.PROCESS:
                pause = window_seconds if durability is Durability.WINDOW else 0.0
                self._syncer = Syncer(folder, self._file, pause)
        except OSError as error:
            raise self._refused(error) from error

    @property
    def run(self) -> str:
        """Name of this life of the worker; its segments are `RUN-NUMBER.journal`."""
        return self._run

    def append(self, entry: Entry) -> Future[None] | None:
        """Write an entry; see `core.ports.Journal`."""
        syncer = self._syncer
        if syncer is not None and syncer.fault is not None:
            self._doubt(syncer)
        if self._end >= self._segment_bytes or self._spoiled:
            self._rotate()
        noted = self._noted
        if type(entry) is Started:
            if entry.price_id and entry.price_id not in noted:
                self._note(entry.price_id)
            self._put(framed(_STARTED, entry))
        else:
            for charge in entry.charges:  # type: ignore[union-attr]
                if charge.price_id and charge.price_id not in noted:
                    self._note(charge.price_id)
            self._put(framed(_ENDED, entry))
        if syncer is None:
            return None
        if self._awaited:
            return syncer.wait()
        if not syncer.dirty:
            syncer.written()
        return None

    def _doubt(self, syncer: Syncer) -> None:
        """Write nothing behind what a disk did not confirm; StoreError where nobody was told."""
        fault = syncer.failed()
        self._spoiled = True
        if fault is not None and not self._awaited:
            raise unsynced(fault)

    def close(self) -> None:
        """Finish the segment, sync it, and let it go."""
        if self._closed:
            return
        self._closed = self._spoiled = True
        try:
            with suppress(StoreError):  # a full disk: the segment is whole without its last mark
                self._put(framed(Kind.CLOSED, None))
            if self._syncer is not None:
                self._syncer.close()
            else:
                try:
                    os.fdatasync(self._file)
                finally:
                    os.close(self._file)
        except OSError as error:
            raise unsynced(error) from error

    def _note(self, price_id: str) -> None:
        """Write the facts of a price before the first entry that names it."""
        facts = self._price_facts(price_id) if self._price_facts is not None else None
        if facts is not None:
            self._put(framed(Kind.PRICE, PriceFacts(price_id, facts)))
        self._noted.add(price_id)

    def _put(self, frame: bytes) -> None:
        """Write a frame at the end of the segment, or leave nothing of it there."""
        length = len(frame)
        try:
            written = os.pwrite(self._file, frame, self._end)
            while written < length:
                rest = memoryview(frame)[written:]
                written += os.pwrite(self._file, rest, self._end + written)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise self._refused(error) from error
        self._end += length

    def _rotate(self) -> None:
        """Go on in a new segment; without room for one, in the old. StoreError after the end."""
        if self._closed:
            raise StoreError(
                f"the journal {self._run} is closed; nothing can be written to it any more"
            )
        try:
            file = self._new_segment(self._number + 1)
        except OSError:
            return
        with suppress(StoreError):  # the next segment says as much
            self._put(framed(Kind.ROTATED, None))
        self._number += 1
        self._noted.clear()
        self._spoiled = False
        before, self._file, self._end = self._file, file, len(MAGIC)
        if self._syncer is not None:
            self._syncer.turn_to(file)
        else:
            os.close(before)

    def _new_segment(self, number: int) -> int:
        """Make a segment that is locked before it has its name: nobody sees it without its lock."""
        path = self._folder / f"{self._run}-{number:06d}{SUFFIX}"
        new = path.with_suffix(".new")
        file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.pwrite(file, MAGIC, 0) < len(MAGIC):
                raise OSError(28, "no space left on the device")
            new.rename(path)
        except OSError:
            os.close(file)
            new.unlink(missing_ok=True)
            raise
        return file

    def _refused(self, error: OSError) -> StoreError:
        return StoreError(_REFUSED.format(folder=self._folder, why=error.strerror or error))
