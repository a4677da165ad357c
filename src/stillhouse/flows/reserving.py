"""Quotas in one worker's memory: which counters a request draws on, and what is left of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from stillhouse.core.quotas import Hold, Need, Quota, Unit, Window
from stillhouse.core.traffic import Tags
from stillhouse.flows.leases import Claims, Lease
from stillhouse.ledger.quotas import check, claims, counter, span

SWEEP_US = 10_000_000
"""How often counters out of use are looked for."""

MOST_REMEMBERED = 20_000
"""How many combinations of key, tags and model keep their list of leases."""

Key = tuple[str, Tags, str]
"""What decides on the counters of a request: key id, tags, model."""

_NOTHING = Hold((), ())
_RATES = (Window.MINUTE, Window.HOUR)


class Reserving:
    """The half of the desk that never waits: reserves out of leases in hand, and settles."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._everybodys: tuple[Quota, ...] = ()
        self._of_key: Mapping[str, tuple[Quota, ...]] = {}
        self._leases: dict[str, Lease] = {}
        self._busy: dict[str, Lease] = {}  # those that the store has to hear of
        self._memo: dict[Key, Claims] = {}
        self._swept_us = 0
        self._asleep = False  # whether nobody looks after what has been used

    def replace(
        self, everybodys: tuple[Quota, ...], of_key: Mapping[str, tuple[Quota, ...]]
    ) -> None:
        """Put other quotas in force: those of everybody, and those that stand on a key, by its id.

        Requests under way settle with what they hold. ConfigError where a quota cannot hold; then
        those before stay in force.
        """
        for quotas in (everybodys, *of_key.values()):
            for quota in quotas:
                check(quota)
        self._everybodys = everybodys
        self._of_key = {key_id: quotas for key_id, quotas in of_key.items() if quotas}
        self._memo.clear()
        for lease in self._leases.values():
            lease.dry_until_us = 0

    def try_hold(self, key_id: str, tags: Tags, model: str, need: Need) -> Hold | None:
        """Reserve from what this process has leased; None where `hold` has to be asked."""
        if not self._everybodys and not self._of_key:
            return _NOTHING
        found = self._memo.get((key_id, tags, model))
        if found is None or (found.until_us is not None and self._now_us() >= found.until_us):
            found = self._claims_of((key_id, tags, model))
        return self._take(found, need)

    def unreserved(self, key_id: str, tags: Tags, model: str) -> Hold:
        """Reserve nothing, for what was bought elsewhere: it is settled as use all the same.

        Quotas on requests, on calls under way and on tokens by the minute or hour limit a rate, and
        what was bought elsewhere has no part in that.
        """
        if not self._everybodys and not self._of_key:
            return _NOTHING
        leases = [
            lease
            for lease in self._claims_of((key_id, tags, model)).leases
            if lease.claim.quota.unit is Unit.COST
            or (lease.claim.quota.unit is Unit.TOKENS and lease.claim.quota.window not in _RATES)
        ]
        for lease in leases:
            lease.open += 1
        return Hold(tuple(lease.counter for lease in leases), (0,) * len(leases))

    def settle(self, hold: Hold, cost_pico: int, tokens: int) -> None:
        """Put what was used in place of what was reserved, and free the rest."""
        used_by_unit = (cost_pico, tokens, 1, 0)
        leases = self._leases
        for name, reserved in zip(hold.counters, hold.amounts):  # noqa: B905 (for every call)
            lease = leases[name]
            used = used_by_unit[lease.used_as]
            if used:
                self._busy[name] = lease
            lease.open -= 1
            lease.used += used
            lease.room += reserved - used
            if used > reserved and not lease.soft:
                lease.over += used - reserved
        if self._asleep:
            self._told()

    def _told(self) -> None:
        """There is something to say to the store again."""
        raise NotImplementedError

    def release(self, hold: Hold) -> None:
        """Undo a reservation: what it was for was never done."""
        self._undo([self._leases[name] for name in hold.counters], hold.amounts)

    def _take(self, found: Claims, need: Need) -> Hold | None:
        """Reserve all or nothing; a request that costs nothing passes money quotas spent or not."""
        cost = need.cost_pico
        if cost is None:
            if found.hard_cost is not None and not need.allow_unpriced:
                return None
            cost = 0
        sizes = (cost, need.tokens, 1, 1, 0)
        amounts: list[int] = []
        for lease in found.leases:
            amount = sizes[lease.reserved_as]
            if amount > lease.room and amount:
                self._undo(found.leases, amounts)
                return None
            lease.room -= amount
            lease.open += 1
            amounts.append(amount)
        return Hold(found.counters, tuple(amounts))

    def _reserve(self, found: Claims, amounts: list[int]) -> Hold:
        """Take the amounts, be there room for them or not."""
        for lease, amount in zip(found.leases, amounts, strict=True):
            lease.room -= amount
            lease.open += 1
        return Hold(found.counters, tuple(amounts))

    def _undo(self, leases: Iterable[Lease], amounts: Iterable[int]) -> None:
        """Free again what was reserved of the first leases."""
        for lease, amount in zip(leases, amounts, strict=False):
            lease.room += amount
            lease.open -= 1

    def _claims_of(self, key: Key) -> Claims:
        found = self._memo.get(key)
        if found is not None and (found.until_us is None or self._now_us() < found.until_us):
            return found
        if len(self._memo) >= MOST_REMEMBERED:
            self._memo.clear()
        found = self._memo[key] = self._look_up(key, self._now_us())
        return found

    def _look_up(self, key: Key, at_us: int) -> Claims:
        leases = []
        for claim in claims(self._everybodys, self._of_key.get(key[0], ()), *key):
            window = span(claim.quota.window, at_us)
            name = counter(claim.base, window)
            lease = self._leases.get(name)
            if lease is None:
                lease = self._leases[name] = Lease(claim, window, at_us)
            lease.claim, lease.seen_us = claim, at_us
            leases.append(lease)
        ends = [lease.window.ends_us for lease in leases if lease.window.ends_us is not None]
        hard_cost = (lease for lease in leases if lease.used_as == 0 and not lease.soft)
        return Claims(
            tuple(lease.counter for lease in leases),
            tuple(leases),
            min(ends, default=None),
            next(hard_cost, None),
        )

    def _sized(self, found: Claims, need: Need) -> list[tuple[Lease, int]]:
        """How much of each lease a request takes."""
        sizes = (need.cost_pico or 0, need.tokens, 1, 1, 0)
        return [(lease, sizes[lease.reserved_as]) for lease in found.leases]

    def _lacking(self, found: Claims, need: Need) -> list[tuple[Lease, int]]:
        """The leases that a request finds too small, with how much it needs of each."""
        return [
            (lease, amount)
            for lease, amount in self._sized(found, need)
            if amount > lease.room and amount
        ]

    def _sweep(self, now: int) -> None:
        """Drop what has not been used for long; lists of leases are then made anew.

        Callers may name any customer: where there are very many, what is not in use goes at once.
        """
        if now - self._swept_us < SWEEP_US:
            return
        self._swept_us = now
        crowded = len(self._leases) > MOST_REMEMBERED
        gone = [
            name
            for name, lease in self._leases.items()
            if (crowded and lease.idle and name not in self._busy) or lease.forgettable(now)
        ]
        for name in gone:
            del self._leases[name]
            self._busy.pop(name, None)
        if gone:
            self._memo.clear()
