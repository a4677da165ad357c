"""Numbers are written so that nobody is misled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.pages.numerals import chance, clip, money, plural, share

AMOUNTS = st.floats(1e-12, 1e13)


def read(written: str) -> float:
    return float(written.replace("−", "-").replace("$", "").replace(",", ""))


@given(AMOUNTS)
def test_money_is_written_within_half_of_its_second_figure(amount: float) -> None:
    assert read(money(amount)) == pytest.approx(amount, rel=0.051)


@given(AMOUNTS, AMOUNTS)
def test_more_money_is_never_written_as_less(one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert read(money(less)) <= read(money(more))


@given(AMOUNTS)
def test_a_loss_is_written_as_its_gain_with_a_minus(amount: float) -> None:
    assert money(-amount) == "−" + money(amount)


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (0.0062, "$0.0062"),
        (5.1128e-06, "$0.0000051"),
        (0.0995, "$0.10"),
        (0.996, "$1.00"),
        (999.99, "$999.99"),
        (999.996, "$1,000"),
        (1e-15, "$0"),
        (-0.0, "$0"),
        (None, "–"),
    ],
)
def test_money_is_written_as_people_read_it(amount: float | None, written: str) -> None:
    assert money(amount) == written


@given(st.floats(0, 1))
def test_a_share_is_all_or_nothing_only_if_it_is(part: float) -> None:
    assert (share(part) in {"0\u202f%", "100\u202f%"}) == (part in {0.0, 1.0})
    assert (chance(part) in {"0\u202f%", "100\u202f%"}) == (part in {0.0, 1.0})


@pytest.mark.parametrize(("number", "written"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows")])
def test_one_of_a_thing_is_no_plural(number: int, written: str) -> None:
    assert plural(number, "row") == written


@given(st.text(max_size=400), st.integers(2, 100))
def test_clipped_text_is_short_and_keeps_its_ends(long: str, limit: int) -> None:
    clipped = clip(long, limit)
    assert len(clipped) <= limit + 30
    assert clipped[:1] == long[:1]
    assert clipped[-1:] == long[-1:]
