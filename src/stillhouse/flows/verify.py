"""The story of an audit: every charge is redone from what is kept of its call, and laid beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import orjson

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import Attempt, AttemptKind, Evidence, Usage
from stillhouse.dialects.paths import USAGE_DIALECT
from stillhouse.flows.price_facts import price_of
from stillhouse.ledger.charging import charge, nothing_bought, reverse
from stillhouse.ledger.prices import Price
from stillhouse.ledger.usage import decompose


class Booked(Protocol):
    """An attempt as it stands in the books; of an imported one only the first two are known."""

    @property
    def attempt(self) -> Attempt:
        """The call."""
        ...

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All of its charges, reversals included, in the order of booking."""
        ...

    @property
    def wire(self) -> str:
        """The wire format that the upstream was spoken to in."""
        ...

    @property
    def fate(self) -> str:
        """How the call ended; empty for an imported one."""
        ...

    @property
    def status(self) -> int:
        """HTTP status, 0 for none."""
        ...

    @property
    def price_id(self) -> str:
        """The price that it was charged by."""
        ...

    @property
    def usage_body(self) -> str:
        """The provider's usage object as JSON, empty for none."""
        ...

    @property
    def avoided_pico(self) -> int | None:
        """What an answer from the cache would have cost."""
        ...


class Books(Protocol):
    """Where the charges are kept."""

    def booked(self) -> Iterable[Booked]:
        """Every attempt, streamed."""
        ...

    def price_facts(self, price_id: str) -> str:
        """The facts, as JSON, of a price."""
        ...

    def strays(self) -> Iterable[tuple[str, str]]:
        """What hangs on nothing, or stands twice."""
        ...


class Difference(NamedTuple):
    """Where the books differ from what follows from the facts that they keep."""

    attempt_id: str
    what: str
    stored: str
    derived: str


@dataclass(slots=True)
class Audit:
    """What was looked at so far: read it once the differences are through."""

    attempts: int = 0
    charges: int = 0
    from_usage_bodies: int = 0
    not_derivable: int = 0
    differences: int = 0


def verify(books: Books, audit: Audit) -> Iterator[Difference]:
    """Redo every charge and yield where it differs, to the last place; memory stays flat.

    Usage is redone from the provider's own usage object where that is kept, charges from the usage
    and the facts of the price that they name. Charges of other kinds (allocated, or as a provider
    billed them) follow from no usage: they are counted as `not_derivable`.
    """

    @lru_cache(maxsize=4096)
    def price(price_id: str) -> Price | None:
        return price_of(books.price_facts(price_id))

    for booked in books.booked():
        audit.attempts += 1
        audit.charges += len(booked.charges)
        for difference in _check(booked, price, audit):
            audit.differences += 1
            yield difference
    for row, wrong in books.strays():
        audit.differences += 1
        yield Difference(row, wrong, "", "")


FindPrice = Callable[[str], Price | None]

_OWN_ANSWERS = {AttemptKind.CACHE: "from the cache", AttemptKind.STUDENT: "by a student"}
_DERIVABLE = (CostSource.COMPUTED, CostSource.UNPRICED)


def _check(booked: Booked, price: FindPrice, audit: Audit) -> Iterator[Difference]:
    """Redo one attempt: what was saved, its usage, its reversals, its charges."""
    attempt = booked.attempt
    own = _OWN_ANSWERS.get(attempt.kind)
    if booked.avoided_pico is not None and own is None:
        what = "has a saving, and was answered neither from the cache nor by a student"
        yield _difference(attempt, what)
    if own is not None:
        if any(booked_as.billed is None or booked_as.billed for booked_as in booked.charges):
            what = f"was answered {own}, which costs nothing, and has charges"
            yield _difference(attempt, what, _listed(booked.charges))
        return
    yield from _check_usage(booked, audit)
    standing = yield from _net(attempt, booked.charges)
    if not standing and booked.charges:
        return  # taken back, all of it
    if any(booked_as.cost_source not in _DERIVABLE for booked_as in standing):
        audit.not_derivable += 1
        return
    yield from _check_charges(booked, standing, price)


def _check_usage(booked: Booked, audit: Audit) -> Iterator[Difference]:
    attempt = booked.attempt
    if not booked.usage_body or attempt.evidence is not Evidence.REPORTED:
        return
    stored = _counted(attempt.usage)
    try:
        usage = decompose(orjson.loads(booked.usage_body), USAGE_DIALECT[Wire(booked.wire)])
    except (CallerError, ValueError) as fault:
        yield _difference(attempt, "has counts that its usage object does not give", stored, fault)
        return
    audit.from_usage_bodies += 1
    if usage != attempt.usage:
        what = "has other counts than its usage object"
        yield _difference(attempt, what, stored, _counted(usage))


def _net(attempt: Attempt, charges: Sequence[Charge]) -> Generator[Difference, None, list[Charge]]:
    """Check that every reversal cancels one charge; returns the charges that none takes back."""
    standing: dict[str, Charge] = {}
    for booked_as in charges:
        if not booked_as.reverses:
            if booked_as.charge_id in standing:
                yield _difference(attempt, "has the same charge twice", _said(booked_as))
            standing[booked_as.charge_id] = booked_as
            continue
        taken_back = standing.pop(booked_as.reverses, None)
        if taken_back is None:
            what = "has a reversal of a charge that does not stand"
            yield _difference(attempt, what, _said(booked_as))
            continue
        (wanted,) = reverse((taken_back,))
        if booked_as != wanted._replace(charge_id=booked_as.charge_id):
            what = "has a reversal that does not cancel its charge"
            yield _difference(attempt, what, _said(booked_as), _said(wanted))
    return list(standing.values())


def _check_charges(
    booked: Booked, standing: Sequence[Charge], price: FindPrice
) -> Iterator[Difference]:
    """Lay the charges that stand beside those that follow from usage and price."""
    attempt = booked.attempt
    named = {booked_as.price_id for booked_as in standing if booked_as.price_id}
    for price_id in sorted(named):
        found = price(price_id)
        if found is None or found.price_id != price_id:
            what = "was charged by a price whose facts are not in the books"
            yield _difference(attempt, what, price_id, found.price_id if found else "")
            return
    wanted = _derived(booked, named, price)
    if all(_facts(charges) != _facts(standing) for charges in wanted):
        what = "has other charges than its usage and its price give"
        yield _difference(attempt, what, _listed(standing), _listed(wanted[0]))


def _derived(booked: Booked, named: set[str], price: FindPrice) -> list[tuple[Charge, ...]]:
    """What the charges may be: where none of them is priced, a price may have been known or not."""
    attempt = booked.attempt
    if booked.fate:
        failed = 300 <= booked.status < 500 or (attempt.batch and not attempt.ok)
        refused = failed and attempt.evidence is Evidence.DERIVED
        if refused or not Fate(booked.fate).sent:
            return [nothing_bought(attempt._replace(usage=Usage()))]
    elif not named and not booked.charges and attempt.usage == Usage():
        return [()]
    if named:
        return [charge(attempt, price(price_id)) for price_id in sorted(named)]
    known = price(booked.price_id) if booked.price_id else None
    nothing = [] if attempt.usage is None or attempt.usage.leaves() else [nothing_bought(attempt)]
    return [charge(attempt, known), charge(attempt, None), *nothing]


def _facts(charges: Sequence[Charge]) -> Counter[Charge]:
    """Charges without their ids: one that was booked anew has another."""
    return Counter(booked_as._replace(charge_id="") for booked_as in charges)


def _difference(
    attempt: Attempt, what: str, stored: object = "", derived: object = ""
) -> Difference:
    return Difference(attempt.attempt_id, what, str(stored), str(derived))


def _counted(usage: Usage | None) -> str:
    if usage is None:
        return "no counts"
    return ", ".join(f"{leaf} {count}" for leaf, count in usage.leaves().items()) or "all 0"


def _listed(charges: Sequence[Charge]) -> str:
    return "; ".join(map(_said, charges)) or "no charges"


def _said(booked_as: Charge) -> str:
    money = booked_as.billed
    amount = "unpriced" if money is None else f"{money.decimal:f} {money.currency}"
    said = f"{booked_as.quantity} {booked_as.leaf} {amount} {booked_as.evidence}"
    return f"{said} (takes back {booked_as.reverses})" if booked_as.reverses else said
