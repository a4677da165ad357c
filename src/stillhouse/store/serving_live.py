"""What students were asked, written with the exchange that it belongs to: once, or not at all."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import orjson

from stillhouse.core.calls import Ended, Started
from stillhouse.core.learning import Answerer
from stillhouse.core.serving import Consultation
from stillhouse.store.connection import Connection
from stillhouse.store.interning import HOLES, Interner, chunks

Pair = tuple[Started, Ended]


def add_consultations(
    connection: Connection, interner: Interner, pairs: Sequence[Pair], rows: Mapping[str, int]
) -> None:
    """Keep what students were asked with new attempts, and whose answers are to be audited.

    `rows` are the row numbers of the attempts. An exchange has one consultation: of several that
    come together the last, which says who answered in the end; none once one is kept.
    """
    told = {
        rows[ended.attempt.attempt_id]: started
        for started, ended in pairs
        if started.consultation is not None
    }
    if not told:
        return
    bodies = {started.exchange_id: started for started, _ in reversed(pairs) if started.asked}
    consultations: dict[int, tuple[Any, ...]] = {}
    shadow_calls: list[tuple[Any, ...]] = []
    for attempt, exchange in _exchanges(connection, sorted(told, reverse=True)):
        started = told[attempt]
        consultation = started.consultation
        if consultation is None or exchange in consultations:
            continue
        consultations[exchange] = _row(exchange, interner, consultation)
        body, model = _whole_body(bodies.get(started.exchange_id))
        if model and _audited(consultation):
            shadow_calls.append((exchange, 0, 0, started.wire, model, body))
    if consultations:
        connection.executemany(
            f"INSERT INTO consultations VALUES ({', '.join('?' * 11)})", consultations.values()
        )
    if shadow_calls:
        connection.executemany("INSERT INTO shadow_calls VALUES (?, ?, ?, ?, ?, ?)", shadow_calls)


def _exchanges(connection: Connection, attempts: list[int]) -> list[tuple[int, int]]:
    """Attempts with their exchanges, the last first, but for exchanges that have a consultation."""
    return [
        found
        for some in chunks(attempts)
        for found in connection.execute(
            f"SELECT id, exchange FROM attempts WHERE id IN {HOLES} AND NOT EXISTS "
            "(SELECT 1 FROM consultations c WHERE c.exchange = attempts.exchange) ORDER BY id DESC",
            some,
        ).fetchall()
    ]


def _row(exchange: int, interner: Interner, consultation: Consultation) -> tuple[Any, ...]:
    task, version, label, score, threshold, answerer, coin, reason, about, voids, key = consultation
    return (
        exchange,
        interner.student_version(task, version),
        label,
        number(score),
        number(threshold),
        answerer,
        coin,
        reason,
        bytes.fromhex(about) if about else None,
        voids,
        key,
    )


def number(score: float) -> float | None:
    """A score as it is kept: what is no number is NULL, in both databases."""
    return None if isnan(score) else score


def score_of(kept: float | None) -> float:
    """A score as it was: NaN for NULL, which no threshold accepts."""
    return float("nan") if kept is None else kept


def _audited(consultation: Consultation) -> bool:
    """Whether the teacher is asked afterwards: by the coin alone, never about an audit itself."""
    by_student = consultation.answerer == Answerer.STUDENT
    return by_student and consultation.coin and not consultation.about


def _whole_body(started: Started | None) -> tuple[bytes, str]:
    """The caller's body and the model that it names; no model where it was not kept whole.

    A body that was redacted or hashed would be another question.
    """
    if started is None:
        return b"", ""
    body = started.asked.encode()
    if len(body) != started.asked_bytes:
        return b"", ""
    try:
        model = orjson.loads(body)["model"]
    except (ValueError, KeyError, TypeError):
        return b"", ""
    return body, model if isinstance(model, str) else ""
