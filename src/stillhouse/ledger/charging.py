"""Turns an attempt and its price into charges: exact, one per leaf, never changed afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import astuple

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
_MILLION = 10**6
_REMEMBERED = 4096


class _Rate(NamedTuple):
    """What a leaf is charged at, in pico-USD: per million units, and per unit where that is whole.

    Both are None where it is unpriced.
    """

    leaf: str
    unit: str
    per_million: int | None
    per_unit: int | None


class _Rates(NamedTuple):
    """What everything is charged at by some amounts: the leaves of Usage in order, then requests.

    `amounts` are held so that no others can come to have their id.
    """

    amounts: Amounts
    rates: tuple[_Rate, ...]
    requests: int


_rates: dict[int, _Rates] = {}
"""By the id of a price's amounts: these are never changed."""


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
    counts = astuple(usage) if usage is not None else _NOTHING
    if usage is None or price is None:
        rates, price_id, requests = _UNKNOWN, "", 0 if any(counts) else 1
    else:
        amounts = price.amounts_at(usage.total_input_tokens) if price.tiers else price.amounts
        _, rates, requests = _rates.get(id(amounts)) or _remember(amounts)
        price_id = price.price_id
    attempt_id, evidence = attempt.attempt_id, attempt.evidence
    derived = _DERIVED[evidence]
    charges = []
    for quantity, rate in zip((*counts, requests), rates):  # noqa: B905 (for every call)
        if not quantity:
            continue
        leaf, unit, per_million, per_unit = rate
        if per_million is None:
            cost, source, grade, charged_by = None, _UNPRICED, evidence, ""
        else:
            pico = (
                quantity * per_unit
                if per_unit is not None
                else round_div(quantity * per_million, _MILLION)
            )
            cost, source, grade, charged_by = Paid(pico), _COMPUTED, derived, price_id
        charge_id = f"{attempt_id}:{leaf}"
        charges.append(
            Charge(charge_id, attempt_id, leaf, quantity, unit, cost, source, grade, charged_by)
        )
    return tuple(charges)


def _remember(amounts: Amounts) -> _Rates:
    """What these amounts charge each leaf at, kept for the next call."""
    if len(_rates) >= _REMEMBERED:
        _rates.clear()
    found = _rates[id(amounts)] = _rates_of(amounts)
    return found


def _rates_of(amounts: Amounts) -> _Rates:
    rates = []
    for leaf, unit in _UNITS.items():
        amount = amounts.get(leaf)
        if amount is None:
            amount = amounts.get(_CHARGED_AS.get(leaf, leaf))
        per_unit = None if amount is None or amount % _MILLION else amount // _MILLION
        rates.append(_Rate(leaf, unit, amount, per_unit))
    return _Rates(amounts, tuple(rates), 1 if "requests" in amounts else 0)


_UNKNOWN = _rates_of({}).rates
_NOTHING = (0,) * len(LEAVES)


def nothing_bought(attempt: Attempt) -> tuple[Charge, ...]:
    """Book a call that cost nothing: it never left, was refused before any work, or used nothing.

    It stands in the books as one request at no cost, so that every attempt has its row.

    >>> [(c.leaf, c.billed) for c in nothing_bought(Attempt("a1", "m"))]
    [('requests', Paid('0' USD))]
    """
    attempt_id = attempt.attempt_id
    return (
        Charge(
            f"{attempt_id}:requests",
            attempt_id,
            "requests",
            1,
            "requests",
            Paid(0),
            _COMPUTED,
            _DERIVED[attempt.evidence],
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
