"""Reserve before, settle after: a worker's side of the quotas, out of leases from shared counters.

A request draws on its quotas in memory, out of what this worker has leased; the store is asked, in
a thread, only when a lease does not suffice. What was used is said to the store several times a
second and at the end; idle leases go back when another worker asks for them, or after a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple, Self, TypeVar

from stillhouse.core.errors import StoreError
from stillhouse.core.ports import Counters
from stillhouse.core.quotas import Alert, Denied, Draw, Hold, Need, Standing, Window
from stillhouse.core.traffic import Tags
from stillhouse.flows.leases import Claims, Lease
from stillhouse.flows.reserving import Key, Reserving
from stillhouse.ledger.quotas import RECALL_US, drawn, refusal, retry_after_seconds

TICK_SECONDS = 0.1
"""How often use is said to the store and recalls are looked for, while there is anything."""

RETRY_SECONDS = 0.03
"""How soon those who wait for others' leases ask again."""

PATIENCE_SECONDS = 0.5
"""How long a request waits for other workers to give idle leases back; several ticks of theirs."""

STUCK_SECONDS = 5.0
"""How long a request waits for a store that neither answers nor fails."""

BEAT_US = 2_000_000
"""How often a worker with leases is heard of, whether it has something to say or not."""

DRY_US = 100_000
"""How long a refusal is repeated without asking the store again."""

DOWN_US = 500_000
"""How long a store that failed is left alone."""

_T = TypeVar("_T")


class _Waiter(NamedTuple):
    """A request that the leases did not suffice for, and the turn after which it came."""

    key: Key
    need: Need
    future: asyncio.Future[Hold | Denied]
    until: float
    turn: int


class LeasingDesk(Reserving):
    """Holds quotas exactly across processes, and costs next to nothing where there are none.

    `worker` names one life of one process and is never used again. `when_store_is_down` says what
    becomes of requests once the leases in hand are used up: `deny` them, or `allow` them and count
    what they use as not covered. `alerts` is called once in each window for each share of a soft
    quota. An async context manager, or `start` and `close`.
    """

    def __init__(
        self,
        counters: Counters,
        worker: str,
        now_us: Callable[[], int],
        *,
        when_store_is_down: Literal["deny", "allow"] = "deny",
        alerts: Callable[[Alert], None] | None = None,
    ) -> None:
        super().__init__(now_us)
        self._store, self._worker = counters, worker
        self._allows = when_store_is_down == "allow"
        self._alerts = alerts
        self._waiters: list[_Waiter] = []
        self._turn = 0
        self._unanswered: list[Draw] = []
        self._recalled: frozenset[str] = frozenset()
        self._down_until_us = self._beaten_us = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._teller: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="quotas")

    async def hold(self, key_id: str, tags: Tags, model: str, need: Need) -> Hold | Denied:
        """Reserve, leasing more from the shared store where that is needed."""
        held = self.try_hold(key_id, tags, model, need)
        if held is not None:
            return held
        key, now = (key_id, tags, model), self._now_us()
        refused = self._refused_at_once(self._claims_of(key), need, now)
        if refused is not None:
            return refused
        if now < self._down_until_us or self._closing or self._teller is None:
            return self._without_store(key, need)
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Hold | Denied] = loop.create_future()
        until = loop.time() + PATIENCE_SECONDS
        self._waiters.append(_Waiter(key, need, waiting, until, self._turn))
        self._wake.set()
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                return await waiting
        except TimeoutError:
            return self._without_store(key, need)
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                answered = waiting.result()
                if isinstance(answered, Hold):
                    self.release(answered)
            raise

    def _told(self) -> None:
        self._wake.set()

    def _refused_at_once(self, found: Claims, need: Need, now: int) -> Denied | None:
        """What no lease can help with, and what the store has just refused."""
        if need.cost_pico is None and found.hard_cost is not None and not need.allow_unpriced:
            quota = found.hard_cost.claim.quota
            sentence = (
                f"no price is known for this model, and quota {quota.quota_id} is on money; add a "
                "price for it to the price book, or set allow_unpriced on its route"
            )
            return Denied(quota, sentence)
        lacking = self._lacking(found, need)
        for lease, amount in lacking:  # first: where one can never fit, none helps by waiting
            if amount > lease.claim.quota.limit:
                return self._denied(lease, amount, now)
        for lease, amount in lacking:
            rest = lease.room + max(0, lease.standing.remaining)
            if now < lease.dry_until_us and amount > rest:
                return self._denied(lease, amount, now)
        return None

    def _denied(self, lease: Lease, amount: int, now: int) -> Denied:
        quota, standing = lease.claim.quota, lease.standing._replace(limit=lease.claim.quota.limit)
        sentence = refusal(lease.claim, standing, amount)
        if amount > quota.limit:
            return Denied(quota, sentence, None)
        in_use = quota.window is Window.NOW or standing.leased > 0
        return Denied(quota, sentence, retry_after_seconds(lease.window, now, in_use=in_use))

    def _without_store(self, key: Key, need: Need) -> Hold | Denied:
        """What becomes of a request whose leases are used up while the store is away."""
        found = self._claims_of(key)
        lacking = self._lacking(found, need)
        if self._allows:
            return self._reserve(found, [amount for _, amount in self._sized(found, need)])
        quota = lacking[0][0].claim.quota if lacking else None
        sentence = (
            f"quota {quota.quota_id if quota else ''} cannot be checked: the database of quotas "
            "cannot be reached and what this worker had leased is used up; bring it back, or set "
            'when_store_is_down = "allow"'
        )
        return Denied(quota, sentence, DOWN_US / 1_000_000)

    # What follows speaks with the store, in one task.

    @property
    def store_is_down(self) -> bool:
        """Whether the store failed the last time that it was asked."""
        return self._down_until_us > 0

    async def start(self) -> None:
        """Begin to speak with the store."""
        self._teller = asyncio.create_task(self._tell(), name="quotas")

    async def close(self) -> None:
        """Say what was used and give leases back; whoever still waits is refused."""
        self._closing = True
        self._wake.set()
        if self._teller is not None:
            await self._teller
        self._thread.shutdown(wait=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _tell(self) -> None:
        if self._everybodys or self._of_key:  # known from the start, should it die soon
            start = self._now_us()
            await self._in_thread(lambda: self._store.draw(self._worker, 0, start, [], drawn))
        while not self._closing:
            await self._rest()
            await self._round(self._now_us())
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_result(self._without_store(waiter.key, waiter.need))
        self._waiters.clear()
        for _ in range(3):
            self._recalled = frozenset(self._leases)
            await self._round(self._now_us())
            if not any(lease.used or lease.room > 0 for lease in self._leases.values()):
                break
        if not (self.store_is_down or any(lease.open for lease in self._leases.values())):
            await self._in_thread(lambda: self._store.leave(self._worker))

    async def _rest(self) -> None:
        """Wait for the next thing to do; without leases and use, for the next request's need."""
        pause: float | None = RETRY_SECONDS if self._waiters else TICK_SECONDS
        live = self._waiters or self._unanswered
        if not live and not any(lease.live for lease in self._busy.values()):
            pause, self._asleep = None, True
        elif self.store_is_down:
            pause = DOWN_US / 1_000_000
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        self._asleep = False

    async def _round(self, now: int) -> None:
        """Speak with the store once, and serve those who wait.

        Draws whose answer was lost are said again as the same turn, before anything new.
        """
        if not self._unanswered:
            self._unanswered = self._draws(now)
            self._turn += bool(self._unanswered)
        draws, turn = self._unanswered, self._turn
        looks = any(lease.mine for lease in self._busy.values())
        speaks = bool(draws) or (looks and now - self._beaten_us >= BEAT_US)

        def speak() -> tuple[list[str], list[Standing]]:
            standings = []
            if speaks:
                standings = self._store.draw(self._worker, turn, now, draws, drawn)
            recalled = self._store.recalled(self._worker, now - RECALL_US) if looks else []
            return recalled, standings

        if looks or speaks:
            answered = await self._in_thread(speak)
            if answered is not None:
                self._unanswered = []
                self._beaten_us = now if speaks else self._beaten_us
                self._recalled = frozenset(answered[0])
                self._take_in(draws, answered[1], turn)
        self._serve(self._now_us())
        self._sweep(now)

    def _take_in(self, draws: list[Draw], standings: list[Standing], turn: int) -> None:
        for draw, standing in zip(draws, standings, strict=True):
            self._leases[draw.counter].answer(draw, standing, turn)
            if standing.alert and self._alerts is not None:
                told = Alert(draw.counter, standing.alert, standing.spent, standing.limit)
                asyncio.get_running_loop().call_soon(self._alerts, told)  # its faults are its own

    async def _in_thread(self, step: Callable[[], _T]) -> _T | None:
        """Run a step of the store; None where it failed, which is then left alone for a while."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, step)
        except StoreError:
            self._down_until_us = self._now_us() + DOWN_US
            return None
        self._down_until_us = 0
        return answer

    def _draws(self, now: int) -> list[Draw]:
        """What there is to tell and to ask, of all counters together."""
        waiting: dict[str, list[int]] = {}
        for waiter in self._waiters:
            if not waiter.future.done():
                for lease, amount in self._lacking(self._claims_of(waiter.key), waiter.need):
                    waiting.setdefault(lease.counter, []).append(amount)
        self._busy |= {name: self._leases[name] for name in waiting}
        draws = []
        for name, lease in list(self._busy.items()):  # few, however many there are in all
            draw = lease.draw(waiting.get(name, []), now, recalled=name in self._recalled)
            if draw is not None:
                draws.append(draw)
            elif lease.idle:
                del self._busy[name]
        return draws

    def _serve(self, now: int) -> None:
        """Give those who wait what they can have now, in the order in which they came."""
        left = []
        for waiter in self._waiters:
            if waiter.future.done():
                continue
            answer = self._answer(waiter, now)
            if answer is None:
                left.append(waiter)
            else:
                waiter.future.set_result(answer)
        self._waiters = left

    def _answer(self, waiter: _Waiter, now: int) -> Hold | Denied | None:
        """A hold, a refusal, or None while there is still something to wait for."""
        found = self._claims_of(waiter.key)
        held = self._take(found, waiter.need)
        if held is not None:
            return held
        if self.store_is_down:
            return self._without_store(waiter.key, waiter.need)
        in_time = asyncio.get_running_loop().time() < waiter.until
        for lease, amount in self._lacking(found, waiter.need):
            standing = lease.standing
            elsewhere = standing.leased > standing.mine or standing.remaining >= amount - lease.room
            if lease.answered > waiter.turn and not (elsewhere and in_time):
                lease.dry_until_us = now + DRY_US
                return self._denied(lease, amount, now)
        return None
