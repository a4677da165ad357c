"""Sums of the books, grouped: what a spend report is laid out from."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import LEAVES, Evidence
from stillhouse.store.connection import Database

_GRADES = tuple(Evidence)
_DAY_US = 86_400_000_000
_HALF = 2**31


class SpendGroup(NamedTuple):
    """The books of one group, field for field what `ledger.report.SpendSum` takes.

    A request here is one attempt. It is priced when all its charges are; `billed_pico` sums the
    priced ones. Several groups may carry the same key: the report joins them.
    """

    key: str
    n_requests: int
    n_unpriced: int
    billed_pico: int
    n_reported: int
    reported_pico: int
    tokens: dict[str, int]
    unpriced_tokens: int
    evidence: Evidence
    n_both: int
    both_billed_pico: int
    both_reported_pico: int


def _exact(column: str, condition: str) -> str:
    """Two sums that make one: a sum of 64-bit integers alone overflows at nine million USD."""
    return (
        f"coalesce(sum({column} / {_HALF}) FILTER (WHERE {condition}), 0), "
        f"coalesce(sum({column} % {_HALF}) FILTER (WHERE {condition}), 0)"
    )


_SUMS = ", ".join(
    [
        "count(*), sum(unpriced)",
        _exact("billed", "unpriced = 0"),
        "count(reported_pico)",
        _exact("reported_pico", "TRUE"),
        "sum(unpriced_tokens), max(grade)",
        "count(*) FILTER (WHERE unpriced = 0 AND reported_pico IS NOT NULL)",
        _exact("billed", "unpriced = 0 AND reported_pico IS NOT NULL"),
        _exact("reported_pico", "unpriced = 0"),
        *(f"coalesce(sum({leaf}), 0)" for leaf in LEAVES),
    ]
)

_CHARGED = f"""
    SELECT attempt, CAST(sum(billed_pico) AS INTEGER) AS billed,
        max(iif(billed_pico IS NULL, 1, 0)) AS unpriced,
        sum(iif(billed_pico IS NULL AND unit = 'tokens', quantity, 0)) AS unpriced_tokens,
        max(CASE evidence {
    " ".join(f"WHEN '{grade.value}' THEN {rank}" for rank, grade in enumerate(_GRADES))
} END) AS grade
    FROM charges JOIN accounts ON accounts.id = account GROUP BY attempt
"""

_TAGGED = "JOIN exchanges e ON e.id = a.exchange"


def _tag(name: str) -> tuple[str, str, str]:
    return f"SELECT id, {name} FROM tag_sets", "e.tag_set", _TAGGED


_GROUPINGS: dict[str, tuple[str, str, str]] = {
    "model": ("SELECT id, model FROM routes", "a.route", ""),
    "day": ("", f"a.at_us / {_DAY_US}", ""),
    "task": (
        "SELECT id, name FROM tasks UNION ALL SELECT -id, task FROM tag_sets",
        "coalesce(task_rows.task, -e.tag_set)",
        f"{_TAGGED} LEFT JOIN task_rows ON task_rows.exchange = e.id",
    ),
    **{name: _tag(name) for name in ("team", "customer", "feature")},
    **{
        name: (
            f"SELECT id, {column} FROM outcomes",
            "f.outcome",
            "LEFT JOIN attempt_facts f ON f.attempt = a.id",
        )
        for name, column in (("key", "key_id"), ("upstream", "upstream"), ("fate", "fate"))
    },
}
"""Grouping: names of its numbers, the number to group by, the tables that hold it."""

GROUPINGS: tuple[str, ...] = tuple(_GROUPINGS)
"""What spend can be grouped by."""


class Spending:
    """Sums over the books."""

    _database: Database

    def spend(self, by: str) -> Iterator[SpendGroup]:
        """Sum the books by `model`, `day` (UTC), `task`, `team`, `customer`, `feature`, or by the
        virtual `key`, the `upstream` or the `fate` of live calls.

        The group's key is empty where nobody said, as imported calls do of the last three. The task
        is the one that the exchange was assigned to, else the caller's tag. What was answered from
        the cache has no charges and is in no sum.
        """
        if by not in _GROUPINGS:
            raise CallerError(f"spend by {by!r} is unknown; group by one of {', '.join(GROUPINGS)}")
        names_sql, number, tables = _GROUPINGS[by]
        name = _date if by == "day" else _named(dict(self._database.rows(names_sql)))
        for row in self._database.rows(
            f"SELECT {number}, {_SUMS} FROM ({_CHARGED}) charged "
            f"JOIN attempts a ON a.id = charged.attempt {tables} GROUP BY 1"
        ):
            yield _group(name(row[0]), *row[1:])


def _group(key: str, *sums: Any) -> SpendGroup:
    n, unpriced, hi, lo, reported, r_hi, r_lo, lost, grade, both, *rest = sums
    bb_hi, bb_lo, br_hi, br_lo, *leaves = rest
    return SpendGroup(
        key=key,
        n_requests=n,
        n_unpriced=unpriced,
        billed_pico=hi * _HALF + lo,
        n_reported=reported,
        reported_pico=r_hi * _HALF + r_lo,
        tokens={leaf: count for leaf, count in zip(LEAVES, leaves, strict=True) if count},
        unpriced_tokens=lost,
        evidence=_GRADES[grade],
        n_both=both,
        both_billed_pico=bb_hi * _HALF + bb_lo,
        both_reported_pico=br_hi * _HALF + br_lo,
    )


def _named(names: dict[int, str]) -> Callable[[int | None], str]:
    return lambda number: names[number] if number is not None else ""


def _date(day: int | None) -> str:
    if day is None:
        return ""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()
