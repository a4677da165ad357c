"""Answers from the cache: given at once, booked as a hit, with what was avoided kept apart."""

from __future__ import annotations

from asyncio import Task
from typing import Any

from stillhouse.core.calls import Ended, Fate, Headers, Started
from stillhouse.core.traffic import Attempt, AttemptKind, Evidence, Usage
from stillhouse.dialects.canonical import cache_key
from stillhouse.flows.house import Asked, Caller, House, Remembered

_STUDENT = AttemptKind.STUDENT
HIT = (b"x-stillhouse-cache", b"hit")


def key_of(asked: Asked) -> bytes | None:
    """What a request is remembered by; None where its route or its own chance forbids it.

    The keys of a team share its answers; without a team, a key keeps its own, and so does each
    provider key that callers bring along. A team that is only named in a header opens nothing.
    """
    if not asked.route.cache_seconds or not asked.ask.deterministic:
        return None
    tenant = f"key {asked.key_id} {asked.caller_key}"
    if asked.own_team:
        tenant = f"team {asked.own_team}"
    kind = "stream" if asked.ask.stream else "whole"
    usage = "usage" if asked.ask.wants_usage else ""
    return cache_key(asked.body, asked.ask.wire, f"{tenant}\n{kind}{usage}\n{asked.route.name}")


async def give(house: House, asked: Asked, caller: Caller, kept: Remembered) -> Ended:
    """Give a remembered answer; the books hold a hit without a charge, and its saving apart."""
    attempt = Attempt(
        attempt_id=asked.exchange_id,
        model=kept.model,
        at_us=asked.at_us,
        host=kept.host,
        kind=AttemptKind.CACHE,
        usage=Usage(),
        latency_ms=0.0,
        evidence=Evidence.DERIVED,
    )
    started = Started(
        asked.exchange_id,
        attempt,
        asked.ask.wire,
        "",
        asked.tags,
        asked.key_id,
        asked=house.keep_body(asked.route, asked.body),
        asked_bytes=len(asked.body),
    )
    await house.keeper.close(started)
    basis = f"what {kept.model} at {kept.host} charged for the answer when it was bought"
    ended = Ended(
        asked.exchange_id,
        attempt,
        (),
        Fate.OK,
        kept.status,
        answer=house.keep_body(asked.route, b"".join(kept.pieces)),
        streamed=asked.ask.stream,
        avoided_pico=kept.cost_pico or 0,
        basis=basis if kept.cost_pico is not None else "the answer was unpriced when it was bought",
    )
    await house.keeper.close(ended)
    headers: Headers = [*kept.headers, HIT]
    headers.append((b"x-stillhouse-exchange", asked.exchange_id.encode()))
    if asked.ask.stream:
        await caller.begin(kept.status, headers)
        for piece in kept.pieces[:-1]:
            await caller.piece(piece)
        await caller.end(kept.pieces[-1] if kept.pieces else b"")
    else:
        body = b"".join(kept.pieces)
        headers.append((b"content-length", b"%d" % len(body)))
        await caller.whole(kept.status, headers, body)
    return ended


class Listening:
    """A caller whose answer is listened to, so that it can be given again."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._status, self._headers = 0, list[tuple[bytes, bytes]]()
        self._pieces: list[bytes] = []

    @property
    def gone(self) -> bool:
        """Whether the caller has hung up."""
        return self._caller.gone

    @property
    def push(self) -> None:
        """Pieces are listened to one by one."""
        return

    async def ready(self) -> None:
        """Wait until a slow caller reads again."""
        await self._caller.ready()

    def interrupt(self, task: Task[Any] | None) -> None:
        """Which task to cancel when the caller goes."""
        self._caller.interrupt(task)

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Give a whole answer."""
        self._status, self._headers, self._pieces = status, headers, [body]
        await self._caller.whole(status, headers, body)

    async def begin(self, status: int, headers: Headers) -> None:
        """Begin a stream."""
        self._status, self._headers = status, headers
        await self._caller.begin(status, headers)

    async def piece(self, chunk: bytes) -> None:
        """Pass a piece on."""
        self._pieces.append(chunk)
        await self._caller.piece(chunk)

    async def end(self, chunk: bytes) -> None:
        """End a stream."""
        self._pieces.append(chunk)
        await self._caller.end(chunk)

    def keep(self, house: House, asked: Asked, key: bytes, ended: Ended) -> None:
        """Remember a good answer for as long as its route says; a student's may be withdrawn."""
        if not ended.attempt.ok or self._status != 200 or ended.attempt.kind is _STUDENT:
            return
        bills = [charge.billed for charge in ended.charges]
        cost = sum(bill.pico for bill in bills if bill is not None)
        answer = Remembered(
            self._status,
            [field for field in self._headers if field[0] in (b"content-type",)],
            tuple(self._pieces),
            ended.attempt.model,
            ended.attempt.host,
            None if None in bills else cost,
        )
        house.cache.put(key, answer, house.seconds() + asked.route.cache_seconds)
