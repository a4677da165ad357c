"""Students at work: what each may be asked, what it did so far, what is still to be told."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from typing import NamedTuple

import msgspec
import orjson

from stillhouse.core.errors import StoreError
from stillhouse.core.learning import Answerer
from stillhouse.core.serving import Charter, Notice
from stillhouse.store.connection import Database
from stillhouse.store.serving_watch import ServingWatch

_HALF = 2**31


class ServingFigures(NamedTuple):
    """What a version did so far.

    `consulted` counts the callers' requests that it was asked about, `accepted` those that it
    answered, `heads` those that the coin picked for an audit. Of the audits of its own answers
    `shadows_done` have the teacher's answer, `shadows_waiting` are still to be asked, and
    `shadows_given_up` never got one. `avoided_pico` is what its answers would have cost, and
    `shadow_pico` what the audits cost, of which `shadow_unpriced` calls have a part without price.
    """

    version: int
    consulted: int = 0
    accepted: int = 0
    heads: int = 0
    shadows_done: int = 0
    shadows_waiting: int = 0
    shadows_given_up: int = 0
    avoided_pico: int = 0
    shadow_pico: int = 0
    shadow_unpriced: int = 0


class ServingRecords(ServingWatch):
    """Charters, figures, notices; charters are append-only."""

    _database: Database

    def put_charter(self, charter: Charter) -> None:
        """Keep what a version may be asked; StoreError where another charter of it is here."""
        body = orjson.dumps(charter, default=dict, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO charters VALUES (?, ?, ?) ON CONFLICT (task, version) DO NOTHING",
                (charter.task, charter.version, body),
            )
            ((kept,),) = connection.execute(
                "SELECT charter FROM charters WHERE task = ? AND version = ?",
                (charter.task, charter.version),
            )
            if kept != body:
                raise StoreError(
                    f"version {charter.version} of {charter.task} has another charter already, and "
                    "a charter is never changed; use the next version"
                )

    def charter(self, task: str, version: int) -> Charter | None:
        """What a version may be asked; None where it has no charter."""
        for (body,) in self._database.rows(
            "SELECT charter FROM charters WHERE task = ? AND version = ?", task, version
        ):
            return _charter(body)
        return None

    def charters(self) -> tuple[Charter, ...]:
        """Every charter, by task and version."""
        rows = self._database.rows("SELECT charter FROM charters ORDER BY task, version")
        return tuple(_charter(body) for (body,) in rows)

    def serving_figures(self, task: str) -> tuple[ServingFigures, ...]:
        """What each version of a task did so far, in order; one never asked is not among them."""
        found: dict[int, ServingFigures] = {}

        def add(version: int, **figures: int) -> None:
            found[version] = found.get(version, ServingFigures(version))._replace(**figures)

        for version, consulted, accepted, heads, waiting in self._database.rows(
            _CONSULTED, Answerer.STUDENT.value, task
        ):
            add(
                version,
                consulted=consulted,
                accepted=accepted,
                heads=heads,
                shadows_waiting=waiting,
            )
        for version, done, given_up in self._database.rows(_AUDITED, task):
            add(version, shadows_done=done, shadows_given_up=given_up)
        for version, high, low in self._database.rows(_AVOIDED, task):
            add(version, avoided_pico=high * _HALF + low)
        for version, high, low, unpriced in self._database.rows(_SHADOW_COST, task):
            add(version, shadow_pico=high * _HALF + low, shadow_unpriced=unpriced)
        return tuple(found[version] for version in sorted(found))

    def add_notice(self, notice: Notice) -> None:
        """Keep something that is to be told; one whose id is here changes nothing."""
        facts = orjson.dumps(dict(notice.facts), option=orjson.OPT_SERIALIZE_NUMPY).decode()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO notices (notice_id, kind, task, version, sentence, at_us, facts, "
                "tries, not_before_us) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0) "
                "ON CONFLICT (notice_id) DO NOTHING",
                (*notice[:6], facts),
            )

    def undelivered(self, limit: int, now_us: int) -> list[Notice]:
        """The oldest notices that nobody has taken and that may be tried now."""
        return [
            Notice._make((*told, orjson.loads(facts)))
            for *told, facts in self._database.rows(
                "SELECT notice_id, kind, task, version, sentence, at_us, facts FROM notices "
                "WHERE delivered_us IS NULL AND not_before_us <= ? ORDER BY id LIMIT ?",
                now_us,
                limit,
            )
        ]

    def notice_delivered(self, notice_id: str, at_us: int) -> None:
        """A notice was taken: it is not told again."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE notices SET delivered_us = ? WHERE notice_id = ? AND delivered_us IS NULL",
                (at_us, notice_id),
            )

    def notice_failed(self, notice_id: str, again_us: int) -> None:
        """A notice was not taken: it may be tried again at an instant."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE notices SET tries = tries + 1, not_before_us = ? WHERE notice_id = ?",
                (again_us, notice_id),
            )


def _charter(body: str) -> Charter:
    return msgspec.json.decode(body, type=Charter)


def _exact(column: str) -> str:
    """Two sums that make one: a sum of 64-bit integers alone overflows at nine million USD."""
    return f"coalesce(sum({column} / {_HALF}), 0), coalesce(sum({column} % {_HALF}), 0)"


_OF_VERSION = "FROM student_versions v JOIN consultations c ON c.student_version = v.id"

_CONSULTED = f"""
SELECT v.version, count(*), sum(iif(c.answerer = ?, 1, 0)), sum(c.coin), count(s.exchange)
{_OF_VERSION} LEFT JOIN shadow_calls s ON s.exchange = c.exchange
WHERE v.task = ? AND c.about IS NULL GROUP BY v.version
"""
_AUDITED = """
SELECT v.version, done, given_up
FROM student_versions v JOIN shadow_tallies ON student_version = v.id WHERE v.task = ?
"""
_AVOIDED = f"""
SELECT v.version, {_exact("s.avoided_pico")}
{_OF_VERSION} JOIN attempts a ON a.exchange = c.exchange JOIN savings s ON s.attempt = a.id
WHERE v.task = ? AND c.about IS NULL GROUP BY v.version
"""
_SHADOW_COST = f"""
SELECT version, {_exact("billed")}, sum(unpriced)
FROM (
    SELECT v.version AS version, CAST(coalesce(sum(h.billed_pico), 0) AS INTEGER) AS billed,
        max(iif(h.billed_pico IS NULL, 1, 0)) AS unpriced
    {_OF_VERSION} JOIN attempts a ON a.exchange = c.exchange JOIN charges h ON h.attempt = a.id
    WHERE v.task = ? AND c.about IS NOT NULL GROUP BY v.version, a.id
) audits GROUP BY version
"""
