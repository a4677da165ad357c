"""The students in memory: loaded when they are first asked, the last used ones kept."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

from stillhouse.core.errors import StoreError
from stillhouse.students.frames import Refused

if TYPE_CHECKING:
    from stillhouse.core.ports import Student

MOST_STUDENTS = 8
RETRY_SECONDS = 2.0
"""How long after a failure a student is asked for again."""


class KeptStudents:
    """Students by digest. A thread loads them, one after the other; nobody waits for it.

    `load` gives an artefact, or raises StoreError; it is called on that thread alone. `loaded` is
    called there after each, whatever came of it. `say` is told in a sentence what went wrong.
    """

    def __init__(
        self,
        load: Callable[[str], bytes],
        loaded: Callable[[], None],
        say: Callable[[str], None] = lambda sentence: None,
        most_students: int = MOST_STUDENTS,
    ) -> None:
        self._load = load
        self._loaded = loaded
        self._say = say
        self._most = most_students
        self._kept: OrderedDict[str, Student] = OrderedDict()
        self._failed: OrderedDict[str, tuple[Refused, float, str]] = OrderedDict()
        self._loading: set[str] = set()
        self._wanted: SimpleQueue[str] = SimpleQueue()
        self._arrived: SimpleQueue[tuple[str, Student | Refused, str]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def find(self, digest: str, at_seconds: float) -> Student | Refused:
        """A student, or why it is not here; one that is not here is sent for."""
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return self._kept[digest]
        failed = self._failed.get(digest)
        if failed is not None and at_seconds < failed[1]:
            return failed[0]
        if digest not in self._loading:
            self._loading.add(digest)
            self._wanted.put(digest)
            self._begin()
        return Refused.LOADING

    def take_in(self, at_seconds: float) -> None:
        """Keep what was loaded meanwhile, and let go what was not used for longest."""
        while not self._arrived.empty():
            digest, found, why = self._arrived.get()
            self._loading.discard(digest)
            if isinstance(found, Refused):
                self._note(digest, found, why, at_seconds)
                continue
            self._failed.pop(digest, None)
            self._kept[digest] = found
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def _note(self, digest: str, found: Refused, why: str, at_seconds: float) -> None:
        """Remember a failure for a while, and tell of it once."""
        known = self._failed.pop(digest, None)
        if known is None or known[2] != why:
            self._say(f"student {digest[:12]} cannot answer: {why}")
        self._failed[digest] = (found, at_seconds + RETRY_SECONDS, why)
        while len(self._failed) > self._most:
            self._failed.popitem(last=False)

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="students", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            digest = self._wanted.get()
            self._arrived.put((digest, *self._fetched(digest)))
            self._loaded()

    def _fetched(self, digest: str) -> tuple[Student | Refused, str]:
        try:
            artefact = self._load(digest)
        except StoreError as missing:
            return Refused.MISSING, str(missing)
        except Exception as broken:  # a driver's bug is no reason for the other students to fall
            return Refused.BROKEN, type(broken).__name__
        try:
            student = _read(artefact)
            student.odds(["a"])  # the first answer takes far longer than those after it
        except Exception as broken:  # damaged artefacts and absent encoders raise many kinds
            return Refused.BROKEN, str(broken) or type(broken).__name__
        gc.freeze()  # what is here now stays: the collector need not walk it again
        return student, ""


def _read(artefact: bytes) -> Student:
    """Read a student whose encoder takes one thread; only now is numpy loaded."""
    from stillhouse.students.encoders import one_thread_encoder
    from stillhouse.students.shelf import read_student

    return read_student(artefact, one_thread_encoder)
