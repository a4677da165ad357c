from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from stillhouse.students.cached import CHUNK, CachedEncoder
from stillhouse.testing import check_encoder

Vectors = npt.NDArray[np.float32]


class ScriptedEncoder:
    """Sums the bytes of a text; remembers what it was asked."""

    name, dimension = "scripted", 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        sums = [(len(text), sum(text.encode()) % 1009) for text in texts]
        return np.array(sums, dtype=np.float32).reshape(len(texts), 2)


class Shelf:
    """A cache in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}

    def get(self, encoder: str, texts: Sequence[str]) -> list[bytes | None]:
        return [self.kept.get((encoder, text)) for text in texts]

    def put(self, encoder: str, texts: Sequence[str], vectors: Sequence[bytes]) -> None:
        self.kept |= {(encoder, t): v for t, v in zip(texts, vectors, strict=True)}


def silent(done: int, todo: int) -> None:
    """Take progress and say nothing."""


def test_a_cached_encoder_conforms_with_a_cold_and_a_warm_cache() -> None:
    shelf = Shelf()
    check_encoder(lambda: CachedEncoder(ScriptedEncoder(), shelf, silent))
    check_encoder(lambda: CachedEncoder(ScriptedEncoder(), shelf, silent))


def test_each_text_is_encoded_once_however_often_it_is_asked() -> None:
    inside = ScriptedEncoder()
    cached = CachedEncoder(inside, Shelf(), silent)
    first = cached.encode(["one", "three", "one"])
    again = cached.encode(["three", "two", "one"])
    assert sorted(inside.asked) == ["one", "three", "two"]
    assert np.array_equal(first[[1, 0]], again[[0, 2]])
    assert np.array_equal(first[0], first[2])
    assert np.array_equal(again, ScriptedEncoder().encode(["three", "two", "one"]))


def test_finished_chunks_are_kept_when_the_encoder_is_interrupted() -> None:
    class Interrupted(ScriptedEncoder):
        def encode(self, texts: Sequence[str]) -> Vectors:
            if self.asked:
                raise KeyboardInterrupt
            return super().encode(texts)

    shelf = Shelf()
    texts = [f"text {n}" for n in range(CHUNK + 10)]
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(Interrupted(), shelf, silent).encode(texts)
    assert len(shelf.kept) == CHUNK
    later = ScriptedEncoder()
    CachedEncoder(later, shelf, silent).encode(texts)
    assert len(later.asked) == 10


def test_progress_counts_the_texts_that_were_missing() -> None:
    told: list[tuple[int, int]] = []
    cached = CachedEncoder(ScriptedEncoder(), Shelf(), lambda *now: told.append(now))
    cached.encode([f"text {n}" for n in range(CHUNK + 1)])
    cached.encode(["text 0"])
    assert told == [(CHUNK, CHUNK + 1), (CHUNK + 1, CHUNK + 1)]


def test_two_encoders_do_not_share_vectors() -> None:
    class Other(ScriptedEncoder):
        name = "other"

    shelf = Shelf()
    CachedEncoder(ScriptedEncoder(), shelf, silent).encode(["a"])
    other = Other()
    CachedEncoder(other, shelf, silent).encode(["a"])
    assert other.asked == ["a"]
