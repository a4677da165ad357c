"""One counter as one worker sees it: what it has leased, what it used, what it asks for next."""

from __future__ import annotations

from typing import NamedTuple

from stillhouse.core.quotas import Draw, Standing, Unit
from stillhouse.ledger.quotas import Claim, Span, counter

IDLE_US = 3_000_000
"""After how long without use a lease goes back."""

FORGOTTEN_US = 600_000_000
"""After how long without use a counter is no longer kept in mind."""

UNITS = (Unit.COST, Unit.TOKENS, Unit.REQUESTS, Unit.CONCURRENT)
NOTHING_RESERVED = len(UNITS)
"""Place of the 0 behind a request's sizes: soft quotas reserve nothing."""


class Lease:
    """A worker's part of a counter; `room` is what may still be reserved.

    `mine` is what the store last said is leased, `used` and `over` what it has not been told of,
    `open` how many requests hold a part. So room = mine - used - all that is reserved.
    """

    __slots__ = (
        "answered",
        "claim",
        "counter",
        "dry_until_us",
        "mine",
        "open",
        "over",
        "reserved_as",
        "room",
        "seen_us",
        "soft",
        "standing",
        "used",
        "used_as",
        "usual",
        "window",
        "wished_us",
    )  # fmt: skip

    def __init__(self, claim: Claim, window: Span, at_us: int) -> None:
        self.claim, self.window = claim, window
        self.counter = counter(claim.base, window)
        self.soft = claim.quota.soft
        self.used_as = UNITS.index(claim.quota.unit)
        self.reserved_as = NOTHING_RESERVED if self.soft else self.used_as
        self.room = self.mine = self.used = self.over = self.open = self.usual = 0
        self.wished_us = self.dry_until_us = self.answered = 0
        self.seen_us = at_us
        self.standing = Standing(claim.quota.limit)

    @property
    def live(self) -> bool:
        """Whether the store has to hear of it again."""
        return bool(self.mine or self.used or self.over)

    @property
    def idle(self) -> bool:
        """Whether neither the store nor a request has to do with it."""
        return not (self.live or self.open)

    def forgettable(self, at_us: int) -> bool:
        """Whether nothing is lost when it is dropped."""
        return self.idle and at_us - self.seen_us > FORGOTTEN_US

    def draw(self, waiting: list[int], at_us: int, *, recalled: bool) -> Draw | None:
        """What to tell and to ask the store now; `waiting` are the amounts that are waited for.

        What goes back is no longer in the room from here on. A recalled lease goes back even where
        it is waited for, so that two workers never sit on one half each.
        """
        if self.used or self.open or waiting:
            self.seen_us = at_us
        ended = self.window.ends_us is not None and at_us >= self.window.ends_us
        returned = 0
        if self.room > 0 and (recalled or ended or at_us - self.seen_us > IDLE_US):
            returned = self.room
            self.room = 0
        lacks = [amount - self.room for amount in waiting if amount > self.room]
        least = min(lacks, default=0)
        asked = max(least, sum(waiting) - self.room) if lacks else 0
        if not (self.used or self.over or returned or asked):
            return None
        return Draw(
            self.counter,
            self.claim.quota.limit,
            self.window.ends_us,
            self.used,
            self.over,
            returned,
            asked,
            least,
            self._wish(asked, at_us) if asked else 0,
            self.soft,
        )

    def answer(self, draw: Draw, standing: Standing, turn: int) -> None:
        """Take in how the counter stands after a draw, with what was granted."""
        self.room += standing.mine - (self.mine - draw.used - draw.returned)
        self.mine = standing.mine
        self.used -= draw.used
        self.over -= draw.over
        self.standing = standing
        if draw.asked:
            self.answered = turn

    def _wish(self, asked: int, at_us: int) -> int:
        """How much to have in hand: twice as much where it lasted less than a second, else less."""
        grown = self.usual * 2 if at_us - self.wished_us < 1_000_000 else self.usual // 2
        self.wished_us = at_us
        self.usual = max(asked, min(grown, self.claim.quota.limit))
        return self.usual


class Claims(NamedTuple):
    """What requests of one key, tags and model draw on, until the first of the windows ends."""

    counters: tuple[str, ...]
    leases: tuple[Lease, ...]
    until_us: int | None
    hard_cost: Lease | None
