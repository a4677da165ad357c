"""The story of a dead worker's leases: what its calls used is spent, the rest is free again.

A worker says what it used several times a second. What it had not yet said when it died stands in
its journal: the books add up what each run's calls used of each counter, in the transaction that
books the calls. Once a dead run is folded to its end, its leases are settled by that sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from stillhouse.core.calls import Ended, Started
from stillhouse.core.errors import StoreError
from stillhouse.ledger.quotas import used_of


class Tallies(Protocol):
    """What the folded calls of each run used, by counter."""

    def tallies(self, run: str) -> dict[str, int]:
        """All that a run used, from its start on."""
        ...

    def drop_tallies(self, run: str) -> None:
        """Forget a run that is settled."""
        ...


class Leases(Protocol):
    """The shared counters, as the one sees them who settles for the dead."""

    def recover(self, worker: str, used: Mapping[str, int]) -> bool:
        """Settle the leases of a worker that is no more; False where there are none."""
        ...


def used_by(started: Started, ended: Ended) -> dict[str, int]:
    """How much one call used up of each counter that it drew on: what the desk settled it with."""
    usage = ended.attempt.usage
    tokens = usage.total_input_tokens + usage.total_output_tokens if usage is not None else 0
    cost = sum(charge.billed.pico for charge in ended.charges if charge.billed is not None)
    return {counter: used_of(counter, cost, tokens) for counter in started.claims}


def settle(run: str, books: Tallies, leases: Leases) -> bool:
    """Settle the leases of a run that is dead and folded to its end; False while that cannot be.

    May be done again where it was cut off: who has left, or is settled, is not known any more.
    """
    try:
        leases.recover(run, books.tallies(run))
        books.drop_tallies(run)
    except StoreError:
        return False
    return True
