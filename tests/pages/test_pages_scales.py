"""Ticks, days and labels keep their promises for any data."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillhouse.pages.scales import Scale, Ticks, day_ticks, nice_ticks, spread

AMOUNTS = st.floats(-1e12, 1e12).map(lambda x: 0.0 if abs(x) < 1e-9 else x)


def ticks_of(one: float, other: float, wanted: int) -> tuple[float, float, Ticks]:
    low, high = min(one, other), max(one, other)
    if high - low < 1e-9 * max(abs(low), abs(high)):
        high = low
    return low, high, nice_ticks(low, high, wanted)


@given(AMOUNTS, AMOUNTS, st.integers(1, 12))
@example(0.1, 0.3, 2)
@example(0.05, 0.0, 5)
def test_ticks_enclose_the_data_tightly(one: float, other: float, wanted: int) -> None:
    low, high, ticks = ticks_of(one, other, wanted)
    assert ticks.low <= low <= high <= ticks.high
    step = ticks.values[1] - ticks.values[0]
    assert low - ticks.low <= step * 1.000001
    assert ticks.high - high <= step * 1.000001


@given(AMOUNTS, AMOUNTS, st.integers(1, 12))
def test_ticks_are_few_and_rise_evenly(one: float, other: float, wanted: int) -> None:
    _, _, ticks = ticks_of(one, other, wanted)
    steps = [b - a for a, b in pairwise(ticks.values)]
    assert 1 <= len(steps) <= wanted + 1
    assert min(steps) > 0
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@given(AMOUNTS, AMOUNTS, st.integers(1, 12))
def test_steps_are_one_two_or_five_times_a_power_of_ten(
    one: float, other: float, wanted: int
) -> None:
    _, _, ticks = ticks_of(one, other, wanted)
    first, second = (Decimal(repr(value)) for value in ticks.values[:2])
    digits = f"{second - first:.3e}".split("e", maxsplit=1)[0]
    assert digits in {"1.000", "2.000", "5.000"}


@given(AMOUNTS, AMOUNTS, st.integers(1, 12))
def test_the_decimals_tell_ticks_apart(one: float, other: float, wanted: int) -> None:
    _, _, ticks = ticks_of(one, other, wanted)
    labels = [f"{value:.{ticks.decimals}f}" for value in ticks.values]
    assert len(set(labels)) == len(labels)
    assert all(float(label) == value for label, value in zip(labels, ticks.values, strict=True))


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_what_is_no_range_gets_no_ticks(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="give finite low <= high"):
        nice_ticks(low, high)


@given(st.dates(date(1990, 1, 1), date(2090, 1, 1)), st.integers(0, 20_000), st.integers(2, 14))
def test_labelled_days_are_few_and_inside(first: date, span: int, wanted: int) -> None:
    last = first + timedelta(days=span)
    days = day_ticks(first, last, wanted)
    assert 1 <= len(days) <= wanted
    assert list(days) == sorted(set(days))
    assert first <= days[0] <= days[-1] <= last


@given(st.lists(st.floats(0, 300), max_size=8))
def test_labels_keep_their_order_and_do_not_overlap(places: list[float]) -> None:
    moved = spread(places, gap=16, low=0, high=300)
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    ranked = [moved[i] for i in order]
    assert all(b - a >= 16 - 1e-9 for a, b in pairwise(ranked))
    assert all(-1e-9 <= place <= 300 + 1e-9 for place in moved)


def test_labels_that_do_not_fit_start_at_the_top() -> None:
    assert spread([5, 5, 5], gap=10, low=0, high=15) == [0, 10, 20]


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_scale_keeps_the_ends(low: float, width: float) -> None:
    scale = Scale(low, low + abs(width) + 1, 300, 20)
    assert scale(scale.low) == pytest.approx(300)
    assert scale(scale.high) == pytest.approx(20)
