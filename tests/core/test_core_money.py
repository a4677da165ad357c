from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.money import PICO, Avoided, Money, Paid, round_div

amounts = st.integers(-(10**20), 10**20).map(Paid)
whole = st.integers(-(10**20), 10**20)


@given(whole, st.integers(1, 10**12))
def test_division_is_exact_and_a_half_goes_to_the_even_side(n: int, d: int) -> None:
    assert round_div(n, d) == round(Fraction(n, d))


@given(st.lists(amounts, max_size=8).flatmap(st.permutations))
def test_a_sum_is_exact_and_does_not_depend_on_the_order(parts: list[Paid]) -> None:
    assert sum(parts, Paid(0)) == sum(sorted(parts), Paid(0))
    assert sum(parts, Paid(0)).pico == sum(part.pico for part in parts)


@given(amounts, amounts)
def test_taking_away_undoes_adding(a: Paid, b: Paid) -> None:
    assert a + b - b == a
    assert a + -a == Paid(0)
    assert (a < b) == (a.pico < b.pico)


@given(amounts)
def test_an_amount_is_written_so_that_it_can_be_read_back(amount: Paid) -> None:
    assert Paid.of(amount.decimal) == amount
    assert Paid.of(repr(amount).split("'")[1]) == amount


@given(amounts, whole, st.integers(1, 10**12))
def test_a_fraction_of_an_amount_is_off_by_half_the_smallest_amount_at_most(
    amount: Paid, n: int, d: int
) -> None:
    assert abs(amount.times(n, d).pico - Fraction(amount.pico * n, d)) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("given_amount", "pico"),
    [("0.1", PICO // 10), (3, 3 * PICO), (0.1, PICO // 10), (1e-12, 1), (Decimal("1e-13"), 0)],
)
def test_an_amount_is_read_to_a_millionth_of_a_millionth(
    given_amount: str | int | float | Decimal, pico: int
) -> None:
    assert Paid.of(given_amount).pico == pico


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), "-Infinity"])
def test_an_amount_that_is_not_finite_is_refused(amount: float | str) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        Paid.of(amount)


def test_paid_and_avoided_money_never_mix() -> None:
    for mix in (
        lambda: Paid.of(1) + Avoided.of(1),
        lambda: Avoided.of(1) - Paid.of(1),
        lambda: Paid.of(1) < Avoided.of(1),
        lambda: Paid.of(1) <= Avoided.of(1),
        lambda: sum([Avoided.of(1)], Paid(0)),
    ):
        with pytest.raises(TypeError, match="never mix"):
            mix()
    money: list[Money] = [Paid.of(1), Avoided.of(1)]
    assert money[0] != money[1]


def test_two_currencies_are_not_added() -> None:
    with pytest.raises(TypeError, match="EUR \\+ USD: convert at a dated rate"):
        Paid.of(1, "EUR") + Paid.of(1)


def test_no_money_is_false_and_any_money_is_true() -> None:
    assert not Paid(0)
    assert Paid(1)
    assert Paid(-1)


def test_the_kind_and_the_currency_survive_arithmetic() -> None:
    half = Avoided.of("3", "EUR").times(1, 2)
    assert isinstance(half, Avoided)
    assert repr(half) == "Avoided('1.5' EUR)"
    assert repr(Money.of("100")) == "Money('100' USD)"
    assert float(half) == 1.5
