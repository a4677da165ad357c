from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from stillhouse.risk.evidence import (
    aimed_log_e_value,
    aimed_risk,
    exact_interval,
    highest_log_e_value,
    log_e_value,
    rows_needed,
)

DELTA = 0.05
counts = st.integers(0, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
risks = st.floats(0.005, 0.5)


@st.composite
def near_the_boundary(draw: st.DrawFn) -> tuple[int, int, float]:
    """Rows, disagreements and a risk; far above the risk the evidence underflows to nothing."""
    n, max_risk = draw(st.integers(0, 400)), draw(risks)
    return n, draw(st.integers(0, min(n, 3 + int(3 * max_risk * n)))), max_risk


def most_by_chance(runs: int, share: float) -> int:
    """A count that chance exceeds once in a thousand tries, if the share is true."""
    return int(stats.binom.ppf(0.999, runs, share))


@pytest.mark.parametrize(
    ("n", "k", "max_risk"),
    [(1, 0, 0.05), (1, 1, 0.05), (88, 0, 0.05), (200, 9, 0.05), (300, 40, 0.1), (50, 50, 0.3)],
)
def test_the_evidence_is_the_mixture_of_likelihood_ratios(n: int, k: int, max_risk: float) -> None:
    def ratio(q: float) -> float:
        return float((q / max_risk) ** k * ((1 - q) / (1 - max_risk)) ** (n - k) / max_risk)

    mixture, _ = integrate.quad(ratio, 0, max_risk, epsabs=0, epsrel=1e-10)
    assert math.exp(log_e_value(n, k, max_risk)) == pytest.approx(mixture, rel=1e-8)


@given(risks, st.floats(0.01, 0.99))
def test_before_the_first_row_there_is_no_evidence(max_risk: float, share: float) -> None:
    assert log_e_value(0, 0, max_risk) == pytest.approx(0, abs=1e-9)
    assert aimed_log_e_value(0, 0, max_risk, share * max_risk) == pytest.approx(0, abs=1e-9)


@given(near_the_boundary())
def test_at_the_boundary_the_next_row_leaves_the_evidence_where_it_is_on_average(
    case: tuple[int, int, float],
) -> None:
    n, k, max_risk = case
    rows, disagreements = [n, n + 1, n + 1], [k, k + 1, k]
    for log_e in (
        log_e_value(rows, disagreements, max_risk),
        aimed_log_e_value(rows, disagreements, max_risk, 0.6 * max_risk),
    ):
        now, wrong, right = np.exp(log_e)
        assert max_risk * wrong + (1 - max_risk) * right == pytest.approx(now, rel=1e-6)


@given(counts, risks)
def test_a_disagreement_never_adds_evidence(count: tuple[int, int], max_risk: float) -> None:
    n, k = count
    rows, disagreements = [n + 1, n + 1], [k, k + 1]
    for fewer, more in (
        log_e_value(rows, disagreements, max_risk),
        aimed_log_e_value(rows, disagreements, max_risk, 0.6 * max_risk),
    ):
        assert more <= fewer


def test_evidence_against_a_hopeless_student_is_nothing_and_not_an_error() -> None:
    assert log_e_value(10_000, 9_000, 0.05) == -np.inf
    assert highest_log_e_value(np.ones(5_000, dtype=bool), 0.05, 0.03) == 0.0


@pytest.mark.parametrize(("max_risk", "flawless"), [(0.10, 43), (0.05, 88), (0.02, 224)])
def test_the_table_of_rows_needed_without_a_disagreement(max_risk: float, flawless: int) -> None:
    assert rows_needed(max_risk, DELTA) == flawless


@pytest.mark.parametrize(("max_risk", "at_half"), [(0.10, 250), (0.05, 490), (0.02, 1_230)])
def test_the_table_of_rows_needed_at_about_half_the_risk(max_risk: float, at_half: int) -> None:
    n = np.arange(1, 3_000)
    reached = log_e_value(n, n * max_risk / 2, max_risk) >= math.log(1 / DELTA)
    assert n[reached.argmax()] == pytest.approx(at_half, rel=0.1)


def test_a_risk_too_small_to_certify_is_said_to_be_so() -> None:
    with pytest.raises(ValueError, match="1e-06 is too small"):
        rows_needed(1e-6, DELTA)


def test_looks_after_every_row_break_the_promise_at_most_as_often_as_promised() -> None:
    runs, rows, risk = 1_000, 1_500, 0.05
    rng = np.random.default_rng(20_260_101)
    wrong = np.cumsum(rng.random((runs, rows)) < risk, axis=1)
    seen = np.broadcast_to(np.arange(1, rows + 1), wrong.shape)
    aimed = aimed_log_e_value(seen, wrong, risk, aimed_risk(rows, risk, DELTA))
    for log_e in (log_e_value(seen, wrong, risk), aimed):
        crossed = (log_e >= math.log(1 / DELTA)).any(axis=1).sum()
        assert 0 < crossed <= most_by_chance(runs, DELTA)
    # The exact bound of one look, used at each: what the evidence is there to prevent.
    bound = special.bdtr(wrong[:, ::20].astype(float), seen[:, ::20], risk)
    peeked = (bound <= DELTA).any(axis=1).sum()
    assert peeked > 2 * most_by_chance(runs, DELTA)


@given(st.lists(st.booleans(), max_size=60), risks, st.floats(0.01, 0.99))
def test_the_highest_evidence_is_that_of_the_best_look(
    stream: list[bool], max_risk: float, share: float
) -> None:
    aim = share * max_risk
    looks = [
        float(aimed_log_e_value(n, sum(stream[:n]), max_risk, aim))
        for n in range(1, len(stream) + 1)
    ]
    highest = highest_log_e_value(np.array(stream, dtype=bool), max_risk, aim)
    assert highest == pytest.approx(max([0.0, *looks]))


@pytest.mark.parametrize("rows", [80, 375, 1_500, 20_000])
def test_the_aim_is_the_risk_that_as_many_rows_would_just_certify(rows: int) -> None:
    aim = aimed_risk(rows, 0.05, DELTA)
    k = aim * rows
    ratio = k * math.log(aim / 0.05) + (rows - k) * math.log((1 - aim) / 0.95)
    assert ratio == pytest.approx(math.log(1 / DELTA))


def test_too_few_rows_to_certify_anything_aim_at_no_disagreement_at_all() -> None:
    assert 0 < aimed_risk(20, 0.05, DELTA) < 1e-6


@pytest.mark.parametrize("n", [1, 2, 59, 400])
def test_the_exact_interval_is_that_of_clopper_and_pearson(n: int) -> None:
    for k in {0, 1, n // 2, n}:
        for confidence in (0.9, 0.95, 0.999):
            theirs = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
            assert exact_interval(k, n, confidence) == pytest.approx((theirs.low, theirs.high))


def test_no_rows_say_nothing_about_a_share() -> None:
    assert exact_interval(0, 0) == (0.0, 1.0)
