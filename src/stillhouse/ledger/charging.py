"""Turns an attempt and its price into charges: exact, one per leaf, never changed afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.errors import CallerError
from stillhouse.core.money import Paid, round_div
from stillhouse.core.traffic import LEAVES, Attempt, Evidence, weakest
from stillhouse.ledger.prices import Amounts, Price

_CHARGED_AS = {"cache_read_tokens": "input_tokens", "reasoning_tokens": "output_tokens"}
"""A leaf without a price of its own is charged as this one; every other leaf is then unpriced."""


_UNITS = {leaf: "tokens" if leaf.endswith("_tokens") else leaf for leaf in (*LEAVES, "requests")}
_COMPUTED, _UNPRICED = CostSource.COMPUTED, CostSource.UNPRICED
_DERIVED = {grade: weakest(grade, Evidence.DERIVED) for grade in Evidence}


def charge(attempt: Attempt, price: Price | None) -> tuple[Charge, ...]:
    """Book an attempt: one charge for each leaf that is not zero, at the price of its instant.

    A cached read without a price of its own is charged as input and reasoning as output, since
    vendors that give no such price bill them so; any other leaf without a price is `unpriced`. An
    attempt whose usage or whose price is unknown is never free: with nothing counted it is one
    unpriced request. The charge ids depend on the attempt and the leaf alone.

    >>> from stillhouse.core.traffic import Usage
    >>> attempt = Attempt("a1", "m", usage=Usage(input_tokens=1000, output_tokens=7))
    >>> price = Price("acme", "m", {"input_tokens": 3 * 10**12})
    >>> [(c.leaf, c.billed, c.cost_source.value) for c in charge(attempt, price)]
    [('input_tokens', Paid('0.003' USD), 'computed'), ('output_tokens', None, 'unpriced')]
    """
    usage = attempt.usage
    amounts: Amounts = {}
    if usage is None or price is None:
        quantities = (usage.leaves() if usage else {}) or {"requests": 1}
        price_id = price.price_id if price else ""
    else:
        quantities, price_id = usage.leaves(), price.price_id
        amounts = price.amounts_at(usage.total_input_tokens) if price.tiers else price.amounts
        if "requests" in amounts:
            quantities["requests"] = 1
    attempt_id, evidence = attempt.attempt_id, attempt.evidence
    derived = _DERIVED[evidence]
    charges = []
    for leaf, quantity in quantities.items():
        amount = amounts.get(leaf)
        if amount is None:
            amount = amounts.get(_CHARGED_AS.get(leaf, leaf))
        charge_id, unit = f"{attempt_id}:{leaf}", _UNITS[leaf]
        if amount is None:
            charges.append(
                Charge(charge_id, attempt_id, leaf, quantity, unit, None, _UNPRICED, evidence)
            )
        else:
            cost = Paid(round_div(quantity * amount, 1_000_000))
            charges.append(
                Charge(
                    charge_id, attempt_id, leaf, quantity, unit, cost, _COMPUTED, derived, price_id
                )
            )
    return tuple(charges)


def nothing_bought(attempt: Attempt) -> tuple[Charge, ...]:
    """Book a call that cost nothing: it never left, was refused before any work, or used nothing.

    It stands in the books as one request at no cost, so that every attempt has its row.

    >>> [(c.leaf, c.billed) for c in nothing_bought(Attempt("a1", "m"))]
    [('requests', Paid('0' USD))]
    """
    evidence = weakest(attempt.evidence, Evidence.DERIVED)
    attempt_id = attempt.attempt_id
    return (
        Charge(
            f"{attempt_id}:requests",
            attempt_id,
            "requests",
            1,
            "requests",
            Paid(0),
            CostSource.COMPUTED,
            evidence,
        ),
    )


def reverse(charges: Iterable[Charge]) -> tuple[Charge, ...]:
    """Take charges back by new rows that cancel them: together they sum to zero."""
    reversals = []
    for booked in charges:
        if booked.reverses:
            raise CallerError(
                f"charge {booked.charge_id} is itself a reversal of {booked.reverses}; "
                "book the call anew instead of reversing twice"
            )
        reversals.append(
            booked._replace(
                charge_id=f"{booked.charge_id}:reversed",
                quantity=-booked.quantity,
                billed=None if booked.billed is None else -booked.billed,
                reverses=booked.charge_id,
            )
        )
    return tuple(reversals)


def billed(charges: Iterable[Charge]) -> Paid | None:
    """What charges cost together, or None as soon as one of them is unpriced."""
    total = Paid(0)
    for booked in charges:
        if booked.billed is None:
            return None
        total += booked.billed
    return total


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """An attempt's cost by the price book beside what its provider says it charged."""

    attempt_id: str
    computed: Paid | None
    reported: Paid | None

    @property
    def difference(self) -> Paid | None:
        """Computed less reported; None where either is unknown."""
        if self.computed is None or self.reported is None:
            return None
        return self.computed - self.reported


def reconcile(attempt: Attempt, charges: Iterable[Charge]) -> Reconciliation:
    """Lay an attempt's computed cost beside the reported one; neither replaces the other."""
    return Reconciliation(attempt.attempt_id, billed(charges), attempt.reported_cost)
