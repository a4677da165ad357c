"""What is not known about the future, as draws (E11 of the economics)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from stillhouse.core.learning import Refusal
from stillhouse.planner.inputs import CAMPAIGNS_TO_TRUST, PlanInputs

FloatArray = NDArray[np.float64]

USEFUL_SHARE = (0.21, 0.51)
"""Share of machine time that belongs to jobs that completed, over four published clusters."""


@dataclass(frozen=True, slots=True)
class Draws:
    """Possible futures: five arrays of shape [draws]; the first three multiply what is planned."""

    volume: FloatArray
    teacher_price: FloatArray
    training: FloatArray
    accept_rate: FloatArray
    disagreement_rate: FloatArray


def draw(inputs: PlanInputs, rng: np.random.Generator, size: int) -> Draws:
    """Draw `size` futures; the same generator state gives the same futures.

    The three factors come first and use the same amount of chance whatever the inputs are, so that
    two plans from one seed differ by their inputs and not by their luck.
    """
    volume = np.exp(inputs.volume.log_spread * rng.standard_normal(size))
    price = rng.choice(np.array(inputs.prices.jumps, dtype=np.float64), size)
    training = 1 / rng.uniform(*USEFUL_SHARE, size)
    if inputs.own_campaigns >= CAMPAIGNS_TO_TRUST:
        training = np.ones(size)
    accept, disagree = _accept_rates(inputs, rng, size)
    return Draws(volume, price, training, accept, disagree)


def _accept_rates(
    inputs: PlanInputs, rng: np.random.Generator, size: int
) -> tuple[FloatArray, FloatArray]:
    """Beta posteriors of the counts under a flat prior; without counts, what `central` says."""
    counts = inputs.counts
    if counts is None:
        rates = central(inputs)
        return np.repeat(rates.accept_rate, size), np.repeat(rates.disagreement_rate, size)
    accept = rng.beta(counts.n_accepted + 1, counts.n - counts.n_accepted + 1, size)
    agreed = counts.n_accepted - counts.n_disagreements
    return accept, rng.beta(counts.n_disagreements + 1, agreed + 1, size)


def central(inputs: PlanInputs) -> Draws:
    """The one future in which everything goes as the figures at hand say: arrays of shape [1].

    A refused student accepts nothing. One that nobody has tried is taken to accept everything and
    never to differ: the most that distilling could return.
    """
    counts = inputs.counts
    if counts is None:
        accept, disagree = (0.0 if isinstance(inputs.student, Refusal) else 1.0), 0.0
    else:
        accept = counts.n_accepted / counts.n if counts.n else 0.0
        disagree = counts.n_disagreements / counts.n_accepted if counts.n_accepted else 0.0
    settled = inputs.own_campaigns >= CAMPAIGNS_TO_TRUST
    training = 1.0 if settled else 2 / sum(USEFUL_SHARE)
    return Draws(*(np.array([value]) for value in (1.0, 1.0, training, accept, disagree)))


def variance_shares(draws: Draws, outcome: FloatArray) -> tuple[tuple[str, float], ...]:
    """Name the uncertain inputs, the one that moves the outcome most first; the shares sum to 1.

    A share is the squared correlation of the input's logarithm with the outcome: a first-order
    figure, enough to say which input to measure next (E14). Empty where nothing varies.
    """
    squares: dict[str, float] = {}
    for part in fields(draws):
        values: FloatArray = getattr(draws, part.name)
        if np.ptp(values) > 0 and np.ptp(outcome) > 0:
            correlation = np.corrcoef(np.log(values), outcome)[0, 1]
            squares[part.name.replace("_", " ")] = float(correlation**2)
    total = sum(squares.values())
    shares = ((name, square / total) for name, square in squares.items() if total > 0)
    return tuple(sorted(shares, key=lambda share: -share[1]))
