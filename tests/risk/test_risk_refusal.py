from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from stillhouse.core.learning import Refusal, RefusalReason, Target
from stillhouse.risk.budget import error_budget
from stillhouse.risk.certificate import calibration_rows_needed, grid, open_gate
from stillhouse.risk.evidence import Floats
from stillhouse.risk.refusal import (
    NO_REPEATS,
    Repeats,
    closed_gate,
    shifted,
    teacher_noise,
    too_few_groups,
    too_few_rows,
)

TARGET = Target(max_risk=0.05, confidence=0.95)
DELTA = error_budget(0.05, 1)
LEVELS = grid(np.linspace(0, 1, 1_000))


def judged(scores: Floats, wrong: npt.NDArray[np.bool_], repeats: Repeats = NO_REPEATS) -> Refusal:
    gate = open_gate(scores, wrong, LEVELS, TARGET.max_risk, DELTA)
    assert gate.threshold is None
    return closed_gate(gate, scores, wrong, TARGET, repeats)


def test_rows_that_could_not_certify_a_flawless_student_are_refused_beforehand() -> None:
    needed = calibration_rows_needed(TARGET.max_risk, DELTA)
    assert too_few_rows(needed, TARGET, DELTA) is None
    refused = too_few_rows(needed - 1, TARGET, DELTA)
    assert refused is not None
    assert refused.reason is RefusalReason.TOO_FEW_ROWS
    assert refused.figures == {"calibration_rows": needed - 1, "rows_needed": needed}
    assert f"{needed - 1} calibration rows" in refused.sentence
    assert "a risk of 5% at 95% confidence" in refused.sentence


def test_half_a_per_cent_is_written_as_half_a_per_cent() -> None:
    refused = too_few_rows(10, Target(max_risk=0.005, confidence=0.999), 0.001)
    assert refused is not None
    assert "a risk of 0.5% at 99.9% confidence" in refused.sentence


@pytest.mark.parametrize(
    ("pairs", "equal", "noisy"),
    [
        (0, 0, False),
        (3, 2, False),  # a third, but by chance it may be one in a hundred
        (200, 196, False),
        (200, 185, False),  # 7.5 %, and the interval reaches down to 4.3 %
        (200, 160, True),
        (2_000, 1_870, True),
    ],
)
def test_a_teacher_that_surely_disagrees_with_itself_is_refused(
    pairs: int, equal: int, noisy: bool
) -> None:
    refused = teacher_noise(Repeats(pairs, equal), TARGET)
    assert (refused is not None) == noisy
    if refused is not None:
        assert refused.reason is RefusalReason.TEACHER_NOISE
        assert f"{1 - equal / pairs:.1%} of {pairs:,} repeats" in refused.sentence


def test_a_teacher_relabelled_in_a_quarter_of_its_answers_is_diagnosed_as_noisy() -> None:
    rng = np.random.default_rng(26)
    scores = rng.beta(8, 2, 2_000)
    mistaken = rng.random(2_000) < 0.3 * (1 - scores)
    relabelled = rng.random(2_000) < 0.26
    assert judged(scores, mistaken | relabelled).reason is RefusalReason.TEACHER_NOISE


@pytest.mark.parametrize(
    ("repeats", "reason"),
    [
        (Repeats(400, 396), RefusalReason.NO_LEVEL_QUALIFIES),
        (Repeats(400, 300), RefusalReason.TEACHER_NOISE),
        (Repeats(3, 3), RefusalReason.TEACHER_NOISE),  # three repeats prove nothing
    ],
)
def test_a_teacher_whose_repeats_are_steady_is_not_blamed(
    repeats: Repeats, reason: RefusalReason
) -> None:
    rng = np.random.default_rng(30)
    assert judged(rng.random(2_000), rng.random(2_000) < 0.26, repeats).reason is reason


def test_a_weak_student_of_a_steady_teacher_is_not_blamed_on_the_teacher() -> None:
    rng = np.random.default_rng(27)
    scores = rng.random(1_000)
    wrong = rng.random(1_000) < 0.045 + 0.6 * (1 - scores)
    refused = judged(scores, wrong)
    assert refused.reason is RefusalReason.NO_LEVEL_QUALIFIES
    assert f"{wrong.mean():.1%} of the calibration rows" in refused.sentence
    assert refused.figures["disagreement"] == pytest.approx(wrong.mean())


def test_a_gate_that_saw_no_rows_is_closed_because_no_level_qualifies() -> None:
    refused = judged(np.zeros(0), np.zeros(0, dtype=bool))
    assert refused.reason is RefusalReason.NO_LEVEL_QUALIFIES


def test_calibration_rows_of_another_kind_are_refused() -> None:
    rng = np.random.default_rng(28)
    refused = shifted(rng.beta(8, 2, 2_000), rng.beta(4, 4, 500), "the student's confidence")
    assert refused is not None
    assert refused.reason is RefusalReason.SHIFTED_GROUPS
    assert refused.figures["distance"] > 0.2
    assert "the student's confidence differs" in refused.sentence


@pytest.mark.parametrize(
    ("n", "drift"),
    [
        (2_000, 0.0),
        (20_000, 0.1),  # certain, but small
        (25, 0.25),  # large, but perhaps by chance
        (19, 1.0),  # certain, but of nineteen rows
    ],
)
def test_small_drift_and_few_rows_are_not_called_a_shift(n: int, drift: float) -> None:
    rng = np.random.default_rng(29)
    assert shifted(rng.random(n), rng.random(n) - drift, "length") is None


def test_a_promise_for_unseen_groups_needs_enough_groups() -> None:
    assert too_few_groups(59, TARGET, 0.05) is None
    refused = too_few_groups(58, TARGET, 0.05)
    assert refused is not None
    assert refused.reason is RefusalReason.SHIFTED_GROUPS
    assert refused.figures == {"groups": 58, "groups_needed": 59}
