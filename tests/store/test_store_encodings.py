from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stillhouse.core.errors import StoreError
from stillhouse.store.encodings import Encodings


def test_vectors_come_back_byte_for_byte_and_in_order(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(1200)]
    vectors = np.random.default_rng(3).normal(size=(1200, 8)).astype(np.float16)
    with Encodings(tmp_path / "some.db") as cache:
        cache.put("encoder 1", texts, [row.tobytes() for row in vectors])
        assert cache.get("encoder 1", ["new", "text 7", "text 7"]) == [
            None,
            vectors[7].tobytes(),
            vectors[7].tobytes(),
        ]
    with Encodings(tmp_path / "some.db") as cache:
        assert cache.get("encoder 1", texts) == [row.tobytes() for row in vectors]
        assert cache.get("encoder 2", texts[:1]) == [None]


def test_a_vector_that_is_kept_stays(tmp_path: Path) -> None:
    with Encodings(tmp_path / "some.db") as cache:
        cache.put("e", ["a", "a"], [b"first", b"second"])
        cache.put("e", ["a"], [b"third"])
        assert cache.get("e", ["a"]) == [b"first"]


def test_texts_without_a_vector_each_are_refused_whole(tmp_path: Path) -> None:
    with Encodings(tmp_path / "some.db") as cache:
        with pytest.raises(ValueError, match="shorter"):
            cache.put("e", ["a", "b"], [b"one"])
        assert cache.get("e", ["a"]) == [None]


def test_the_cache_lies_beside_the_database_and_may_be_deleted(tmp_path: Path) -> None:
    with Encodings(tmp_path / "some.db") as cache:
        cache.put("e", ["a"], [b"one"])
    assert [path.name for path in tmp_path.iterdir()] == ["some.db.encodings"]
    (tmp_path / "some.db.encodings").unlink()
    with Encodings(tmp_path / "some.db") as cache:
        assert cache.get("e", ["a"]) == [None]


def test_a_cache_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "some.db.encodings").write_text("no vectors here" * 100)
    with pytest.raises(StoreError, match=r"some\.db\.encodings is not a database"):
        Encodings(tmp_path / "some.db")
