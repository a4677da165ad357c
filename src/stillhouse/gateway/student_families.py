"""What is counted of students at work, and under which names Prometheus sees it."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from stillhouse.core.learning import Answerer
from stillhouse.core.serving import Consultation
from stillhouse.flows.certificates import Holding
from stillhouse.gateway.exposition import Family, Histogram, Labels

STUDENT_BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper bounds of how long a student was waited for, in seconds."""

MOST_ROWS = 1024
OTHER = "other"
UNAVAILABLE = "unavailable"
STATUS_FILE = "students.json"
_REASONS = {
    "below threshold": "below_threshold",
    "the student gave no answer": UNAVAILABLE,
    "the caller wants no student": "forbidden",
    "not in the canary": "canary",
    "another model": "another_model",
    "another prompt": "another_prompt",
    "its certificate is void": "void",
    "longer than": "too_long",
    "carries images": "images",
    "carries tools": "tools",
    "written in": "script",
    "the version": "idle",
}
"""How the reasons begin that consultations are journalled with, and what they are counted as."""


class StudentRow(msgspec.Struct):
    """All that is counted of requests that came to a version's desk and ended alike.

    `seconds` are those of requests about which the student was asked.
    """

    task: str
    version: str
    outcome: str
    reason: str
    requests: int = 0
    audited: int = 0
    seconds: list[int] = msgspec.field(default_factory=lambda: [0] * (len(STUDENT_BOUNDS) + 1))
    seconds_total: float = 0.0


class StudentStatus(msgspec.Struct):
    """How a version stands, as the watch leaves it for those who scrape."""

    task: str
    version: int
    mode: str
    shadows_waiting: int = 0
    audited: int = 0
    agreed: int = 0
    alarm_share: float | None = None


class StudentCounts:
    """Counts consultations, in rows that are bounded: no caller can fill the memory."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str, str], StudentRow] = {}

    @property
    def rows(self) -> list[StudentRow]:
        """What was counted so far."""
        return list(self._rows.values())

    def done(self, note: Consultation, seconds: float) -> None:
        """Count a request that a student had to do with, and for how long it was waited for."""
        outcome, reason = outcome_of(note)
        key = (note.task, str(note.version), outcome, reason)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= MOST_ROWS:
                key = (OTHER, "", outcome, reason)
            row = self._rows.setdefault(key, StudentRow(*key))
        row.requests += 1
        row.audited += note.coin
        if note.label or reason == UNAVAILABLE:
            row.seconds[bisect_left(STUDENT_BOUNDS, seconds)] += 1
            row.seconds_total += seconds


def outcome_of(note: Consultation) -> tuple[str, str]:
    """Who answered, and why the teacher did, in words of which there are few.

    >>> note = Consultation("t", 1, "a", 0.4, 0.9, "teacher", False, "below threshold")
    >>> outcome_of(note), outcome_of(note._replace(reason="written in cyrillic"))
    (('deferred', 'below_threshold'), ('deferred', 'script'))
    """
    if note.answerer == Answerer.STUDENT:
        return ("bridged", "") if note.reason.startswith("bridging") else ("accepted", "")
    for beginning, word in _REASONS.items():
        if note.reason.startswith(beginning):
            return "deferred", word
    return "deferred", OTHER


def student_families(rows: Iterable[StudentRow]) -> Iterator[Family]:
    """Sum what the workers have counted into families, each series once."""
    counted: dict[str, dict[Labels, int]] = {name: {} for name in _COUNTERS}
    seconds: dict[Labels, Histogram] = {}
    for row in rows:
        version: Labels = (("task", row.task), ("version", row.version))
        for name, labels, amount in _amounts(row, version):
            counted[name][labels] = counted[name].get(labels, 0) + amount
        before = seconds.get(version, Histogram([0] * len(row.seconds), 0.0))
        counts = [a + b for a, b in zip(before.counts, row.seconds, strict=True)]
        seconds[version] = Histogram(counts, before.total + row.seconds_total)
    for name, told in _COUNTERS.items():
        yield Family(name, "counter", told, counted[name])
    yield Family(
        *("stillhouse_student_seconds", "histogram"),
        "How long a student was waited for, answers that came too late included.",
        seconds,
        STUDENT_BOUNDS,
    )


_COUNTERS = {
    "stillhouse_student_consulted_total": "Requests of a task with a student.",
    "stillhouse_student_accepted_total": "Requests that the student answered.",
    "stillhouse_student_bridged_total": "Answered uncertified, while the teacher failed.",
    "stillhouse_student_deferred_total": "Requests left to the teacher, by reason.",
    "stillhouse_student_unavailable_total": "Times that a student gave no answer in time.",
    "stillhouse_student_audited_total": "Requests that the coin has picked for an audit.",
}


def _amounts(row: StudentRow, version: Labels) -> Iterator[tuple[str, Labels, int]]:
    yield "stillhouse_student_consulted_total", version, row.requests
    if row.audited:
        yield "stillhouse_student_audited_total", version, row.audited
    if row.outcome == "deferred":
        reason = (*version, ("reason", row.reason))
        yield "stillhouse_student_deferred_total", reason, row.requests
        if row.reason == UNAVAILABLE:
            yield "stillhouse_student_unavailable_total", version, row.requests
    else:
        yield f"stillhouse_student_{row.outcome}_total", version, row.requests


def statuses(found: Iterable[Holding]) -> list[StudentStatus]:
    """How versions stand, for `write_status`; those that stand nowhere are left out."""
    return [
        StudentStatus(
            one.promise.task,
            one.promise.version,
            one.standing.mode.value,
            one.figures.shadows_waiting if one.figures else 0,
            one.audited,
            one.agreed,
            one.alarm_share,
        )
        for one in found
        if one.standing is not None
    ]


def write_status(folder: Path, rows: Sequence[StudentStatus]) -> None:
    """Leave how versions stand where the workers find it; a full disk costs the figures alone."""
    new = folder / f".{STATUS_FILE}.{os.getpid()}"
    with suppress(OSError):
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(msgspec.json.encode(rows))
        new.replace(folder / STATUS_FILE)


Reading = Callable[[], Mapping[Labels, float]]


def student_gauges(
    folder: Path, now: Callable[[], float] = time.time
) -> list[tuple[str, str, Reading]]:
    """Names, help and readings of what the watch has left in the folder of the journal."""
    told = {
        "mode": "1 for the mode that a version stands in.",
        "alarm_share": "How far the watch on drift is on its way to an alarm: 1 is one.",
        "agreement": "Share of the audited answers that were the teacher's too.",
        "shadows_waiting": "Audits that are still to be asked of the teacher.",
        "status_age_seconds": "How old these figures are.",
    }
    return [
        (f"stillhouse_student_{figure}", text, partial(_figure, folder / STATUS_FILE, figure, now))
        for figure, text in told.items()
    ]


def _figure(status: Path, figure: str, now: Callable[[], float]) -> Mapping[Labels, float]:
    if figure == "status_age_seconds":
        return {(): now() - status.stat().st_mtime}
    found: dict[Labels, float] = {}
    for row in msgspec.json.decode(status.read_bytes(), type=list[StudentStatus])[:MOST_ROWS]:
        version: Labels = (("task", row.task), ("version", str(row.version)))
        if figure == "mode":
            found[(*version, ("mode", row.mode))] = 1.0
        elif figure == "shadows_waiting":
            found[version] = float(row.shadows_waiting)
        elif figure == "agreement" and row.audited:
            found[version] = row.agreed / row.audited
        elif figure == "alarm_share" and row.alarm_share is not None:
            found[version] = row.alarm_share
    return found
