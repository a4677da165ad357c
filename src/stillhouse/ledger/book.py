"""The price book: prices are only ever added, and it can be asked as it was known at any time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from stillhouse.core.errors import CallerError
from stillhouse.ledger.names import Host, HostNames, matches, spellings
from stillhouse.ledger.prices import Price

STANDARD_TIERS = frozenset(("", "default", "auto", "standard", "on_demand"))
"""What providers call the service tier that costs the plain price."""

_MEMORY_LIMIT = 4096

_Question = tuple[str, str, str, bool, str]
_Answer = tuple[Price | None, tuple[Price, ...]]
"""The price that holds whenever it was asked, if the first one does; and all that fit, in order."""


class PriceBook:
    """Dated prices: a book never changes, `with_prices` makes a larger one.

    >>> old = Price("acme", "m", {"input_tokens": 2 * 10**12})
    >>> new = Price("acme", "m", {"input_tokens": 10**12}, valid_from_us=1000)
    >>> book = PriceBook([old, new])
    >>> [book.find("m", "acme", at_us).amounts["input_tokens"] for at_us in (999, 1000)]
    [2000000000000, 1000000000000]
    """

    def __init__(self, prices: Iterable[Price] = (), hosts: Iterable[Host] = ()) -> None:
        self._prices: dict[str, Price] = {}
        self._hosts = tuple(hosts)
        self._names = HostNames(self._hosts)
        self._listings: dict[tuple[bool, str], dict[str, list[Price]]] = {}
        self._memory: dict[_Question, _Answer] = {}
        for price in prices:
            known = self._prices.get(price.price_id)
            self._prices[price.price_id] = price if known is None else _merge(known, price)
        _refuse_contradictions(self._prices.values())
        for price in self._prices.values():
            listing = self._listings.setdefault((price.own, self._provider(price)), {})
            listing.setdefault(price.model, []).append(price)

    @property
    def prices(self) -> tuple[Price, ...]:
        """Every price ever learned, in the order of learning."""
        return tuple(self._prices.values())

    def with_prices(self, prices: Iterable[Price]) -> PriceBook:
        """The same book with more facts in it; a fact that it holds already changes nothing."""
        return PriceBook((*self.prices, *prices), self._hosts)

    def as_known_at(self, known_at_us: int) -> PriceBook:
        """The book as it stood at an instant: without what was learned later or taken back."""
        return PriceBook(
            (
                price
                for price in self.prices
                if price.known_from_us <= known_at_us
                and (price.known_to_us is None or known_at_us < price.known_to_us)
            ),
            self._hosts,
        )

    def by_id(self, price_id: str) -> Price | None:
        """The price that a charge names."""
        return self._prices.get(price_id)

    def find(
        self,
        model: str,
        host: str,
        at_us: int | None,
        *,
        service_tier: str = "",
        batch: bool = False,
        region: str = "",
    ) -> Price | None:
        """The price that a call cost at an instant, or None: then the call is unpriced.

        A team's own price wins over a catalogue's, then the narrower window, the named region, the
        later `valid_from`, and what was learned last. A service tier or a batch without a price of
        its own is unpriced, and so is a call at no known time where the price depends on it. An
        empty `host` means that the log names none: then it is the one that the model's name points
        to (see `HostNames.places`), or the one that the team's own prices of the model speak of; if
        these speak of several, the call is unpriced.
        """
        question = (model, host, service_tier, batch, region)
        always, candidates = self._memory.get(question) or self._remember(question)
        if always is not None or at_us is None:
            return always
        for price in candidates:
            if price.holds_at(at_us):
                return price
        return None

    def _remember(self, question: _Question) -> _Answer:
        """What answers a question at one time or another, kept for the next call."""
        if len(self._memory) >= _MEMORY_LIMIT:
            self._memory.clear()
        candidates = self._candidates(question)
        always = candidates[0] if candidates and candidates[0].holds_always else None
        answer = self._memory[question] = always, candidates
        return answer

    def _candidates(self, question: _Question) -> tuple[Price, ...]:
        model, host, tier, batch, region = question
        if tier == "batch":  # Anthropic reports its batches as a service tier
            tier, batch = "", True
        wanted = "" if tier in STANDARD_TIERS else tier
        own = self._own(model, host)
        if len(own) > 1 and not host:
            return ()
        fitting = [
            price
            for price in (*chain.from_iterable(own), *self._listed(model, host))
            if price.service_tier == wanted
            and price.batch == batch
            and price.region in ("", region)
        ]
        return tuple(sorted(fitting, key=_precedence, reverse=True))

    def _provider(self, price: Price) -> str:
        """Where a price is listed; a team may name a host as loosely as its logs do."""
        name = price.provider.lower()
        return self._names.canonical(name) if price.own and "/" not in name else name

    def _own(self, model: str, host: str) -> list[list[Price]]:
        """The team's own prices of a model by the host they speak of."""
        hosts = [provider for own, provider in self._listings if own]
        if host:
            here = {"", host.strip().lower(), self._names.canonical(host)}
            hosts = [provider for provider in hosts if provider in here]
        names = spellings(model.strip().lower())
        return [prices for h in hosts if (prices := self._listing(True, h, names))]

    def _listed(self, model: str, host: str) -> list[Price]:
        """A catalogue's prices of the first listing that fits."""
        for provider, name in self._names.places(model, host):
            if prices := self._listing(False, provider, [name]):
                return prices
        return []

    def _listing(self, own: bool, provider: str, names: list[str]) -> list[Price]:
        listings = self._listings.get((own, provider), {}).values()
        for name in names:
            exact = [prices for prices in listings if name == prices[0].model.lower()]
            for prices in (*exact, *listings):
                if any(matches(price.patterns, name) for price in prices):
                    return prices
        return []


def _precedence(price: Price) -> tuple[bool, int, bool, float, int]:
    window = price.window
    narrowness = 0 if window is None else 2 if window.weekdays else 1
    start = float("-inf") if price.valid_from_us is None else price.valid_from_us
    return price.own, narrowness, bool(price.region), start, price.known_from_us


def _merge(one: Price, other: Price) -> Price:
    """The same fact learned twice: known since the first time, wrong since the first denial."""
    ends = [end for end in (one.known_to_us, other.known_to_us) if end is not None]
    return replace(
        one,
        known_from_us=min(one.known_from_us, other.known_from_us),
        known_to_us=min(ends, default=None),
    )


def _refuse_contradictions(prices: Iterable[Price]) -> None:
    seen: dict[tuple[object, ...], Price] = {}
    for price in prices:
        key = (
            (price.own, price.provider, price.model, price.names),
            (price.service_tier, price.batch, price.region, price.window),
            (price.valid_from_us, price.known_from_us),
        )
        if (twin := seen.setdefault(key, price)) is not price:
            raise CallerError(
                f"two prices of {price.title} start at the same time and were learned at the same "
                f"time ({twin.price_id} and {price.price_id}); keep one, or date one later"
            )
