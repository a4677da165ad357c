"""What distilling one task would cost and return, as ranges: figures without an opinion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from stillhouse.core.money import Avoided, Money, Paid
from stillhouse.planner.bill import Bill, bill, fully_loaded_cost
from stillhouse.planner.cashflow import SCAN_MONTHS, Cash, campaign_cost, cash
from stillhouse.planner.chance import Draws, FloatArray, draw, variance_shares
from stillhouse.planner.inputs import NOBODY, PlanInputs
from stillhouse.planner.volume import DAYS_PER_MONTH

DRAWS = 4000
"""Futures per plan: a probability is then within 1.6 points of its value 19 times in 20."""

EVEN_CHANCE = 0.5
"""Chance of breaking even within the horizon from which on distilling is said to pay."""

_VOLUMES = (1.0, 1e12)
_TEACHER_COSTS = (1e-9, 1e3)

T = TypeVar("T")
M = TypeVar("M", bound=Money)


@dataclass(frozen=True, slots=True)
class Quantiles(Generic[T]):
    """One time in ten it is under `p10`, half the time under `p50`, nine in ten under `p90`."""

    p10: T
    p50: T
    p90: T

    def map(self, change: Callable[[T], M]) -> Quantiles[M]:
        """The same quantiles in another unit; `change` must not turn the order round."""
        return Quantiles(change(self.p10), change(self.p50), change(self.p90))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it would end: fully loaded cost per request, break-even (infinite: never), net value."""

    fully_loaded_cost_per_request: Paid | None
    break_even_requests: Quantiles[float]
    break_even_days: Quantiles[float]
    probability: float
    net_value: Quantiles[Avoided]


@dataclass(frozen=True, slots=True)
class FanPoint:
    """The balance after so many months, for a chart."""

    month: int
    net: Quantiles[Avoided]


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything a plan reckons: today's bill, and ranges for what is not known.

    `already_spent` is gone whatever is decided; the break-even counts it all the same.
    `sensitivity` names the uncertain inputs with their shares of the spread, the largest first.
    The thresholds are where break-even within the horizon is as likely as not; None: nowhere.
    """

    bill: Bill
    campaign_cost: Quantiles[Paid]
    already_spent: Paid
    with_people: Outcome
    automatic: Outcome
    sensitivity: tuple[tuple[str, float], ...]
    pays_from_requests_per_month: float | None
    pays_from_teacher_cost_per_request: Paid | None
    fan: tuple[FanPoint, ...]


def forecast(inputs: PlanInputs, rng: np.random.Generator) -> Figures:
    """Reckon a task's plan; the same inputs and generator state give the same figures."""
    draws = draw(inputs, rng, DRAWS)
    cascade = _scan(inputs, draws)
    alone = replace(inputs, people=NOBODY)
    campaign = _quantiles(campaign_cost(inputs, draws))
    return Figures(
        bill=bill(inputs),
        campaign_cost=campaign.map(lambda cost: Paid.of(cost, inputs.currency)),
        already_spent=Paid.of(inputs.jobs_cost + float(inputs.labels_paid), inputs.currency),
        with_people=_outcome(inputs, draws, cascade),
        automatic=_outcome(alone, draws, _scan(alone, draws)),
        sensitivity=variance_shares(draws, cascade.end[:, inputs.horizon_months - 1]),
        pays_from_requests_per_month=_paying_volume(inputs, draws),
        pays_from_teacher_cost_per_request=_paying_teacher_cost(inputs, draws),
        fan=_fan(inputs, cascade),
    )


def _scan(inputs: PlanInputs, draws: Draws) -> Cash:
    return cash(inputs, draws, max(SCAN_MONTHS, inputs.horizon_months))


def _outcome(inputs: PlanInputs, draws: Draws, cascade: Cash) -> Outcome:
    days = cascade.break_even_months() * DAYS_PER_MONTH
    per_day = inputs.volume.requests_per_month * draws.volume / DAYS_PER_MONTH
    requests = np.where(np.isinf(days), np.inf, np.nan_to_num(days, posinf=0.0) * per_day)
    value = cascade.end[:, inputs.horizon_months - 1]
    return Outcome(
        fully_loaded_cost_per_request=fully_loaded_cost(inputs),
        break_even_requests=_quantiles(requests),
        break_even_days=_quantiles(days),
        probability=float(np.mean(days <= inputs.horizon_months * DAYS_PER_MONTH)),
        net_value=_avoided(inputs, value),
    )


def _fan(inputs: PlanInputs, cascade: Cash) -> tuple[FanPoint, ...]:
    """The balance at the outset and after each month of the horizon."""
    balances = [cascade.start[:, 0], *cascade.end[:, : inputs.horizon_months].T]
    return tuple(FanPoint(month, _avoided(inputs, net)) for month, net in enumerate(balances))


def _quantiles(values: FloatArray) -> Quantiles[float]:
    """Quantiles that are values themselves, so that an infinite one stays infinite."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), method="inverted_cdf")
    return Quantiles(float(low), float(middle), float(high))


def _avoided(inputs: PlanInputs, values: FloatArray) -> Quantiles[Avoided]:
    return _quantiles(values).map(lambda amount: Avoided.of(amount, inputs.currency))


def _pays(inputs: PlanInputs, draws: Draws) -> bool:
    months = cash(inputs, draws, inputs.horizon_months).break_even_months()
    return bool(np.mean(np.isfinite(months)) >= EVEN_CHANCE)


def _paying_volume(inputs: PlanInputs, draws: Draws) -> float | None:
    def pays(requests_per_month: float) -> bool:
        volume = replace(inputs.volume, requests_per_month=requests_per_month)
        return _pays(replace(inputs, volume=volume), draws)

    return _least(pays, *_VOLUMES)


def _paying_teacher_cost(inputs: PlanInputs, draws: Draws) -> Paid | None:
    def pays(cost: float) -> bool:
        per_request = Paid.of(cost, inputs.currency)
        return _pays(
            replace(inputs, teacher=replace(inputs.teacher, per_request=per_request)), draws
        )

    cost = _least(pays, *_TEACHER_COSTS)
    return None if cost is None else Paid.of(cost, inputs.currency)


def _least(holds: Callable[[float], bool], low: float, high: float) -> float | None:
    """The least value, to a thousandth of itself, from which on a rising condition holds."""
    if not holds(high):
        return None
    if holds(low):
        return low
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
