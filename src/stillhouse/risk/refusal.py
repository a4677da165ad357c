"""Why nothing may be promised: the checks before the gate and the diagnosis after it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from stillhouse.core.learning import Refusal, RefusalReason, Target
from stillhouse.risk.certificate import FIRST_COVERAGE, Gate, calibration_rows_needed
from stillhouse.risk.evidence import Floats, exact_interval

SHIFT_DISTANCE = 0.2
SHIFT_P_VALUE = 1e-3
FLAT = 0.5


@dataclass(frozen=True, slots=True)
class Repeats:
    """How the teacher answered when the same text was asked again: pairs, and equal pairs."""

    pairs: int
    equal: int


NO_REPEATS = Repeats(0, 0)


def too_few_rows(n_calibration: int, target: Target, delta: float) -> Refusal | None:
    """Refuse before anything is spent when even a flawless student could not be certified."""
    needed = calibration_rows_needed(target.max_risk, delta)
    if n_calibration >= needed:
        return None
    return Refusal(
        RefusalReason.TOO_FEW_ROWS,
        f"{n_calibration} calibration rows are too few: a risk of {_percent(target.max_risk)} at "
        f"{_percent(target.confidence)} confidence needs at least {needed} even without one "
        "disagreement; collect more answered traffic",
        {"calibration_rows": n_calibration, "rows_needed": needed},
    )


def teacher_noise(repeats: Repeats, target: Target) -> Refusal | None:
    """Refuse when the teacher surely disagrees with itself as often as the student may.

    Surely: the lower end of the 95 % interval of self-disagreement lies at max_risk or above.
    """
    if not repeats.pairs:
        return None
    low, high = exact_interval(repeats.pairs - repeats.equal, repeats.pairs)
    if low < target.max_risk:
        return None
    share = 1 - repeats.equal / repeats.pairs
    return Refusal(
        RefusalReason.TEACHER_NOISE,
        f"the teacher gave a different answer to the same text in {share:.1%} of {repeats.pairs:,} "
        f"repeats (95 % interval {low:.1%} to {high:.1%}), so no student can agree with it within "
        f"{_percent(target.max_risk)}; pin the temperature, sharpen the prompt or accept more risk",
        {"self_disagreement": share, "pairs": repeats.pairs},
    )


def shifted(development: Floats, calibration: Floats, what: str) -> Refusal | None:
    """Refuse when held-out training rows and calibration rows plainly differ in a measure.

    Kolmogorov-Smirnov: a distance of 0.2 or more with p under 0.001, so that neither a small
    drift in much data nor chance in little data refuses.
    """
    if min(len(development), len(calibration)) < 20:
        return None
    found = stats.ks_2samp(development, calibration)
    distance, p_value = float(found.statistic), float(found.pvalue)
    if distance < SHIFT_DISTANCE or p_value >= SHIFT_P_VALUE:
        return None
    return Refusal(
        RefusalReason.SHIFTED_GROUPS,
        f"the calibration rows are not like the training rows: {what} differs by a "
        f"Kolmogorov-Smirnov distance of {distance:.2f} (p = {p_value:.1g}); a promise from them "
        "would not hold for what comes next; collect rows of the new kind and distil again",
        {"distance": distance, "p_value": p_value},
    )


def too_few_groups(n_groups: int, target: Target, delta: float) -> Refusal | None:
    """Refuse when rows come in declared groups, and too few groups stand behind the promise.

    Rows of one group are alike, so the unit of evidence about a group never seen before is the
    group: with m groups without a bad one, a share of bad groups of max_risk cannot be excluded
    while (1 - max_risk)^m > delta.
    """
    needed = math.ceil(math.log(delta) / math.log1p(-target.max_risk))
    if n_groups >= needed:
        return None
    return Refusal(
        RefusalReason.SHIFTED_GROUPS,
        f"the calibration rows come from {n_groups} groups that training never saw; a promise for "
        f"traffic with unseen groups needs at least {needed} of them; collect more groups, or "
        "declare a finer one with --group-by",
        {"groups": n_groups, "groups_needed": needed},
    )


def closed_gate(
    gate: Gate,
    scores: Floats,
    disagreements: npt.NDArray[np.bool_],
    target: Target,
    repeats: Repeats = NO_REPEATS,
) -> Refusal:
    """Say why no level qualified: a noisy teacher, or a student that is not good enough.

    A student that has learnt a pattern is right where it is sure, so its disagreement falls
    towards the surest rows. Noise of the teacher does not: when the surest quarter disagrees more
    than half as often as all rows, and more than max_risk, the answers do not follow from the
    text; unless the teacher's own repeats say that it is steadier than that.
    """
    order = np.argsort(-scores, kind="stable")[: max(1, int(len(scores) * FIRST_COVERAGE))]
    wrong, n = int(disagreements[order].sum()), max(1, len(order))
    low, high = exact_interval(wrong, n)
    overall = float(disagreements.mean()) if len(disagreements) else 0.0
    figures = {
        "disagreement": overall,
        "surest_quarter": wrong / n,
        "best_log_e": float(gate.log_e.max()),
    }
    _, own_noise = exact_interval(repeats.pairs - repeats.equal, repeats.pairs)
    if low >= target.max_risk and wrong / n > FLAT * overall and own_noise >= low:
        return Refusal(
            RefusalReason.TEACHER_NOISE,
            f"even among the student's surest quarter the teacher disagrees in {wrong} of {n} rows "
            f"({low:.1%} to {high:.1%}), more than the wanted {_percent(target.max_risk)} and "
            f"hardly less than the {overall:.1%} of all rows: its answers do not follow from the "
            "text; ask it some questions twice to see its noise, pin its temperature or its prompt",
            figures,
        )
    return Refusal(
        RefusalReason.NO_LEVEL_QUALIFIES,
        f"no threshold keeps disagreement under {_percent(target.max_risk)} with the wanted "
        f"confidence: the student disagrees in {overall:.1%} of the calibration rows and in "
        f"{wrong / n:.1%} of its surest quarter; more rows, a better encoder or more accepted risk "
        "may change that",
        figures,
    )


def _percent(share: float) -> str:
    """A share as the user gave it: 5% or 2.5%, not 2%."""
    return f"{100 * share:.4g}%"
