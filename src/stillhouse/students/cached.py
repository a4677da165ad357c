"""An encoder that remembers: each text is encoded once, however often a task is distilled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stillhouse.core.ports import Encoder

CHUNK = 512


class Cache(Protocol):
    """Vectors by encoder and text, as bytes."""

    def get(self, encoder: str, texts: Sequence[str]) -> list[bytes | None]:
        """The vectors that are known, in the order of the texts."""
        ...

    def put(self, encoder: str, texts: Sequence[str], vectors: Sequence[bytes]) -> None:
        """Keep vectors."""
        ...


class CachedEncoder:
    """Asks the cache first; what it lacks is encoded in chunks, kept, and reported as progress.

    Vectors are kept as they are (float32), so a student fitted on cached vectors meets the same
    numbers when it serves. An interruption loses one chunk.
    """

    def __init__(
        self, encoder: Encoder, cache: Cache, progress: Callable[[int, int], None]
    ) -> None:
        """Wrap an encoder; `progress` is told how many of the missing texts are done."""
        self._encoder = encoder
        self._cache = cache
        self._progress = progress

    @property
    def name(self) -> str:
        """The name of the encoder inside."""
        return self._encoder.name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Encode texts into an array of shape [len(texts), dimension]."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        missing: dict[str, list[int]] = {}
        for row, known in enumerate(self._cache.get(self.name, texts)):
            if known is None:
                missing.setdefault(texts[row], []).append(row)
            else:
                vectors[row] = np.frombuffer(known, dtype=np.float32)
        # Alike lengths stand together, so that a chunk makes few batches.
        todo = sorted(missing, key=len)
        for start in range(0, len(todo), CHUNK):
            chunk = todo[start : start + CHUNK]
            encoded = self._encoder.encode(chunk)
            self._cache.put(self.name, chunk, [vector.tobytes() for vector in encoded])
            for text, vector in zip(chunk, encoded, strict=True):
                vectors[missing[text]] = vector
            self._progress(start + len(chunk), len(todo))
        return vectors
