"""The story of the books: what was spent, cut by one grouping, the smaller groups joined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from stillhouse.ledger.report import SpendRow, SpendSum, spend_report

USUAL_CUTS = ("model", "task", "team", "day")
"""The groupings that everybody asks for."""


class Books(Protocol):
    """Where charges are kept."""

    def spend(self, by: str) -> Iterable[tuple[Any, ...]]:
        """The sums of each group, field for field a SpendSum; CallerError for no grouping."""
        ...


@dataclass(frozen=True, slots=True)
class Spend:
    """The spend by one grouping: `rows`, what the `n_rest` other groups come to, and the total."""

    by: str
    rows: tuple[SpendRow, ...]
    rest: SpendRow | None
    n_rest: int
    total: SpendRow


def spend_by(books: Books, by: str, most: int | None = None) -> Spend:
    """Lay out the spend by falling cost, days in their order.

    With `most`, only so many rows are kept apart: the dearest groups, or the latest days.
    """
    sums = [SpendSum(*group) for group in books.spend(by)]
    report = spend_report(sums, by)
    rows = report.rows
    if by == "day":
        rows = tuple(sorted(rows, key=lambda row: row.key))
    apart = rows
    if most is not None:
        apart = rows[-most:] if by == "day" else rows[:most]
    keys = {row.key for row in apart}
    rest = [part for part in sums if part.key not in keys]
    return Spend(
        by=by,
        rows=apart,
        rest=spend_report(rest, by).total if rest else None,
        n_rest=len(rows) - len(apart),
        total=report.total,
    )
