"""Saving per request, money month by month, break-even (E5, E7, E8, E10 of the economics).

Plain floats in units of the plan's currency; arrays are of shape [draws] or [draws, months].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillhouse.planner.chance import Draws, FloatArray
from stillhouse.planner.inputs import PlanInputs

SCAN_MONTHS = 60
"""A break-even that takes longer than five years counts as never."""


def saving_per_request(
    *,
    accept_rate: FloatArray | float,
    shadow_share: float,
    teacher_cost: FloatArray | float,
    student_cost: float,
    price_per_error: float,
    disagreement_rate: FloatArray | float,
) -> FloatArray:
    """What one request costs less with the student in front of the teacher (E8).

    >>> saving = saving_per_request(
    ...     accept_rate=0.8, shadow_share=0.02, teacher_cost=0.004, student_cost=0.0001,
    ...     price_per_error=0.0, disagreement_rate=0.02)
    >>> round(float(saving), 6)
    0.003036
    """
    errors = price_per_error * np.multiply(accept_rate, disagreement_rate)
    avoided = np.multiply(accept_rate, teacher_cost) * (1 - shadow_share)
    return np.asarray(avoided - student_cost - errors, dtype=np.float64)


def break_even_error_price(
    saving_without_errors: float, accept_rate: float, disagreement_rate: float
) -> float | None:
    """The price of an error at which the saving vanishes (lambda* of E8).

    0 where there is no saving to lose; None where no error is expected, so that none eats it.

    >>> round(break_even_error_price(0.003036, 0.8, 0.02), 2)
    0.19
    """
    if saving_without_errors <= 0:
        return 0.0
    errors = accept_rate * disagreement_rate
    return saving_without_errors / errors if errors > 0 else None


@dataclass(frozen=True, slots=True)
class Cash:
    """Discounted money by month: [draws, months]. `start` is the balance after a month's outlay.

    `net` is what the month itself brings, evenly spread over it.
    """

    start: FloatArray
    net: FloatArray

    @property
    def end(self) -> FloatArray:
        """The balance when each month is over."""
        return self.start + self.net

    def break_even_months(self) -> FloatArray:
        """When the balance first reaches zero, in months; infinite where it never does (E10)."""
        reached = (self.end >= 0) & (self.net > 0)
        first = np.argmax(reached, axis=1)
        rows = np.arange(len(first))
        gain = np.where(reached.any(axis=1), self.net[rows, first], np.nan)
        months = first + np.maximum(-self.start[rows, first], 0) / gain
        return np.where(np.isnan(months), np.inf, months)


def jobs_cost(inputs: PlanInputs, draws: Draws) -> FloatArray:
    """What training takes until something serves, failed runs included (E5, E11): [draws].

    The metered jobs are the least it costs; while own campaigns are few, the runs that ended well
    are multiplied by what such runs take elsewhere.
    """
    return np.maximum(inputs.jobs_cost, inputs.useful_jobs_cost * draws.training)


def campaign_cost(inputs: PlanInputs, draws: Draws) -> FloatArray:
    """K of E5: training, labels bought for it, people's hours to set it up: [draws]."""
    labels = float(inputs.labels_paid) + float(inputs.labels_to_buy)
    return jobs_cost(inputs, draws) + labels + inputs.people.setup_cost


def upkeep_per_month(inputs: PlanInputs, draws: Draws) -> FloatArray:
    """Idle share of the server, monitoring and people, used or not (`carry` of E10): [draws].

    Idle is the remainder: the floor less what answering uses of it.
    """
    used = inputs.volume.requests_per_month * draws.volume * inputs.serving.cost_per_request
    idle = np.maximum(inputs.serving.floor_per_month - used, 0)
    return idle + float(inputs.serving.monitoring_per_month) + inputs.people.cost_per_month


def retrain_months(inputs: PlanInputs, months: int) -> list[int]:
    """The months that begin with a retrain: every N-th, the first one never."""
    every = inputs.retrain_every_months
    return list(range(every, months, every)) if every else []


def cash(inputs: PlanInputs, draws: Draws, months: int) -> Cash:
    """Follow the money of every future, month by month.

    A retrain repeats the training jobs; its labels are the answers to deferred and shadow requests,
    which are paid for already.
    """
    middle = (np.arange(months) + 0.5) / 12
    fall = np.exp(-inputs.prices.fall_per_year * middle)
    price = float(inputs.teacher.per_request) * draws.teacher_price[:, None] * fall
    saving = saving_per_request(
        accept_rate=draws.accept_rate[:, None],
        shadow_share=inputs.shadow_share,
        teacher_cost=price,
        student_cost=inputs.serving.cost_per_request,
        price_per_error=float(inputs.price_per_error),
        disagreement_rate=draws.disagreement_rate[:, None],
    )
    requests = inputs.volume.requests_per_month * draws.volume
    net = requests[:, None] * saving - upkeep_per_month(inputs, draws)[:, None]
    net *= np.exp(-inputs.discount_per_year * middle)

    outlay = np.zeros_like(net)
    outlay[:, 0] = campaign_cost(inputs, draws)
    for month in retrain_months(inputs, months):
        discount = np.exp(-inputs.discount_per_year * month / 12)
        outlay[:, month] = jobs_cost(inputs, draws) * discount
    start = np.cumsum(net, axis=1) - net - np.cumsum(outlay, axis=1)
    return Cash(start, net)
