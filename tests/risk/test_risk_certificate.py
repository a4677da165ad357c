from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stillhouse.risk.budget import error_budget
from stillhouse.risk.certificate import (
    FIRST_COVERAGE,
    grid,
    open_gate,
    reachable_accept_rate,
    risk_curve,
)
from stillhouse.risk.evidence import Floats

MAX_RISK, DELTA = 0.05, 0.05
Bools = npt.NDArray[np.bool_]
LEVELS = grid(np.linspace(0, 1, 1_000), levels=20)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Floats, Bools]:
    """A calibration stream in which disagreement falls with the score, or does not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = rng.random(draw(st.integers(0, 900)))
    risk = draw(st.sampled_from([0.0, 0.01, 0.03, 0.1])) + draw(st.sampled_from([0.0, 0.2])) * (
        1 - scores
    )
    return scores, rng.random(len(scores)) < risk


def loosest(scores: Floats, wrong: Bools, planned_rows: int = 900) -> float:
    found = open_gate(scores, wrong, LEVELS, MAX_RISK, DELTA, planned_rows).threshold
    return math.inf if found is None else found


@pytest.mark.parametrize("delta", [0.05, 0.2])
def test_the_error_budgets_of_all_versions_sum_to_delta(delta: float) -> None:
    versions = 10_000
    spent = sum(error_budget(delta, version) for version in range(1, versions + 1))
    left = delta * 6 / math.pi**2 / versions
    assert spent < delta
    assert spent + left == pytest.approx(delta, rel=1e-6)


def test_versions_count_from_one() -> None:
    with pytest.raises(ValueError, match="got 0"):
        error_budget(0.05, 0)


def test_the_grid_goes_from_a_quarter_of_the_rows_to_all_of_them() -> None:
    scores = np.random.default_rng(1).random(4_000)
    levels = grid(scores)
    assert (np.diff(levels) < 0).all()
    assert (scores >= levels[0]).mean() == pytest.approx(FIRST_COVERAGE, abs=1e-3)
    assert (scores >= levels[-1]).all()


@settings(deadline=None)
@given(streams())
def test_what_the_gate_says_of_its_threshold_adds_up(stream: tuple[Floats, Bools]) -> None:
    scores, wrong = stream
    gate = open_gate(scores, wrong, LEVELS, MAX_RISK, DELTA)
    assert gate.n_rows == len(scores)
    if gate.threshold is None:
        assert (gate.n_accepted, gate.n_disagreements) == (0, 0)
        return
    assert gate.threshold in LEVELS
    assert gate.n_accepted == sum(score >= gate.threshold for score in scores)
    assert gate.n_disagreements == wrong[scores >= gate.threshold].sum()
    assert gate.log_e[gate.threshold == LEVELS].max() >= math.log(1 / DELTA)
    assert gate.n_disagreements / gate.n_accepted < 2 * MAX_RISK


@settings(deadline=None)
@given(streams(), st.integers(0, 2**32))
def test_more_disagreements_never_loosen_the_threshold(
    stream: tuple[Floats, Bools], seed: int
) -> None:
    scores, wrong = stream
    worse = wrong | (np.random.default_rng(seed).random(len(scores)) < 0.03)
    assert loosest(scores, worse) >= loosest(scores, wrong)


@settings(deadline=None)
@given(streams(), st.floats(0, 1))
def test_a_level_that_was_certified_stays_certified_as_rows_come_in(
    stream: tuple[Floats, Bools], share: float
) -> None:
    scores, wrong = stream
    early = round(share * len(scores))
    assert loosest(scores, wrong) <= loosest(scores[:early], wrong[:early])


@pytest.mark.parametrize("risk", [0.05, 0.06])
def test_a_student_that_errs_alike_at_every_score_is_almost_never_certified(risk: float) -> None:
    runs, rows = 150, 1_500
    rng = np.random.default_rng(77)
    certified = 0
    for _ in range(runs):  # the gate keeps the highest evidence, so one call is every look
        scores, wrong = rng.random(rows), rng.random(rows) < risk
        certified += loosest(scores, wrong, rows) < math.inf
    assert certified <= stats.binom.ppf(0.999, runs, DELTA)


def test_a_student_without_a_disagreement_may_answer_everything() -> None:
    scores = np.linspace(0, 1, 500)
    gate = open_gate(scores, np.zeros(500, dtype=bool), LEVELS, MAX_RISK, DELTA)
    assert gate.threshold == LEVELS[-1]
    assert gate.n_accepted == 500


def test_the_threshold_stands_where_disagreement_begins() -> None:
    scores = np.random.default_rng(3).random(6_000)
    gate = open_gate(scores, scores < 0.4, LEVELS, MAX_RISK, DELTA)
    assert gate.threshold is not None
    assert 0.36 < gate.threshold < 0.46


def test_an_early_level_that_blocks_the_sequence_does_not_block_the_levels_beside_it() -> None:
    rng = np.random.default_rng(4)
    scores = rng.random(8_000)
    wrong = (scores > 0.75) & (rng.random(8_000) < 0.1)
    gate = open_gate(scores, wrong, LEVELS, MAX_RISK, DELTA)
    assert gate.log_e[0] < math.log(1 / DELTA)
    assert gate.threshold == LEVELS[-1]


def test_no_rows_open_no_gate() -> None:
    gate = open_gate(np.zeros(0), np.zeros(0, dtype=bool), LEVELS, MAX_RISK, DELTA)
    assert (gate.threshold, gate.n_rows, gate.n_accepted) == (None, 0, 0)


def test_the_risk_curve_goes_from_strict_to_loose() -> None:
    rate, risk, cuts = risk_curve(np.array([0.2, 0.9, 0.5]), np.array([True, False, False]))
    assert rate == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk == pytest.approx([0, 0, 1 / 3])
    assert cuts.tolist() == [0.9, 0.5, 0.2]


@pytest.mark.parametrize(("risk", "rate"), [(0.0, 1.0), (0.5, 0.0)])
def test_the_forecast_of_the_accept_rate_is_what_the_gate_would_give(
    risk: float, rate: float
) -> None:
    rng = np.random.default_rng(5)
    found = reachable_accept_rate(rng.random(600), rng.random(600) < risk, MAX_RISK, DELTA)
    assert found == rate
