"""A call with a second one behind it: the first good answer is given, and both are booked.

The second call begins once the first has not answered for as long as the route says. It buys a
shorter tail with money: what the call that is outrun has used by then is charged like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from stillhouse.core.calls import Ended, Fate, Headers
from stillhouse.core.catalogue import Deployment, OnDisconnect, Route
from stillhouse.core.errors import StillhouseError
from stillhouse.core.quotas import Hold
from stillhouse.core.traffic import AttemptKind
from stillhouse.flows.attempt import Attempting, Failed
from stillhouse.flows.booking import Heard
from stillhouse.flows.house import Asked, Caller, House
from stillhouse.ledger.prices import Price
from stillhouse.routing.outcomes import Outcome, Retry, retry_of
from stillhouse.routing.retrying import hedge

OUTRUN = "the other call for this request answered first"

Reserve = Callable[[Price | None], Awaitable[object]]
"""Sets aside what a call at a price may use: gives a Hold, or anything else for a refusal."""


class Hedging:
    """Two calls where an Attempting is one; `run` and `close` are as there.

    Afterwards `beside` are the calls booked besides the one that `run` or `close` gives. `outcome`
    is what came of the first one, which the plan chose; the second one's health is reported here.
    Both count under `max_attempts`.
    """

    def __init__(
        self,
        house: House,
        asked: Asked,
        caller: Caller,
        deployment: Deployment,
        kind: AttemptKind,
        place: int,
        reserve: Reserve,
    ) -> None:
        self._house, self._asked, self._caller = house, asked, caller
        self._running, self.place, self._reserve = deployment, place, reserve
        self._legs = [_Leg(self, house, asked, caller, deployment, kind, place)]
        self._main = self._legs[0]
        self._winner: _Leg | None = None
        self._is_closed = False
        self.booked: Ended | None = None
        self._following: asyncio.Task[None] | None = None
        self.price = self._main.price
        self.beside: list[Ended] = []
        self._outcome = Outcome(Fate.INTERRUPTED, answered=True)
        self.waited = 0.0
        self.first_byte_seconds: float | None = None

    def outcome(self, result: Ended | Failed) -> Outcome:
        """What came of the first call, as far as the plan may go on from there."""
        return self._outcome

    async def run(self, hold: Hold) -> Ended | Failed:
        """Send the call, a second one if need be, and pass the first good answer on."""
        first = self._legs[0].task = asyncio.ensure_future(self._legs[0].go(hold))
        following = self._following = asyncio.ensure_future(self._follow())
        tasks = (first, following)
        if self._asked.route.on_disconnect is OnDisconnect.CANCEL:
            self._caller.interrupt(asyncio.current_task())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._call_off()
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            self._call_off()
            for leg in self._legs:
                leg.stop()
            await asyncio.wait(tasks)
            if not self._caller.gone:
                raise
            _uncancel()
        self._caller.interrupt(None)
        for task in tasks:
            if not task.cancelled():
                task.result()
        return await self._result()

    async def close(self, failed: Failed, *, last: bool) -> Ended:
        """Book the call that failed last; `last` where no other follows it."""
        return await self._main.close(self._main.failure, last=last)

    def abandon(self) -> None:
        """Free what is still reserved: something of ours has failed on the way."""
        for leg in self._legs:
            leg.stop()
            leg.abandon()

    def wins(self, leg: _Leg) -> bool:
        """Whether this one's answer is the caller's: the first that asks stops the other."""
        if self._winner is None:
            self._winner = leg
            self._call_off()
            for other in self._legs:
                if other is not leg:
                    other.lane.outrun = True
                    other.stop()
        return self._winner is leg

    def closes(self, leg: _Leg) -> bool:
        """Whether no other call of the two has yet to be booked; then none is begun any more."""
        self._is_closed = all(other.booked for other in self._legs if other is not leg)
        if self._is_closed:
            self._call_off()
        return self._is_closed

    def _call_off(self) -> None:
        """Make no second call, unless it has begun."""
        if len(self._legs) == 1 and self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        """Make the second call when it is time for it, if there is one to make."""
        house, route = self._house, self._asked.route
        await house.sleep(route.hedge_after_seconds or 0.0)
        step = hedge(route, house.health, self._running, house.seconds(), house.draw())
        if step is None or self.place + 2 > route.max_attempts or self._caller.gone:
            return
        kind, place = step.kind, self.place + 1
        try:
            leg = _Leg(self, house, self._asked, self._caller, step.deployment, kind, place)
        except StillhouseError:  # it speaks nothing that this caller could be answered in
            return
        hold = await self._reserve(leg.price)
        if not isinstance(hold, Hold):
            return
        leg.task = asyncio.current_task()
        self._legs.append(leg)
        began = house.seconds()
        house.health.began(step.deployment, began)
        try:
            await leg.go(hold)
        finally:
            house.health.ended(step.deployment, leg.heard, began, house.seconds())

    async def _result(self) -> Ended | Failed:
        """What the caller is given, or told, of the two; the other one is booked."""
        first = self._legs[0]
        alive = [leg for leg in self._legs if leg.ended or leg.failed]
        for leg in self._legs:
            if leg not in alive and (alive or leg is not first):
                self._house.desk.release(leg.hold)
        if not alive:  # then the first one's hold is freed by the one who reserved it
            if not self.place:
                await self._see_closed()
            raise first.fault or asyncio.CancelledError
        given = [leg for leg in alive if leg.ended is not None]
        self._main = self._winner if self._winner in given else (given or alive)[-1]
        for leg in alive:
            if leg is not self._main:
                self.beside.append(leg.ended or await leg.close(leg.failure, last=bool(given)))
        self._sum_up(first, alive)
        if self._main.ended is not None:
            await self._see_closed()
            return self._main.ended
        told = [leg.failure for leg in alive if leg.heard.fate is Fate.STATUS]
        return told[0] if told else self._main.failure

    def _sum_up(self, first: _Leg, alive: list[_Leg]) -> None:
        """How long it took, and whether the plan may go on from what came of the first call."""
        main, route = self._main, self._asked.route
        ends = [main] if main.ended is not None else alive
        self.waited = max(leg.waited + leg.began - first.began for leg in ends)
        if main.first_byte_seconds is not None:
            self.first_byte_seconds = main.first_byte_seconds + main.began - first.began
        over = main.ended is not None or self.place + len(self._legs) >= route.max_attempts
        others = [leg for leg in self._legs if leg is not first]
        over = over or any(leg.fault or _helps_nowhere(leg.heard, route) for leg in others)
        self._outcome = first.heard._replace(answered=over or first.heard.answered)

    async def _see_closed(self) -> None:
        """Close the exchange also where a call that was waited for was never made after all."""
        if not self._is_closed and self.booked is not None:
            await self._house.keeper.close(self.booked._replace(last=True))


def _helps_nowhere(outcome: Outcome, route: Route) -> bool:
    again = retry_of(outcome)
    return again is Retry.NOWHERE or (again is Retry.COSTLY and not route.pay_twice)


class _Leg(Attempting):
    """One of the two calls; its caller is gone as soon as the other one has answered."""

    __slots__ = (
        "_pair",
        "began",
        "booked",
        "ended",
        "failed",
        "fault",
        "heard",
        "hold",
        "lane",
        "task",
    )

    def __init__(
        self,
        pair: Hedging,
        house: House,
        asked: Asked,
        caller: Caller,
        deployment: Deployment,
        kind: AttemptKind,
        place: int,
    ) -> None:
        self.lane = _Lane(caller, lambda: pair.wins(self))
        super().__init__(house, asked, self.lane, deployment, kind, place)
        self._pair = pair
        self.began = house.seconds()
        self.hold = Hold((), ())
        self.task: asyncio.Future[None] | None = None
        self.ended: Ended | None = None
        self.failed: Failed | None = None
        self.fault: StillhouseError | None = None
        self.booked = False
        self.heard = Outcome(Fate.INTERRUPTED, answered=True)

    @property
    def failure(self) -> Failed:
        """How it failed."""
        assert self.failed is not None
        return self.failed

    async def go(self, hold: Hold) -> None:
        """Run, and keep what came of it."""
        self.hold = hold
        try:
            result = await self.run(hold)
        except StillhouseError as fault:
            self.fault, self.booked = fault, True
            return
        if isinstance(result, Failed):
            self.failed = result
        else:
            self.ended = result
        self.heard = self.outcome(result)

    def stop(self) -> None:
        """Cancel it while it waits for its upstream."""
        if self.task is not None and not self.lane.arrived:
            self.task.cancel()

    async def _keep(self, heard: Heard, *, last: bool = True) -> Ended:
        """Book it: as outrun where the other one won."""
        if self.lane.outrun or (heard.fate is Fate.OK and not self._pair.wins(self)):
            if heard.fate in (Fate.OK, Fate.CALLER_GONE):
                heard = heard._replace(fate=Fate.OUTRUN)
            if heard.fate in (Fate.OUTRUN, Fate.WITHDRAWN):
                heard = heard._replace(error=OUTRUN)
        return await super()._keep(heard, last=last)

    def _ended(self, heard: Heard, *, last: bool = True) -> Ended:
        """Its end, for the journal."""
        self.booked = True
        last = last or (heard.fate is Fate.WITHDRAWN and not self._pair.place)
        ended = super()._ended(heard, last=last and self._pair.closes(self))
        self._pair.booked = ended
        return ended


class _Lane:
    """The caller as one of two calls sees it."""

    __slots__ = ("_caller", "_wins", "arrived", "outrun")

    def __init__(self, caller: Caller, wins: Callable[[], bool]) -> None:
        self._caller, self._wins = caller, wins
        self.arrived = self.outrun = False

    @property
    def gone(self) -> bool:
        """Whether nobody waits for this call's answer."""
        return self.outrun or self._caller.gone

    @property
    def push(self) -> Callable[[bytes], bool] | None:
        """Passes a piece on at once."""
        return self._caller.push

    async def ready(self) -> None:
        """Wait until a slow caller reads again."""
        await self._caller.ready()

    def interrupt(self, task: asyncio.Task[Any] | None) -> None:
        """None once nothing more is awaited from upstream; whom to cancel, the pair knows."""
        self.arrived = task is None

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Give a whole answer, unless the other one is given."""
        if not self.outrun:
            await self._caller.whole(status, headers, body)

    async def begin(self, status: int, headers: Headers) -> None:
        """Begin a stream, which decides between the two."""
        if not self._wins():
            raise asyncio.CancelledError
        await self._caller.begin(status, headers)

    async def piece(self, chunk: bytes) -> None:
        """Pass a piece of a stream on."""
        await self._caller.piece(chunk)

    async def end(self, chunk: bytes) -> None:
        """End a stream with its last piece."""
        await self._caller.end(chunk)


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
