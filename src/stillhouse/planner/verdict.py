"""Whether to distil, in one word, one sentence and what would change the answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from stillhouse.core.learning import Refusal
from stillhouse.core.traffic import Evidence
from stillhouse.planner.forecast import Figures, forecast
from stillhouse.planner.inputs import PlanInputs
from stillhouse.planner.wording import (
    count_text,
    days_text,
    money_text,
    per_thousand_text,
    percent_text,
)

LIKELY = 0.8
"""Chance of breaking even within the horizon from which on the verdict is to distil."""

UNLIKELY = 0.2
"""Chance up to which the verdict is not to."""

NOT_COUNTED = (
    "latency",
    "where the data may go",
    "independence from the teacher's vendor",
)


class Verdict(StrEnum):
    """What the plan says, as far as money goes."""

    DISTIL = "distil"
    DO_NOT_DISTIL = "do_not_distil"
    CANNOT_SAY = "cannot_say"


@dataclass(frozen=True, slots=True)
class Plan:
    """The verdict on one task with all it rests on; reasons in `not_counted` weigh nothing here."""

    inputs: PlanInputs
    figures: Figures
    verdict: Verdict
    sentence: str
    what_would_change_it: tuple[str, ...]
    evidence: Evidence
    not_counted: tuple[str, ...] = NOT_COUNTED


def plan(inputs: PlanInputs, rng: np.random.Generator) -> Plan:
    """Say whether distilling the task pays, from which volume on, and what would change that.

    Everything follows from the inputs and the state of `rng`: the same seed gives the same plan.

    >>> from stillhouse.core.money import Paid
    >>> from stillhouse.planner.inputs import TeacherCost
    >>> from stillhouse.planner.volume import stated_volume
    >>> cheap = TeacherCost(Paid.of("6.08e-6"), "billed")
    >>> inputs = PlanInputs("intents", stated_volume(100_000), cheap, student=None)
    >>> plan(inputs, np.random.default_rng(0)).verdict.value
    'do_not_distil'
    """
    figures = forecast(inputs, rng)
    verdict = _verdict(inputs, figures)
    sentence = {
        Verdict.DISTIL: _why_distil,
        Verdict.DO_NOT_DISTIL: _why_not,
        Verdict.CANNOT_SAY: _why_open,
    }[verdict](inputs, figures)
    changes = tuple(_changes(inputs, figures))
    return Plan(inputs, figures, verdict, sentence, changes, inputs.evidence)


def _verdict(inputs: PlanInputs, figures: Figures) -> Verdict:
    """Read the verdict off the odds, but never promise what the counts at hand do not show.

    With few held-out rows the odds rest on the flat prior; so the counted rates must save too.
    """
    chance = figures.with_people.probability
    if isinstance(inputs.student, Refusal) or chance <= UNLIKELY:
        return Verdict.DO_NOT_DISTIL
    gains = figures.with_people.net_value.p50.pico > 0 and figures.bill.saving_per_request.pico > 0
    if inputs.student is None or chance < LIKELY or not gains:
        return Verdict.CANNOT_SAY
    return Verdict.DISTIL


def _why_distil(inputs: PlanInputs, figures: Figures) -> str:
    return (
        f"Distil: {_monthly(figures)}, and {_payback(figures)} "
        f"({_chance(inputs, figures)}); fully loaded a request costs "
        f"{_fully_loaded(figures)} instead of {_teacher_price(figures)} ({inputs.teacher.basis})."
    )


def _why_not(inputs: PlanInputs, figures: Figures) -> str:
    if isinstance(inputs.student, Refusal):
        return f"Do not distil: no student is certified for this task. {inputs.student.sentence}"
    if not figures.bill.requests_per_month:
        return "Do not distil: nobody asks this task, so there is nothing to save."
    best = ", not even for a student that answers everything" if inputs.student is None else ""
    return (
        f"Do not distil for money{best}: the teacher costs {_teacher_price(figures)} requests "
        f"({inputs.teacher.basis}); {_monthly(figures)}, after "
        f"{money_text(figures.campaign_cost.p50)} to begin with ({_chance(inputs, figures)})."
    )


def _why_open(inputs: PlanInputs, figures: Figures) -> str:
    if inputs.student is None:
        return (
            "Cannot say yet: no student has been tried. At best, answering everything, "
            f"{_payback(figures)} ({_chance(inputs, figures)}): distil, then plan again."
        )
    value = figures.with_people.net_value
    return (
        f"Cannot say: {_monthly(figures)}, which leaves between {money_text(value.p10)} and "
        f"{money_text(value.p90)} over {inputs.horizon_months} months "
        f"({_chance(inputs, figures)})."
    )


def _teacher_price(figures: Figures) -> str:
    return per_thousand_text(figures.bill.teacher_cost_per_request)


def _monthly(figures: Figures) -> str:
    errors = figures.bill.error_cost_per_month
    also = f" and {money_text(errors)} of errors" if errors else ""
    return (
        f"{figures.bill.requests_per_month:,.0f} requests a month avoid "
        f"{money_text(figures.bill.avoided_per_month)} of teacher calls for "
        f"{money_text(figures.bill.running_cost_per_month)} of serving and upkeep{also}"
    )


def _payback(figures: Figures) -> str:
    days = figures.with_people.break_even_days
    return (
        f"the {money_text(figures.campaign_cost.p50)} to begin with is back in "
        f"{days_text(days.p50)} (P10 {days_text(days.p10)}, P90 {days_text(days.p90)})"
    )


def _chance(inputs: PlanInputs, figures: Figures) -> str:
    chance = percent_text(figures.with_people.probability)
    return f"chance of break-even within {inputs.horizon_months} months: {chance}"


def _fully_loaded(figures: Figures) -> str:
    cost = figures.with_people.fully_loaded_cost_per_request
    return per_thousand_text(cost) if cost is not None else "nothing"


def _changes(inputs: PlanInputs, figures: Figures) -> list[str]:
    """What would turn the verdict, the nearest thing to act on first."""
    if isinstance(inputs.student, Refusal):
        return ["A certificate: while none is given, no volume and no teacher's price changes it."]
    return [
        *_volume_change(inputs, figures),
        *_teacher_change(inputs, figures),
        *_error_change(figures),
        *_people_change(inputs, figures),
        *_measurement(figures),
    ]


def _volume_change(inputs: PlanInputs, figures: Figures) -> list[str]:
    threshold = figures.pays_from_requests_per_month
    if threshold is None:
        return ["Volume: none changes it; a request costs more with the student than without."]
    return [
        f"Volume: from about {count_text(threshold)} requests a month on, "
        f"{_likely_to_pay(inputs)}; here it is {inputs.volume.basis}."
    ]


def _teacher_change(inputs: PlanInputs, figures: Figures) -> list[str]:
    threshold = figures.pays_from_teacher_cost_per_request
    if threshold is None:
        return []
    return [
        f"Teacher's price: from about {per_thousand_text(threshold)} requests on, at this volume, "
        f"{_likely_to_pay(inputs)}; it is {_teacher_price(figures)}, {inputs.teacher.basis}."
    ]


def _likely_to_pay(inputs: PlanInputs) -> str:
    return f"break-even within {inputs.horizon_months} months is more likely than not"


def _error_change(figures: Figures) -> list[str]:
    price = figures.bill.break_even_error_price
    if not price:
        return []
    promised = figures.bill.error_price_at_promised_risk
    bound = f" ({money_text(promised)} at the risk that is promised)" if promised else ""
    return [f"Errors: the saving is gone if each one costs {money_text(price)}{bound}."]


def _people_change(inputs: PlanInputs, figures: Figures) -> list[str]:
    alone, together = figures.automatic.probability, figures.with_people.probability
    if alone - together < 0.01:
        return []
    return [
        f"People's time: if it is not counted, the chance of break-even within "
        f"{inputs.horizon_months} months is {percent_text(alone)}, not {percent_text(together)}."
    ]


def _measurement(figures: Figures) -> list[str]:
    if not figures.sensitivity or not UNLIKELY < figures.with_people.probability < LIKELY:
        return []
    name, share = figures.sensitivity[0]
    return [f"Uncertainty: {share:.0%} of the spread comes from {name}; learn more about it first."]
