"""The process of the students on the books of an endpoint."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from stillhouse.core.learning import Row, TrainSet
from stillhouse.core.serving import Answered
from stillhouse.settings.nouns import Books, Journaling, Settings
from stillhouse.settings.reading import pack
from stillhouse.store.opening import open_store
from stillhouse.students.asking import Asking
from stillhouse.students.constant import ConstantRecipe
from stillhouse.wiring.answering import socket_of

PROCESS = """
import sys
from stillhouse.wiring.answering import answer
answer(sys.stdin.buffer.read(), lambda seconds: False)
"""


@contextmanager
def at_work(settings: Settings) -> Iterator[None]:
    """The process, killed in the end."""
    words = [sys.executable, "-c", PROCESS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(pack(settings))
        process.stdin.close()
        try:
            yield
        finally:
            process.kill()


def asked(settings: Settings, student: str, seconds: float = 60.0) -> Answered | None:
    """Ask once it is there; None where the student stays away."""

    async def story() -> Answered | None:
        asking = Asking(socket_of(settings))
        until = time.monotonic() + seconds
        while asking._line is None:
            assert time.monotonic() < until, "the process cannot be reached"
            await asking.ask_many(student, [])
            await asyncio.sleep(0.02)
        said = await asking.ask_many(student, ["where is my card"])
        asking.close()
        return said[0] if said else None

    return asyncio.run(story())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    journal = replace(Journaling(), folder=str(tmp_path / "journal"))
    return Settings(books=Books(database=str(tmp_path / "books.db")), journal=journal)


def kept(settings: Settings) -> str:
    """Put a student into the books; its digest."""
    rows = TrainSet((Row("r0", "a", "card", 0, 0), Row("r1", "b", "card", 1, 1)))
    labels, recipe = ("card", "refund"), ConstantRecipe()
    student = recipe.fit(rows, labels, 0, recipe.rehearse(rows, rows, labels, 0, {}), {})
    with open_store(settings.books.database) as store:
        return store.put_artefact(student.to_bytes())


def test_a_student_of_the_books_answers_and_goes_on_without_them(settings: Settings) -> None:
    digest = kept(settings)
    with at_work(settings):
        first = asked(settings, digest)
        Path(settings.books.database).rename(f"{settings.books.database}.away")
        again = asked(settings, digest)
    with at_work(settings):
        later = asked(settings, digest)
    assert first is not None
    assert first.prediction.label == "card"
    assert first == again == later


def test_a_database_that_comes_later_is_found_then(settings: Settings) -> None:
    digest = kept(settings)
    away = f"{settings.books.database}.away"
    Path(settings.books.database).rename(away)
    with at_work(settings):
        assert asked(settings, digest) is None
        Path(away).rename(settings.books.database)
        until = time.monotonic() + 60
        while asked(settings, digest) is None:
            assert time.monotonic() < until, "the student stays away"
            time.sleep(0.1)
