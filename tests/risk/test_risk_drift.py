from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.risk.drift import (
    HIGHEST,
    RATIOS,
    Detector,
    after,
    first_alarm,
    looked_for,
    watch,
)

RISK, RUN_LENGTH = 0.05, 5000.0
risks = st.floats(0.001, 0.9)
answers = st.lists(st.booleans(), max_size=150)


def fold(detector: Detector, disagreements: list[bool]) -> Detector:
    for disagrees in disagreements:
        detector = after(detector, disagrees)
    return detector


@given(risks, answers)
def test_the_statistics_are_never_below_nothing(max_risk: float, disagreements: list[bool]) -> None:
    detector = fold(watch(max_risk, RUN_LENGTH), disagreements)
    assert all(statistic >= 0 for statistic in detector.statistics)
    assert detector.alarm == (detector.level >= RUN_LENGTH)


@given(risks, answers, answers)
def test_a_watch_kept_in_numbers_goes_on_where_it_was(
    max_risk: float, first: list[bool], then: list[bool]
) -> None:
    half = fold(watch(max_risk, RUN_LENGTH), first)
    kept = json.dumps([half.max_risk, half.run_length, half.statistics])
    risk, run_length, statistics = json.loads(kept)
    resumed = fold(Detector(risk, run_length, tuple(statistics)), then)
    assert resumed == fold(watch(max_risk, RUN_LENGTH), first + then)


@given(risks, answers, answers)
def test_a_disagreement_raises_every_statistic_above_what_an_agreement_leaves(
    max_risk: float, disagreements: list[bool], later: list[bool]
) -> None:
    before = fold(watch(max_risk, RUN_LENGTH), disagreements)
    worse = fold(after(before, True), later).statistics
    better = fold(after(before, False), later).statistics
    assert all(high >= low for high, low in zip(worse, better, strict=True))
    assert sum(worse) > sum(better) or max(worse) == HIGHEST


@given(risks, answers)
def test_at_the_promised_risk_the_statistics_grow_by_one_a_row_on_average(
    max_risk: float, disagreements: list[bool]
) -> None:
    before = fold(watch(max_risk, RUN_LENGTH), disagreements)
    worse, better = after(before, True).statistics, after(before, False).statistics
    for statistic, high, low in zip(before.statistics, worse, better, strict=True):
        if high < HIGHEST:
            assert max_risk * high + (1 - max_risk) * low == pytest.approx(1 + statistic)


@given(risks)
def test_risks_looked_for_lie_above_the_promised_one_and_below_certainty(max_risk: float) -> None:
    found = looked_for(max_risk)
    assert max_risk < found[0]
    assert list(found) == sorted(set(found))
    assert found[-1] < 1
    if max_risk <= 1 / 7:
        assert found == pytest.approx([ratio * max_risk for ratio in RATIOS])


@given(st.lists(st.booleans(), max_size=400), st.sampled_from((0.02, 0.05, 0.2)))
def test_a_recording_alarms_at_the_row_at_which_the_watch_does(
    disagreements: list[bool], max_risk: float
) -> None:
    detector, expected = watch(max_risk, 123.4), None
    for row, disagrees in enumerate(disagreements, start=1):
        detector = after(detector, disagrees)
        if detector.alarm:
            expected = row
            break
    assert first_alarm(np.array(disagreements, dtype=bool), max_risk, 123.4) == expected


def test_a_recording_of_several_chunks_alarms_at_the_same_row_as_the_watch() -> None:
    rng = np.random.default_rng(3)
    disagreements = np.concatenate([rng.random(9_000) < 0.02, rng.random(1_000) < 0.1])
    found = first_alarm(disagreements, RISK, RUN_LENGTH)
    assert found is not None
    assert found > 9_000
    assert not fold(watch(RISK, RUN_LENGTH), disagreements[: found - 1].tolist()).alarm
    assert fold(watch(RISK, RUN_LENGTH), disagreements[:found].tolist()).alarm


def test_without_rows_there_is_no_alarm() -> None:
    assert first_alarm(np.zeros(0, dtype=bool), RISK, RUN_LENGTH) is None
    assert not watch(RISK, RUN_LENGTH).alarm


def test_endless_disagreement_overflows_nothing() -> None:
    detector = fold(watch(1e-6, RUN_LENGTH), [True] * 2_000)
    assert detector.alarm
    assert math.isfinite(detector.level)
    assert after(detector, False).level < detector.level


def test_endless_agreement_leaves_a_watch_that_is_ready() -> None:
    bored = fold(watch(RISK, RUN_LENGTH), [False] * 20_000)
    rng = np.random.default_rng(0)
    bad = (rng.random(2_000) < 0.15).tolist()
    rows_bored = next(n for n in range(1, 2_001) if fold(bored, bad[:n]).alarm)
    rows_fresh = first_alarm(np.array(bad), RISK, RUN_LENGTH)
    assert rows_fresh is not None
    assert rows_bored <= rows_fresh


def test_the_mean_run_at_the_promised_risk_is_as_long_as_said() -> None:
    rng = np.random.default_rng(11)
    # Cut off runs count as ended, so the mean is less than the true one.
    runs = [first_alarm(rng.random(30_000) < RISK, RISK, 2_000) or 30_000 for _ in range(200)]
    assert np.mean(runs) >= 2_000
    assert np.mean([run <= 200 for run in runs]) <= 0.1


def test_runs_of_bad_luck_that_keep_the_average_risk_do_not_shorten_the_mean_run() -> None:
    """The promise is row by row: the risk may depend on the past as long as it stays within."""
    rng = np.random.default_rng(12)
    runs = []
    for _ in range(200):
        draws = rng.random(12_000)
        risk = np.where(np.arange(12_000) // 50 % 2, RISK, 0.001)
        runs.append(first_alarm(draws < risk, RISK, 2_000) or 12_000)
    assert np.mean(runs) >= 2_000


@pytest.mark.parametrize(("bad", "most"), [(0.10, 220), (0.15, 80), (0.25, 35)])
def test_a_jump_is_noticed_after_as_few_labels_as_the_documentation_says(
    bad: float, most: int
) -> None:
    rng = np.random.default_rng(13)
    delays = []
    for _ in range(200):
        rows = np.concatenate([rng.random(3_000) < 0.025, rng.random(3_000) < bad])
        found = first_alarm(rows, RISK, RUN_LENGTH)
        if found is None or found > 3_000:
            delays.append(np.inf if found is None else found - 3_000)
    assert len(delays) >= 195
    assert np.median(delays) <= most


@pytest.mark.parametrize(("max_risk", "run_length"), [(0.0, 10), (1.0, 10), (0.1, 0.5)])
def test_a_watch_that_promises_nothing_is_refused(max_risk: float, run_length: float) -> None:
    with pytest.raises(ValueError, match=r"max_risk is|run_length is"):
        watch(max_risk, run_length)
    with pytest.raises(ValueError, match=r"max_risk is|run_length is"):
        first_alarm(np.zeros(3, dtype=bool), max_risk, run_length)


@pytest.mark.parametrize(
    "module", ["stillhouse.risk.drift", "stillhouse.risk.inputs", "stillhouse.routing.contract"]
)
def test_watching_needs_no_numerical_library(module: str) -> None:
    program = f"import sys, {module}; print({{'numpy', 'scipy'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
