"""Puts segments on the disk from a thread of its own: many entries, one sync."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from stillhouse.core.errors import StoreError

Waiting = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Syncer:
    """Syncs the segment that is written, and those that were left behind, which it also closes.

    With a pause, a sync follows so long after the first write; without one, at once. `fault` is
    that of a sync that was refused since `failed` was last asked: what was written may not be on
    the disk. `dirty` says that a sync will follow all the same: `written` would change nothing.
    """

    def __init__(self, folder: Path, segment: int, pause_seconds: float) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        self._segment = segment
        self._pause = pause_seconds
        self._waiting: deque[Waiting] = deque()
        self._left: deque[int] = deque()
        self.dirty = False
        self._new_name = True
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._wake.set()  # for the name of the first segment
        self.fault: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def failed(self) -> OSError | None:
        """The fault of a sync, told once."""
        fault, self.fault = self.fault, None
        return fault

    def written(self) -> None:
        """Note that there is something to sync."""
        if not self.dirty:
            self.dirty = True
            self._wake.set()

    def wait(self) -> asyncio.Future[None] | None:
        """A future that is done once all that was written is on the disk.

        Outside of an event loop the disk is waited for here, and the answer is None.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            try:
                os.fdatasync(self._segment)
            except OSError as error:
                raise unsynced(error) from error
            return None
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((loop, done))
        self._wake.set()
        return done

    def turn_to(self, segment: int) -> None:
        """Go on with another segment; the one before is synced and closed."""
        # In this order, so that whoever reads `_segment` first and `_left` after misses neither.
        self._left.append(self._segment)
        self._segment = segment
        self._new_name = True
        self.dirty = True
        self._wake.set()

    def close(self) -> None:
        """Sync all, close all, end the thread. Raises OSError where the disk refuses."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        try:
            self._sync()
        finally:
            os.close(self._segment)
            os.close(self._folder)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            if self._pause:
                self._stopping.wait(self._pause)
            self._wake.clear()
            self.dirty = False
            try:
                self._sync()
            except OSError as error:
                self.fault = error

    def _sync(self) -> None:
        n_waiting = len(self._waiting)
        segment = self._segment
        fault: OSError | None = None
        closed: set[int] = set()
        try:
            while self._left:
                left = self._left.popleft()
                closed.add(left)
                try:
                    os.fdatasync(left)
                finally:
                    os.close(left)
            if segment not in closed:  # else it was left behind a moment ago
                os.fdatasync(segment)
            if self._new_name:
                self._new_name = False
                os.fsync(self._folder)
        except OSError as error:
            fault = error
        _tell([self._waiting.popleft() for _ in range(n_waiting)], fault)
        if fault is not None:
            raise fault


def _tell(waiting: list[Waiting], fault: OSError | None) -> None:
    """Wake those who wait, each in its own loop; a loop that is closed waits no more."""

    def settle(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            if future.done():
                continue
            if fault is None:
                future.set_result(None)
            else:
                future.set_exception(unsynced(fault))

    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for loop, future in waiting:
        loops.setdefault(loop, []).append(future)
    for loop, futures in loops.items():
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, futures)


def unsynced(fault: OSError) -> StoreError:
    """What to say of a disk that does not confirm."""
    return StoreError(
        f"the disk did not confirm what was written to the journal ({fault.strerror}); check the "
        "disk, and free some space if it is full"
    )
