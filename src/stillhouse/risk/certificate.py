"""The gate: which threshold may a frozen student serve at, if any.

A wrong threshold is served only if the first true null in the order of the levels reaches its
bar, which happens with probability at most delta over all looks; no monotonicity is assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillhouse.risk.evidence import Floats, aimed_risk, highest_log_e_value

FIRST_COVERAGE = 0.25
"""Where the sequence starts: stricter levels are skipped by plan, not by result."""
LEVELS = 76
"""One level per point of coverage from 25 % to 100 %: a sequence pays nothing for more levels."""
SPREAD_LEVELS = 12
SPREAD_SHARE = 0.1
"""Part of delta for twelve levels tested side by side, in case an early one blocks the rest."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the calibration rows allow: a threshold, or None.

    `log_e` holds the highest log evidence per level of `levels`, loosest last.
    """

    threshold: float | None
    levels: Floats
    log_e: Floats
    delta: float
    n_rows: int
    n_accepted: int
    n_disagreements: int


def grid(development_scores: npt.ArrayLike, levels: int = LEVELS) -> Floats:
    """Thresholds from strict to loose, by coverage of rows that the gate will not see.

    >>> grid([0.1, 0.2, 0.3, 0.4], levels=4).round(3).tolist()
    [0.325, 0.25, 0.175, 0.1]
    """
    coverage = np.linspace(FIRST_COVERAGE, 1.0, levels)
    scores = np.asarray(development_scores, dtype=np.float64)
    return np.quantile(scores, 1 - coverage).astype(np.float64)


def open_gate(
    scores: Floats,
    disagreements: npt.NDArray[np.bool_],
    levels: Floats,
    max_risk: float,
    delta: float,
    planned_rows: int | None = None,
) -> Gate:
    """Find the loosest threshold that the calibration stream certifies at `delta`.

    `scores` and `disagreements` are of shape [rows] and in stream order; `levels` come from
    `grid` and must not depend on these rows. A level counts as crossed once its evidence has
    reached the bar after any row. Whoever looks again as the stream grows passes the same
    `planned_rows` every time: it sets what the evidence aims at, and must not follow the data.
    """
    planned = len(scores) if planned_rows is None else planned_rows
    sequence_delta = delta * (1 - SPREAD_SHARE)
    coverage = np.linspace(FIRST_COVERAGE, 1.0, len(levels))
    log_e = np.array(
        [
            highest_log_e_value(
                disagreements[scores >= level],
                max_risk,
                aimed_risk(share * planned, max_risk, sequence_delta),
            )
            for level, share in zip(levels, coverage, strict=True)
        ]
    )
    crossed = log_e >= math.log(1 / sequence_delta)
    reach = len(levels) if crossed.all() else int(crossed.argmin())
    found = [levels[reach - 1]] if reach else []
    spread = np.unique(np.linspace(0, len(levels) - 1, SPREAD_LEVELS).round().astype(int))
    spread_bar = math.log(len(spread) / (delta * SPREAD_SHARE))
    found += [levels[i] for i in spread if log_e[i] >= spread_bar]
    threshold = float(min(found)) if found else None
    accepted = scores >= threshold if threshold is not None else np.zeros(len(scores), dtype=bool)
    return Gate(
        threshold=threshold,
        levels=levels,
        log_e=log_e,
        delta=delta,
        n_rows=len(scores),
        n_accepted=int(accepted.sum()),
        n_disagreements=int(disagreements[accepted].sum()),
    )


def calibration_rows_needed(max_risk: float, delta: float) -> int:
    """Calibration rows from which on a flawless student would pass the gate.

    The strictest level of the sequence sees a quarter of the rows, so this is more than the rows
    that one level needs; the levels side by side often pass first.

    >>> from stillhouse.risk.budget import error_budget
    >>> calibration_rows_needed(0.05, error_budget(0.05, 1))
    224
    """

    def passes(rows: int) -> bool:
        scores = np.linspace(0.0, 1.0, rows)
        flawless = np.zeros(rows, dtype=bool)
        return open_gate(scores, flawless, grid(scores), max_risk, delta).threshold is not None

    low, high = 0, 64
    while not passes(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def risk_curve(
    scores: Floats, disagreements: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    """Accept rate, risk among the accepted and threshold, for every cut from strict to loose."""
    order = np.argsort(-scores, kind="stable")
    seen = np.arange(1, len(scores) + 1)
    return seen / len(scores), np.cumsum(disagreements[order]) / seen, scores[order]


def reachable_accept_rate(
    scores: Floats, disagreements: npt.NDArray[np.bool_], max_risk: float, delta: float
) -> float:
    """What the gate would accept of these rows: the yardstick for choosing between recipes.

    Optimistic where rows chose the recipe, so it is a forecast and never a promise.
    """
    gate = open_gate(scores, disagreements, grid(scores), max_risk, delta)
    return gate.n_accepted / gate.n_rows if gate.n_rows else 0.0
