"""Climbs from the cheapest recipe to the dearest, and says which one to certify.

Nothing here sees a calibration or test row: rungs are compared on training rows held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from stillhouse.core.learning import Row, Target, TrainSet
from stillhouse.core.ports import Recipe, Rehearsal, Student
from stillhouse.risk.certificate import grid, reachable_accept_rate
from stillhouse.risk.evidence import Floats

FORECAST_NOISE = 0.02
"""Forecasts of the accept rate closer than this say nothing; then the log loss decides."""
NEARLY_ALL = 0.98
"""A forecast accept rate from which on no dearer rung is worth its time."""
CURVE_SHARES = (0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Rung:
    """One recipe and what its rehearsal says: agreement, and the accept rate to hope for.

    `scores` and `disagreements` are of shape [held out rows]; `levels` is the grid of thresholds
    that the gate will walk. `log_loss` is the mean over the rows with a known label.
    """

    recipe: str
    rehearsal: Rehearsal
    scores: Floats
    disagreements: npt.NDArray[np.bool_]
    levels: Floats
    agreement: float
    forecast_accept_rate: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a share of the training rows would have given."""

    rows: int
    agreement: float
    forecast_accept_rate: float


def rung(
    recipe: str,
    rehearsal: Rehearsal,
    held_out: Sequence[Row],
    labels: Sequence[str],
    target: Target,
    delta: float,
) -> Rung:
    """Judge a rehearsal."""
    logits = np.asarray(rehearsal.logits, dtype=np.float64)
    log_p = special.log_softmax(logits, axis=1)
    rows, best = np.arange(len(logits)), logits.argmax(axis=1)
    scores = np.exp(log_p[rows, best])
    wrong = np.array([labels[b] != row.label for b, row in zip(best, held_out, strict=True)])
    place = {label: number for number, label in enumerate(labels)}
    known = [(i, place[row.label]) for i, row in enumerate(held_out) if row.label in place]
    return Rung(
        recipe=recipe,
        rehearsal=rehearsal,
        scores=scores,
        disagreements=wrong,
        levels=grid(scores),
        agreement=1 - float(wrong.mean()),
        forecast_accept_rate=reachable_accept_rate(scores, wrong, target.max_risk, delta),
        log_loss=float(np.mean([-log_p[i, truth] for i, truth in known])) if known else math.inf,
    )


def chosen(rungs: Sequence[Rung]) -> Rung:
    """The rung to certify: a dearer one must be forecast to accept more, or predict better.

    Log loss on the rows held out is far steadier than the forecast made from the same rows, so it
    decides between rungs whose forecasts differ by no more than noise. Not where the cheaper one is
    forecast to answer nearly everything: it does so at a twentieth of the time.
    """
    best = rungs[0]
    for higher in rungs[1:]:
        gain = higher.forecast_accept_rate - best.forecast_accept_rate
        enough = best.forecast_accept_rate >= NEARLY_ALL
        better = higher.log_loss < best.log_loss and gain > -FORECAST_NOISE and not enough
        if gain >= FORECAST_NOISE or better:
            best = higher
    return best


def fit(
    name: str,
    recipes: Mapping[str, Recipe],
    rehearsals: Mapping[str, Rehearsal],
    train: TrainSet,
    labels: tuple[str, ...],
    seed: int,
) -> Student:
    """Fit a recipe on all training rows, its voices first."""
    recipe = recipes[name]
    below = {v: fit(v, recipes, rehearsals, train, labels, seed) for v in recipe.voices}
    return recipe.fit(train, labels, seed, rehearsals[name], below)


def rehearse(
    name: str,
    recipes: Mapping[str, Recipe],
    train: TrainSet,
    held_out: TrainSet,
    labels: tuple[str, ...],
    seed: int,
) -> Rehearsal:
    """Rehearse a recipe alone, its voices first: a point of the learning curve."""
    recipe = recipes[name]
    below = {v: rehearse(v, recipes, train, held_out, labels, seed) for v in recipe.voices}
    return recipe.rehearse(train, held_out, labels, seed, below)


def first_share(train: TrainSet, share: float) -> TrainSet:
    """The first rows in time, as a young log would have held them."""
    return TrainSet(train.rows[: max(1, round(share * len(train.rows)))])
