"""Puts work off to a thread of its own, in batches, so that no request waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Backlog(Generic[Item]):
    """Hands what was put to `work` every `every_seconds`; where it falls behind, drops and counts.

    `put` costs less than a microsecond and never waits: when `most` items wait, the new one is
    dropped. A batch whose work fails is counted in `failed` and lost. The thread begins with the
    first item, so that a process may fork before it.

    >>> seen = []
    >>> backlog = Backlog(seen.extend, "example")
    >>> backlog.put("a"); backlog.put("b"); backlog.close()
    >>> seen
    ['a', 'b']
    """

    def __init__(
        self,
        work: Callable[[list[Item]], None],
        name: str,
        every_seconds: float = 1.0,
        most: int = 8192,
    ) -> None:
        self.dropped = self.failed = 0
        self._work, self._name, self._every, self._most = work, name, every_seconds, most
        self._items: deque[Item] = deque()
        self._thread: Thread | None = None
        self._ending, self._working = Event(), Lock()

    def put(self, item: Item) -> None:
        """Leave an item to the thread."""
        if len(self._items) >= self._most:
            self.dropped += 1
            return
        self._items.append(item)
        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Do what waits now, in the caller's thread."""
        with self._working:
            batch = []
            while self._items:
                batch.append(self._items.popleft())
            if batch:
                try:
                    self._work(batch)
                except Exception:  # whatever it is, requests go on
                    self.failed += len(batch)

    def close(self, seconds: float = 5.0) -> None:
        """Do what waits and end the thread; gives up waiting for it after `seconds`."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                return
        self.flush()

    def _run(self) -> None:
        while not self._ending.wait(self._every):
            self.flush()
        self.flush()
