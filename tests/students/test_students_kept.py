from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from stillhouse.core.errors import StoreError
from stillhouse.core.ports import Student
from stillhouse.students.frames import Refused
from stillhouse.students.kept import RETRY_SECONDS, KeptStudents


class Loading:
    """Artefacts of a constant student by any digest, but those that are away."""

    def __init__(self, artefact: bytes) -> None:
        self.artefact = artefact
        self.away: set[str] = set()
        self.asked: list[str] = []
        self.said: list[str] = []
        self._loaded = threading.Semaphore(0)
        self.kept = KeptStudents(self.load, self._loaded.release, self.said.append, 2)

    def load(self, digest: str) -> bytes:
        self.asked.append(digest)
        if digest in self.away:
            raise StoreError(f"{digest} is away")
        return self.artefact

    def find(self, digest: str, at_seconds: float = 0.0) -> Student | Refused:
        """Ask, and once more when it was loaded."""
        found = self.kept.find(digest, at_seconds)
        if found is Refused.LOADING:
            assert self._loaded.acquire(timeout=30)
            self.kept.take_in(at_seconds)
            found = self.kept.find(digest, at_seconds)
        return found


@pytest.fixture
def loading(fit: Callable[..., Student]) -> Loading:
    return Loading(fit("constant").to_bytes())


def test_a_student_is_loaded_once(loading: Loading) -> None:
    first = loading.find("a")
    assert not isinstance(first, Refused)
    assert loading.find("a") is first
    assert loading.asked == ["a"]


def test_one_that_is_being_loaded_is_not_sent_for_again(loading: Loading) -> None:
    assert loading.kept.find("a", 0.0) is Refused.LOADING
    assert not isinstance(loading.find("a"), Refused)
    assert loading.asked == ["a"]


def test_the_last_used_students_are_kept(loading: Loading) -> None:
    for digest in ("a", "b", "a", "c", "a", "b"):
        assert not isinstance(loading.find(digest), Refused)
    assert loading.asked == ["a", "b", "c", "b"]


def test_a_failure_is_remembered_for_a_while_and_then_tried_again(loading: Loading) -> None:
    loading.away.add("a")
    assert loading.find("a") is Refused.MISSING
    assert loading.find("a", RETRY_SECONDS / 2) is Refused.MISSING
    assert loading.asked == ["a"]
    assert loading.find("a", RETRY_SECONDS) is Refused.MISSING
    loading.away.clear()
    assert not isinstance(loading.find("a", 2 * RETRY_SECONDS), Refused)
    assert loading.asked == ["a"] * 3


def test_what_went_wrong_is_said_once(loading: Loading) -> None:
    loading.away.add("a")
    for turn in range(5):
        loading.find("a", turn * RETRY_SECONDS)
    assert loading.said == ["student a cannot answer: a is away"]
