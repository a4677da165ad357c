from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from stillhouse.risk import inputs
from stillhouse.risk.inputs import (
    LENGTH_EDGES,
    SCORE_EDGES,
    SHARE_EDGES,
    InputWatch,
    Reference,
    after_input,
    joined,
    known_words,
    new_words,
    p_value,
    refer,
    watch_inputs,
    words_of,
)

values = st.lists(st.floats(0, 1), max_size=40)
ties = st.floats(0, 1, exclude_max=True)
rows = st.lists(st.tuples(st.floats(0, 1), ties), max_size=60)


def fold(watching: InputWatch, live: list[tuple[float, float]]) -> InputWatch:
    for value, tie in live:
        watching = after_input(watching, value, tie)
    return watching


def rows_to_alarm(
    watching: InputWatch, live: np.ndarray, rng: np.random.Generator
) -> tuple[float, str]:
    for row, value in enumerate(live.tolist(), start=1):
        watching = after_input(watching, value, float(rng.random()))
        if watching.alarm:
            return row, watching.direction
    return math.inf, ""


@given(values, st.floats(0, 1), ties)
def test_a_place_is_between_nothing_and_one(sample: list[float], value: float, tie: float) -> None:
    assert 0 <= p_value(refer(SCORE_EDGES, sample), value, tie) < 1


@given(values, st.floats(0, 1), st.floats(0, 1), ties)
def test_a_higher_value_has_no_lower_place(
    sample: list[float], value: float, other: float, tie: float
) -> None:
    low, high = sorted((value, other))
    reference = refer(SCORE_EDGES, sample)
    assert p_value(reference, low, tie) <= p_value(reference, high, tie)


@given(values, values)
def test_a_reference_does_not_care_in_which_order_values_came(
    sample: list[float], live: list[float]
) -> None:
    grown = refer(SHARE_EDGES, sample)
    for value in live:
        grown = joined(grown, value)
    assert grown == refer(SHARE_EDGES, reversed(sample + live))
    assert sum(grown.counts) == len(sample) + len(live)


@given(st.permutations([0.2, 0.2, 0.4, 0.9, 0.9]))
def test_the_last_of_a_sample_may_stand_at_any_place_with_the_same_chance(
    order: list[float],
) -> None:
    """Whatever the values: over who is last, and over ties, the places fill (0, 1) evenly."""
    edges = (0.3, 0.5)
    spans = []
    for last in range(len(order)):
        reference = refer(edges, order[:last] + order[last + 1 :])
        spans.append((p_value(reference, order[last], 0.0), p_value(reference, order[last], 1.0)))
    for place in np.linspace(0.01, 0.99, 50):
        density = sum(1 / (high - low) for low, high in spans if low <= place < high)
        assert density == pytest.approx(len(order))


@pytest.mark.parametrize("size", [0, 5])
def test_places_of_neighbouring_rows_are_uniform_and_independent(size: int) -> None:
    rng = np.random.default_rng(31)
    cells = np.zeros((4, 4))
    for _ in range(4_000):
        reference = refer((0.25, 0.5, 0.75), rng.random(size))
        first, then = rng.random(2)
        one = p_value(reference, first, rng.random())
        two = p_value(joined(reference, first), then, rng.random())
        cells[int(4 * one), int(4 * two)] += 1
    assert stats.chisquare(cells.ravel()).pvalue > 0.001


def test_against_a_reference_that_stays_places_are_not_independent() -> None:
    """Why live rows join: else all places share the luck of the same few rows."""
    rng = np.random.default_rng(32)
    cells = np.zeros((4, 4))
    for _ in range(4_000):
        reference = refer((0.25, 0.5, 0.75), rng.random(5))
        one, two = (p_value(reference, value, rng.random()) for value in rng.random(2))
        cells[int(4 * one), int(4 * two)] += 1
    assert stats.chisquare(cells.ravel()).pvalue < 1e-6


@pytest.mark.parametrize("bet", range(7))
def test_every_bet_is_fair_where_places_are_uniform(bet: int) -> None:
    mean, _ = integrate.quad(lambda place: inputs._bets(place)[bet], 0, 1, limit=500)
    assert 0.998 < mean <= 1 + 1e-6


@given(values, rows)
def test_the_statistics_are_never_below_nothing(
    sample: list[float], live: list[tuple[float, float]]
) -> None:
    watching = fold(watch_inputs(refer(SCORE_EDGES, sample), 100), live)
    assert all(statistic >= 0 for statistic in watching.statistics)
    assert watching.alarm == (watching.level >= 100)


@given(values, rows, rows)
def test_a_watch_kept_in_numbers_goes_on_where_it_was(
    sample: list[float], first: list[tuple[float, float]], then: list[tuple[float, float]]
) -> None:
    begun = watch_inputs(refer(SCORE_EDGES, sample), 100)
    half = fold(begun, first)
    kept = Reference(tuple(half.reference.edges), tuple(half.reference.counts))
    resumed = fold(InputWatch(kept, half.run_length, tuple(half.statistics)), then)
    assert resumed == fold(begun, first + then)


@pytest.mark.parametrize("size", [0, 50])
def test_the_mean_run_of_traffic_like_the_reference_is_as_long_as_said(size: int) -> None:
    rng = np.random.default_rng(33)
    runs = []
    for _ in range(100):
        reference = refer(SCORE_EDGES, rng.beta(8, 1, size))
        row, _ = rows_to_alarm(watch_inputs(reference, 200), rng.beta(8, 1, 900), rng)
        runs.append(min(row, 900))
    assert np.mean(runs) >= 200
    assert np.mean([run <= 20 for run in runs]) <= 0.1 + 3 * 0.03


@pytest.mark.parametrize(
    ("edges", "before", "then", "direction"),
    [
        (SCORE_EDGES, (8, 1), (2, 1), "lower"),
        (SCORE_EDGES, (2, 1), (8, 1), "higher"),
        (SHARE_EDGES, (1, 30), (2, 12), "higher"),
        (SCORE_EDGES, (6, 6), (0.5, 0.5), "spread"),
    ],
)
def test_a_shift_is_noticed_soon_and_its_direction_is_mostly_named(
    edges: tuple[float, ...], before: tuple[float, float], then: tuple[float, float], direction: str
) -> None:
    rng = np.random.default_rng(34)
    delays, pointed = [], []
    for _ in range(20):
        watching = watch_inputs(refer(edges, rng.beta(*before, 500)), 10_000)
        row, towards = rows_to_alarm(watching, rng.beta(*then, 1_000), rng)
        delays.append(row)
        pointed.append(towards)
    assert np.median(delays) <= 60
    assert pointed.count(direction) >= 15


def test_a_watch_may_begin_with_no_reference_at_all() -> None:
    rng = np.random.default_rng(35)
    watching = watch_inputs(refer(LENGTH_EDGES), 10_000)
    for value in np.exp(rng.normal(4, 0.5, 300)).tolist():
        watching = after_input(watching, value, float(rng.random()))
    assert not watching.alarm
    row, towards = rows_to_alarm(watching, np.exp(rng.normal(5, 0.5, 300)), rng)
    assert row <= 60
    assert towards == "higher"


def test_a_slow_shift_becomes_the_new_normal_unseen() -> None:
    """What is not promised: the documentation says so, and this is it."""
    rng = np.random.default_rng(36)
    watching = watch_inputs(refer(SHARE_EDGES, rng.uniform(0, 0.5, 300)), 10_000)
    slow = rng.uniform(0, 0.5, 3_000) + np.linspace(0, 0.02, 3_000)
    row, _ = rows_to_alarm(watching, slow, rng)
    assert row == math.inf


def test_the_same_value_for_ever_is_no_alarm_and_overflows_nothing() -> None:
    rng = np.random.default_rng(37)
    watching = watch_inputs(refer(SCORE_EDGES, [1.0] * 100), 10_000)
    row, _ = rows_to_alarm(watching, np.ones(2_000), rng)
    assert row == math.inf
    broken = fold(watch_inputs(refer(SCORE_EDGES, [1.0] * 10**5), 10), [(0.0, 0.0)] * 300)
    assert broken.alarm
    assert math.isfinite(broken.level)


@pytest.mark.parametrize("edges", [SCORE_EDGES, SHARE_EDGES, LENGTH_EDGES])
def test_edges_rise(edges: tuple[float, ...]) -> None:
    assert list(edges) == sorted(set(edges))


def test_a_share_of_nothing_has_a_bucket_of_its_own() -> None:
    reference = refer(SHARE_EDGES, [0.0, 0.0, 0.01])
    assert sorted(reference.counts)[-2:] == [1, 2]


def test_a_run_length_that_promises_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="run_length is 0"):
        watch_inputs(refer(SCORE_EDGES), 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where's my Card?", ["where", "s", "my", "card"]),
        ("ticket 4411_b", ["ticket", "b"]),
        ("卡片在哪里", ["卡", "片", "在", "哪", "里"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("42 !?", []),
    ],
)
def test_words_are_read_without_case_and_numbers(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def test_new_words_are_those_not_learnt_from() -> None:
    known = known_words(["My card is late", "card lost", "card"])
    assert new_words("card late", known) == 0
    assert new_words("CARD stolen", known) == 0.5
    assert new_words("4411", known) == 0


def test_of_too_many_words_the_frequent_ones_are_kept() -> None:
    assert known_words(["a b b", "b a c"], most=2) == {"a", "b"}


@given(st.text(max_size=80), st.lists(st.text(max_size=20), max_size=5))
def test_the_share_of_new_words_is_a_share_and_none_of_the_learnt_is_new(
    text: str, learnt: list[str]
) -> None:
    known = known_words([*learnt, text])
    assert new_words(text, known) == 0
    assert 0 <= new_words(text, known_words(learnt)) <= 1
