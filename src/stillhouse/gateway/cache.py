"""The exact response cache: a worker's memory of answers, by bytes and by age."""

from __future__ import annotations

from collections import OrderedDict

from stillhouse.flows.house import Remembered

DEFAULT_BYTES = 64 * 2**20


class Cache:
    """Answers by the digest of their request and tenant; the least recently used goes first.

    >>> cache = Cache(most_bytes=1000)
    >>> cache.put(b"k", Remembered(200, [], (b"{}",), "m", "acme", 0), until=10.0)
    >>> cache.get(b"k", now=9.0).pieces, cache.get(b"k", now=10.0)
    ((b'{}',), None)
    """

    def __init__(self, most_bytes: int = DEFAULT_BYTES) -> None:
        self._most, self._size = most_bytes, 0
        self._kept: OrderedDict[bytes, tuple[float, int, Remembered]] = OrderedDict()

    def get(self, key: bytes, now: float) -> Remembered | None:
        """An answer that is not too old."""
        found = self._kept.get(key)
        if found is None:
            return None
        if now >= found[0]:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found[2]

    def put(self, key: bytes, answer: Remembered, until: float) -> None:
        """Keep an answer until an instant; one that is larger than the whole cache is not kept."""
        size = sum(map(len, answer.pieces)) + 512
        if key in self._kept:
            self._drop(key)
        if size > self._most:
            return
        self._kept[key] = (until, size, answer)
        self._size += size
        while self._size > self._most:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        self._size -= self._kept.pop(key)[1]
