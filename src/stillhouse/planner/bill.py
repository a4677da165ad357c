"""What a request and a month cost with and without the student, as the figures at hand say."""

from __future__ import annotations

from dataclasses import dataclass

from stillhouse.core.learning import Certificate
from stillhouse.core.money import Avoided, Paid
from stillhouse.planner.cashflow import (
    break_even_error_price,
    campaign_cost,
    jobs_cost,
    retrain_months,
    saving_per_request,
    upkeep_per_month,
)
from stillhouse.planner.chance import central
from stillhouse.planner.inputs import PlanInputs


@dataclass(frozen=True, slots=True)
class Bill:
    """Today's bill beside the one with the student in front, without uncertainty.

    Avoided money is teacher calls that the student makes unnecessary, at `saving_basis`; it never
    stands in the books. `marginal_cost_per_request` is the cascade's without upkeep and campaign.
    The break-even error price is None where no error is expected, 0 where there is no saving;
    `error_price_at_promised_risk` is the same at the risk that the certificate allows.
    """

    requests_per_month: float
    teacher_cost_per_request: Paid
    current_spend_per_month: Paid
    saving_per_request: Avoided
    saving_basis: str
    marginal_cost_per_request: Paid
    avoided_per_month: Avoided
    running_cost_per_month: Paid
    error_cost_per_month: Paid
    break_even_error_price: Paid | None
    error_price_at_promised_risk: Paid | None


def bill(inputs: PlanInputs) -> Bill:
    """Reckon the bill at the counted rates and the volume and price of today."""
    now, currency = central(inputs), inputs.currency
    accept, disagree = float(now.accept_rate[0]), float(now.disagreement_rate[0])
    requests, price_per_error = inputs.volume.requests_per_month, float(inputs.price_per_error)
    avoided = accept * (1 - inputs.shadow_share) * float(inputs.teacher.per_request)
    serving = requests * inputs.serving.cost_per_request + float(upkeep_per_month(inputs, now)[0])
    saving = _saving(inputs, accept, disagree, price_per_error)
    return Bill(
        requests_per_month=requests,
        teacher_cost_per_request=inputs.teacher.per_request,
        current_spend_per_month=Paid.of(requests * float(inputs.teacher.per_request), currency),
        saving_per_request=Avoided.of(saving, currency),
        saving_basis=f"teacher calls avoided, as {inputs.teacher.basis}; {inputs.volume.basis}",
        marginal_cost_per_request=Paid.of(_marginal_cost(inputs), currency),
        avoided_per_month=Avoided.of(requests * avoided, currency),
        running_cost_per_month=Paid.of(serving, currency),
        error_cost_per_month=Paid.of(requests * accept * disagree * price_per_error, currency),
        break_even_error_price=_error_price(inputs, accept, disagree),
        error_price_at_promised_risk=_error_price(inputs, accept, _promised_risk(inputs)),
    )


def fully_loaded_cost(inputs: PlanInputs) -> Paid | None:
    """Share campaign, retrains and upkeep of the horizon out over its requests (E7).

    Everything goes as the figures at hand say, undiscounted; None where not one request is asked.
    """
    now, horizon = central(inputs), inputs.horizon_months
    requests = inputs.volume.requests_per_month * horizon
    if requests < 1:
        return None
    retrains = len(retrain_months(inputs, horizon)) * jobs_cost(inputs, now)
    shared = campaign_cost(inputs, now) + retrains + upkeep_per_month(inputs, now) * horizon
    return Paid.of(_marginal_cost(inputs) + float(shared[0]) / requests, inputs.currency)


def _saving(inputs: PlanInputs, accept: float, disagree: float, price_per_error: float) -> float:
    saving = saving_per_request(
        accept_rate=accept,
        shadow_share=inputs.shadow_share,
        teacher_cost=float(inputs.teacher.per_request),
        student_cost=inputs.serving.cost_per_request,
        price_per_error=price_per_error,
        disagreement_rate=disagree,
    )
    return float(saving)


def _marginal_cost(inputs: PlanInputs) -> float:
    deferred = 1 - float(central(inputs).accept_rate[0]) * (1 - inputs.shadow_share)
    return deferred * float(inputs.teacher.per_request) + inputs.serving.cost_per_request


def _promised_risk(inputs: PlanInputs) -> float:
    return inputs.student.max_risk if isinstance(inputs.student, Certificate) else 0.0


def _error_price(inputs: PlanInputs, accept: float, disagree: float) -> Paid | None:
    price = break_even_error_price(_saving(inputs, accept, disagree, 0.0), accept, disagree)
    return None if price is None else Paid.of(price, inputs.currency)
