"""What the watch on students reads and writes: booked exchanges, audits to be done, evidence."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillhouse.core.serving import Consultation, Evidence, ShadowCall, Watched
from stillhouse.store.connection import Connection, Database
from stillhouse.store.interning import Interner
from stillhouse.store.reading import ATTEMPT_COLUMNS, EXCHANGE_COLUMNS, Recall
from stillhouse.store.serving_live import number, score_of

MOST_TRIES = 8
"""How often the teacher is asked to audit one answer, before it is given up and counted as such."""

_CONSULTATION = (
    "v.task, v.version, c.label, c.score, c.threshold, c.answerer, c.coin, c.reason, "
    "lower(hex(c.about)), c.voids, c.key_id"
)
_CONSULTED = "consultations c JOIN student_versions v ON v.id = c.student_version"


class ServingWatch:
    """The watch's side of the store; evidence is append-only."""

    _database: Database
    _interner: Interner

    def watched(self, after: int, limit: int) -> list[Watched]:
        """The next booked exchanges behind a place, in the order of their booking.

        Fewer than `limit` where their texts are long: whatever callers send, it is held in memory.
        Exchanges are numbered one transaction after the other, imports included, so none appears
        behind a number that was seen. Attempts that join an exchange later are not told again.
        """
        rows = self._database.rows(
            f"SELECT {EXCHANGE_COLUMNS}, {ATTEMPT_COLUMNS} FROM "
            "(SELECT * FROM exchanges WHERE id > ? ORDER BY id LIMIT ?) e "
            "LEFT JOIN attempts a ON a.exchange = e.id ORDER BY e.id, a.id",
            after,
            limit,
        )
        recall = Recall(self._database)
        found = next(recall.portions(rows, limit), [])
        if not found:
            return []
        consulted = {
            place: (_consultation(facts), about_us)
            for place, about_us, *facts in self._database.rows(
                f"SELECT c.exchange, coalesce(x.at_us, 0), {_CONSULTATION} FROM {_CONSULTED} "
                "LEFT JOIN exchanges x ON x.exchange_id = c.about "
                "WHERE c.exchange > ? AND c.exchange <= ?",
                after,
                found[-1][0][0],
            )
        }
        return [
            Watched(of_one[0][0], recall.exchange(of_one), *consulted.get(of_one[0][0], (None, 0)))
            for of_one in found
        ]

    def newest(self) -> int:
        """The number of the exchange that was booked last; 0 where there is none."""
        for (newest,) in self._database.rows("SELECT coalesce(max(id), 0) FROM exchanges"):
            return int(newest)
        return 0

    def watch_place(self, name: str) -> int:
        """The number of the last exchange that a watch has looked at; 0 for none."""
        for (place,) in self._database.rows("SELECT place FROM watch_places WHERE name = ?", name):
            return int(place)
        return 0

    def keep_watch(
        self,
        name: str,
        place: int,
        evidence: Mapping[tuple[str, int], Sequence[Evidence]],
        rows: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        """Keep what a watch found up to a place, and the place, in one transaction.

        `evidence` is by task and version; the row of an exchange that a version has already is not
        kept again. `rows` of (exchange_id, task, text) join those of the tasks that are known, and
        change none that is there.
        """
        try:
            with self._database.transaction() as connection:
                connection.executemany(
                    _EVIDENCE,
                    [
                        _evidence_row(self._interner.student_version(*version), row)
                        for version, found in evidence.items()
                        for row in found
                    ],
                )
                connection.executemany(
                    _TASK_ROW,
                    [(text, bytes.fromhex(exchange), task) for exchange, task, text in rows],
                )
                connection.execute(
                    "INSERT INTO watch_places VALUES (?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET place = excluded.place",
                    (name, place),
                )
        except BaseException:
            self._interner.forget()
            raise

    def evidence(self, task: str, version: int, after: int = 0) -> Iterator[Evidence]:
        """The audited rows of a version behind a number, in the order of their stream."""
        for exchange, at_us, score, label, taught, served, place in self._database.rows(
            "SELECT lower(hex(exchange_id)), at_us, score, label, taught, served, evidence.id "
            "FROM evidence JOIN student_versions v ON v.id = student_version "
            "WHERE task = ? AND version = ? AND evidence.id > ? ORDER BY evidence.id",
            task,
            version,
            after,
        ):
            yield Evidence(exchange, at_us, score_of(score), label, taught, bool(served), place)

    def waiting_shadows(self, limit: int, now_us: int) -> list[ShadowCall]:
        """The oldest audits that are still to be done and may be tried now."""
        return [
            ShadowCall(exchange, at_us or 0, wire, model, body, _consultation(facts), tries, tag)
            for exchange, at_us, wire, model, body, tries, tag, *facts in self._database.rows(
                f"SELECT lower(hex(e.exchange_id)), e.at_us, s.wire, s.model, s.body, s.tries, "
                f"t.task, {_CONSULTATION} FROM {_CONSULTED} "
                "JOIN shadow_calls s ON s.exchange = c.exchange "
                "JOIN exchanges e ON e.id = s.exchange JOIN tag_sets t ON t.id = e.tag_set "
                "WHERE s.not_before_us <= ? ORDER BY s.exchange LIMIT ?",
                now_us,
                limit,
            )
        ]

    def shadow_done(self, exchange_id: str) -> None:
        """An answer was audited: its body is forgotten."""
        with self._database.transaction() as connection:
            _let_go(connection, exchange_id, "done")

    def shadow_refused(self, exchange_id: str) -> None:
        """An answer will never be audited: its body is forgotten."""
        with self._database.transaction() as connection:
            _let_go(connection, exchange_id, "given_up")

    def shadow_failed(self, exchange_id: str, again_us: int) -> bool:
        """Count a try, and wait until an instant; False where there is none to be made any more.

        After `MOST_TRIES` an audit is given up, and its body forgotten. Told before the teacher is
        asked, a process that dies meanwhile has used up its try.
        """
        with self._database.transaction() as connection:
            found = connection.execute(
                "UPDATE shadow_calls SET tries = tries + 1, not_before_us = ? "
                f"WHERE exchange = {_PLACE} RETURNING tries",
                (again_us, bytes.fromhex(exchange_id)),
            ).fetchone()
            again = found is not None and found[0] <= MOST_TRIES
            if not again:
                _let_go(connection, exchange_id, "given_up")
            return again

    def shadow_later(self, exchange_id: str, again_us: int, spared: int = 0) -> None:
        """Wait until an instant, without counting a try; `spared` were counted and not made."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE shadow_calls SET not_before_us = ?, tries = tries - ? "
                f"WHERE exchange = {_PLACE}",
                (again_us, spared, bytes.fromhex(exchange_id)),
            )

    def shadows_waiting(self) -> tuple[int, int]:
        """How many audits are still to be done, and the time of the oldest request; 0 for none."""
        ((count, oldest_us),) = self._database.rows(
            "SELECT count(*), coalesce(min(at_us), 0) FROM shadow_calls "
            "JOIN exchanges e ON e.id = exchange"
        )
        return count, oldest_us


def _let_go(connection: Connection, exchange_id: str, how: str) -> None:
    """Forget an audit, and count it; one that is gone already is not counted again."""
    gone = connection.execute(
        f"DELETE FROM shadow_calls WHERE exchange = {_PLACE} RETURNING exchange",
        (bytes.fromhex(exchange_id),),
    ).fetchone()
    if gone is not None:
        connection.execute(_TALLY, (how == "done", how == "given_up", gone[0]))


def _consultation(facts: Sequence[Any]) -> Consultation:
    task, version, label, score, threshold, answerer, coin, reason, about, voids, key = facts
    return Consultation(
        task,
        version,
        label,
        score_of(score),
        score_of(threshold),
        answerer,
        bool(coin),
        reason,
        about or "",
        voids,
        key,
    )


def _evidence_row(version: int, row: Evidence) -> tuple[Any, ...]:
    return (
        version,
        bytes.fromhex(row.exchange_id),
        row.at_us,
        number(row.score),
        row.label,
        row.taught,
        row.served,
    )


_PLACE = "(SELECT id FROM exchanges WHERE exchange_id = ?)"
_EVIDENCE = """
INSERT INTO evidence (student_version, exchange_id, at_us, score, label, taught, served)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (student_version, exchange_id) DO NOTHING
"""
_TASK_ROW = """
INSERT INTO task_rows (exchange, task, slot)
SELECT e.id, t.id, ? FROM exchanges e, tasks t WHERE e.exchange_id = ? AND t.name = ?
ON CONFLICT (exchange) DO NOTHING
"""
_TALLY = """
INSERT INTO shadow_tallies (student_version, done, given_up)
SELECT student_version, ?, ? FROM consultations WHERE exchange = ?
ON CONFLICT (student_version) DO UPDATE SET
    done = shadow_tallies.done + excluded.done,
    given_up = shadow_tallies.given_up + excluded.given_up
"""
