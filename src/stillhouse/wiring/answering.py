"""What stands behind the process of the students: artefacts out of the books, whatever befalls."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from stillhouse.settings.nouns import Settings
from stillhouse.settings.reading import unpack
from stillhouse.settings.starting import database_of
from stillhouse.store.opening import existing_store
from stillhouse.store.remembered_artefacts import RememberedArtefacts
from stillhouse.students import frames
from stillhouse.students.answering import serve

ARTEFACTS = "students"
"""The folder of artefacts in the folder of the journal."""

_ONE_THREAD = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
_SWITCH_SECONDS = 0.0005


def answer(payload: bytes, ended: Callable[[float], bool]) -> None:
    """Let students answer until `ended` says so; see students.answering."""
    for library in _ONE_THREAD:  # read when numpy is loaded, at the first demand for a student
        os.environ[f"{library}_NUM_THREADS"] = "1"
    sys.setswitchinterval(_SWITCH_SECONDS)  # a student that is loaded lets the others answer
    settings = unpack(payload)
    folder = Path(settings.journal.folder)
    database = database_of(settings, os.environ)

    def fetch(digest: str) -> bytes:
        """Once for each student, so the books are opened for it: they may have been away."""
        with existing_store(database) as store:
            return store.get_artefact(digest)

    artefacts = RememberedArtefacts(fetch, folder / ARTEFACTS)
    serve(socket_of(settings), artefacts.get, ended, _say)


def socket_of(settings: Settings) -> Path:
    """Where the students of an endpoint are asked."""
    return Path(settings.journal.folder) / frames.FILE


def _say(sentence: str) -> None:
    print(f"stillhouse: {sentence}", file=sys.stderr, flush=True)
