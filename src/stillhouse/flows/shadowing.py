"""The story of an audit: the teacher is asked again what a student has answered, unheard.

A call that waits is leased before it is made, so that a watch that dies makes it again later, as a
call of its own: both are in the books.
"""

from __future__ import annotations

from asyncio import Task, gather
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from stillhouse.core.calls import Done, Headers
from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.serving import SHADOW_KEY, ShadowCall
from stillhouse.core.traffic import AttemptKind, Tags
from stillhouse.dialects.peek import peek
from stillhouse.flows.answer import answer
from stillhouse.flows.house import Asked, House
from stillhouse.routing.catalogue import find_route
from stillhouse.routing.outcomes import retry_after

LEASE_US = 15 * 60 * 10**6
"""A call that was begun and not heard of again is made again after so long."""

WAITS_US = tuple(seconds * 10**6 for seconds in (5, 30, 120, 600, 3600))
"""After a failure, by how often it was tried; longer where the teacher asks for longer."""

AT_ONCE = 4
"""So many audits are under way at a time: callers' own requests are to go before them."""

_NOT_MADE = (429, 503)
_WRONG = (400, 413, 415, 422)
"""What teachers say of requests that they would never answer."""


class ShadowBooks(Protocol):
    """The calls that wait."""

    def waiting_shadows(self, limit: int, now_us: int) -> list[ShadowCall]:
        """Calls whose time has come, oldest first."""
        ...

    def shadow_done(self, exchange_id: str) -> None:
        """The teacher has answered: forget the call and its body."""
        ...

    def shadow_refused(self, exchange_id: str) -> None:
        """The teacher will never answer: forget the call and its body, and count it as given up."""
        ...

    def shadow_failed(self, exchange_id: str, again_us: int) -> bool:
        """Count a try, and wait until an instant; False where it was given up."""
        ...

    def shadow_later(self, exchange_id: str, again_us: int, spared: int = 0) -> None:
        """Wait until an instant; `spared` tries were counted and not made."""
        ...


class Audited(NamedTuple):
    """What a round came to; `held_up` says that limits or failures ask for a pause."""

    asked: int
    held_up: bool


async def audit(house: House, books: ShadowBooks, limit: int, at_once: int = AT_ONCE) -> Audited:
    """Ask the teacher about requests that wait, some at a time; no more after one that failed.

    What failed here is raised only once the calls beside it are over: they cost money.
    """
    waiting = books.waiting_shadows(limit, house.now_us())
    asked, held_up = 0, False
    while waiting and not held_up:
        some, waiting = waiting[:at_once], waiting[at_once:]
        ended = await gather(*(_audit(house, books, call) for call in some), return_exceptions=True)
        asked += sum(one is True for one in ended)
        _raise_first(ended)
        held_up = not all(ended)
    return Audited(asked, held_up)


def _raise_first(ended: Sequence[bool | BaseException]) -> None:
    for one in ended:
        if isinstance(one, BaseException):
            raise one


async def _audit(house: House, books: ShadowBooks, call: ShadowCall) -> bool:
    """Lease a call and make it; False where it has to wait."""
    if not books.shadow_failed(call.exchange_id, house.now_us() + LEASE_US):
        return True  # given up
    told, waits_us = await ask_again(house, call, shadow_id(call.exchange_id, call.tries))
    if told is None or told.status < 400:
        books.shadow_done(call.exchange_id)
        return True
    if told.attempts and told.status in _WRONG:  # of a caller's making: it holds up no other
        books.shadow_refused(call.exchange_id)
        return True
    # What a budget of ours held back was never tried.
    spared = int(not told.attempts and told.status in _NOT_MADE)
    waits_us = max(waits_us, WAITS_US[min(call.tries, len(WAITS_US) - 1)])
    books.shadow_later(call.exchange_id, house.now_us() + waits_us, spared)
    return False


async def ask_again(house: House, call: ShadowCall, exchange_id: str) -> tuple[Done | None, int]:
    """Put a caller's request to its teacher, unheard: how it ended, and how long to wait then.

    None for a request that cannot be put any more (its model is gone): nothing will come.
    """
    try:
        ask = peek(call.body, Wire(call.wire))
    except CallerError:
        return None, 0
    route = find_route(house.catalogue, call.model)
    if route is None:
        return None, 0
    note = call.consultation._replace(about=call.exchange_id)
    asked = Asked(
        exchange_id,
        house.now_us(),
        house.seconds(),
        ask,
        call.body,
        replace(route, fallbacks=(), cache_seconds=0, hedge_after_seconds=None),
        SHADOW_KEY,
        Tags(task=call.tag),
        consultation=note,
        students=False,
        kind=AttemptKind.SHADOW,
    )
    nobody = _Nobody()
    told = await answer(house, asked, nobody)
    return told, round(1e6 * (retry_after(nobody.headers, house.now_us()) or 0))


def shadow_id(exchange_id: str, tries: int) -> str:
    """The id of an audit: another one for each try, the same whoever makes it.

    >>> len(shadow_id("0192", 0)), shadow_id("0192", 0) == shadow_id("0192", 1)
    (32, False)
    """
    return blake2b(f"{exchange_id} {tries}".encode(), digest_size=16, person=b"shadow").hexdigest()


class _Nobody:
    """A caller that hears how long to wait and nothing else: what is said is in the journal."""

    gone = False
    push = None

    def __init__(self) -> None:
        self.headers: Headers = []

    async def ready(self) -> None:
        """Always."""

    def interrupt(self, task: Task[Any] | None) -> None:
        """Nobody leaves."""

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Unheard but for its headers."""
        self.headers = headers

    async def begin(self, status: int, headers: Headers) -> None:
        """Unheard."""

    async def piece(self, chunk: bytes) -> None:
        """Unheard."""

    async def end(self, chunk: bytes) -> None:
        """Unheard."""
