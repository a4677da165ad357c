"""Makes the nouns of an exchange from what a journal says of its calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.traffic import (
    AttemptKind,
    Completion,
    Evidence,
    Exchange,
    Request,
    Tags,
    Usage,
)
from stillhouse.flows.price_facts import facts_of, price_of
from stillhouse.ledger.charging import charge, nothing_bought
from stillhouse.ledger.prices import Price

Pair = tuple[Started, Ended]
LiveEntry = tuple[Exchange, tuple[Pair, ...]]
"""An exchange, and the journal's two entries for each of its attempts."""

UNKNOWN = "{}"
"""The facts of a price that nobody knows any more: its charges stand as they were made."""

_NOTHING = (Request(()), Completion())


class Made(NamedTuple):
    """An exchange for the books; how many of its calls were interrupted, and whether what was kept
    of its bodies could not be read."""

    entry: LiveEntry
    interrupted: int
    unreadable: bool


@dataclass(frozen=True, slots=True)
class Making:
    """What nouns are made with: passed in, so that the story knows no tokenizer and no body.

    `estimate` says what a call that nobody heard of again is taken to have used. `find_price` knows
    the prices that a journal names without their facts. `read_bodies` reads the caller's body in
    the first entry and the answer in the second; what it cannot read is kept as empty.
    """

    estimate: Callable[[Started], Usage]
    find_price: Callable[[str], Price | None]
    read_bodies: Callable[[Started, Ended], tuple[Request, Completion]]

    def exchange(
        self, calls: Sequence[tuple[Started | None, Ended | None]], prices: Mapping[str, str]
    ) -> Made:
        """Make an exchange of its calls; those without an end were interrupted.

        `prices` are the facts that the journal holds, by price id.
        """
        known = next((started for started, _ in calls if started is not None), None)
        # Kept with one call alone: the first, which of two hedged ones need not be noted first.
        asked = next((s.asked for s, _ in calls if s is not None and s.asked), "")
        pairs: list[Pair] = []
        interrupted = 0
        for begun, ended in calls:
            if ended is not None:
                pairs.append((begun or _begun(ended, known), ended))
            elif begun is not None:
                pairs.append((begun, self._interrupted(begun, asked, prices)))
                interrupted += 1
        bodies = self._bodies(pairs)
        request, completion = bodies or _NOTHING
        exchange = Exchange(
            pairs[0][0].exchange_id,
            request,
            completion,
            tuple(ended.attempt for _, ended in pairs),
            pairs[0][0].tags,
        )
        return Made((exchange, tuple(pairs)), interrupted, bodies is None)

    def facts(self, price_id: str, prices: Mapping[str, str]) -> str:
        """The facts of a price: those in the journal, else those that are known today."""
        if (facts := prices.get(price_id)) is not None:
            return facts
        price = self.find_price(price_id)
        return facts_of(price) if price is not None else UNKNOWN

    def _interrupted(self, started: Started, asked: str, prices: Mapping[str, str]) -> Ended:
        """Book a call that nobody heard of again: it may have been answered, so it has a cost.

        What this house answers itself has none: nothing was sent to anybody.
        """
        kind, broken = started.attempt.kind, started.attempt._replace(ok=False)
        if kind is AttemptKind.CACHE:
            return Ended(started.exchange_id, broken, (), Fate.INTERRUPTED)
        if kind is AttemptKind.STUDENT:
            return Ended(started.exchange_id, broken, nothing_bought(broken), Fate.INTERRUPTED)
        try:
            usage = self.estimate(started._replace(asked=asked))
        except Exception:  # whatever is wrong with a body, its call stands in the books
            usage = None
        attempt = broken._replace(usage=usage, evidence=Evidence.ESTIMATED)
        price_id = started.price_id
        price = price_of(self.facts(price_id, prices)) if price_id else None
        return Ended(started.exchange_id, attempt, charge(attempt, price), Fate.INTERRUPTED)

    def _bodies(self, pairs: Sequence[Pair]) -> tuple[Request, Completion] | None:
        """Read what was asked and what the caller got, where that was kept; None for a failure."""
        begun = next((started for started, _ in pairs if started.asked), pairs[0][0])
        good = [ended for _, ended in pairs if ended.attempt.ok]
        ended = good[-1] if good else pairs[-1][1]
        if not (begun.asked or ended.answer):
            return _NOTHING
        try:
            request, completion = self.read_bodies(begun, ended)
        except Exception:  # a body may be anything; the books need none
            return None
        return request, completion if good else Completion()


def _begun(ended: Ended, known: Started | None) -> Started:
    """The beginning of a call that has none in the journal, as one that never left."""
    if known is None:
        return Started(ended.exchange_id, ended.attempt, "", ended.upstream, Tags())
    return known._replace(
        attempt=ended.attempt, upstream="", spoken="", price_id="", asked="", consultation=None
    )
