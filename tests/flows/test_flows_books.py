from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.money import Paid
from stillhouse.flows.books import spend_by
from stillhouse.ledger.report import SpendSum


class Sums:
    """Books that hold the same sums for every grouping."""

    def __init__(self, *sums: SpendSum) -> None:
        self.sums = sums

    def spend(self, by: str) -> Iterable[tuple[Any, ...]]:
        return [tuple(getattr(part, name) for name in part.__slots__) for part in self.sums]


DAYS = Sums(
    SpendSum("2026-05-02", 3, billed_pico=9),
    SpendSum("", 1, billed_pico=50),
    SpendSum("2026-05-01", 4, n_unpriced=1, billed_pico=40),
    SpendSum("2026-05-03", 2, billed_pico=1),
)


@pytest.mark.parametrize(
    ("by", "most", "keys", "n_rest", "rest_pico"),
    [
        ("model", None, ["", "2026-05-01", "2026-05-02", "2026-05-03"], 0, None),
        ("model", 2, ["", "2026-05-01"], 2, 10),
        ("day", None, ["", "2026-05-01", "2026-05-02", "2026-05-03"], 0, None),
        ("day", 1, ["2026-05-03"], 3, 99),
        ("day", 9, ["", "2026-05-01", "2026-05-02", "2026-05-03"], 0, None),
    ],
)
def test_the_dearest_groups_or_the_latest_days_stand_apart(
    by: str, most: int | None, keys: list[str], n_rest: int, rest_pico: int | None
) -> None:
    spend = spend_by(DAYS, by, most)
    assert [row.key for row in spend.rows] == keys
    assert spend.n_rest == n_rest
    assert (spend.rest and spend.rest.computed) == (rest_pico and Paid(rest_pico))
    assert (spend.total.computed, spend.total.n_requests) == (Paid(100), 10)


def test_empty_books_have_no_rows_and_no_cost() -> None:
    spend = spend_by(Sums(), "model", 3)
    assert (spend.rows, spend.rest, spend.total.computed) == ((), None, None)


sums = st.lists(
    st.builds(
        SpendSum,
        st.sampled_from("abcdefg"),
        st.integers(1, 9),
        billed_pico=st.integers(0, 10**15),
    ),
    max_size=12,
)


@given(sums, st.integers(1, 8), st.sampled_from(["model", "day"]))
def test_the_rows_and_the_rest_add_up_to_the_total(
    parts: list[SpendSum], most: int, by: str
) -> None:
    spend = spend_by(Sums(*parts), by, most)
    shown = [*spend.rows, *([spend.rest] if spend.rest else [])]
    assert len(spend.rows) + spend.n_rest == len({part.key for part in parts})
    assert sum(row.n_requests for row in shown) == spend.total.n_requests
    costs = [row.computed for row in shown if row.computed is not None]
    assert sum(costs, Paid(0)) == (spend.total.computed or Paid(0))
