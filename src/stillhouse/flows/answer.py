"""The story of one request: reserve, choose, journal, send, pass on, price, journal, settle."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from stillhouse.core.calls import Done, Ended, Fate, Headers
from stillhouse.core.catalogue import Deployment
from stillhouse.core.errors import CallerError, StillhouseError, StoreError
from stillhouse.core.quotas import Denied, Hold, Need
from stillhouse.core.traffic import AttemptKind
from stillhouse.flows.attempt import Attempting, Failed
from stillhouse.flows.consulting import (
    Ruling,
    bridged,
    conclude,
    consult,
    deferred,
    recognised,
    watch_teacher,
)
from stillhouse.flows.hedging import Hedging
from stillhouse.flows.house import Asked, Caller, House
from stillhouse.flows.naming import TEACHER, UNWATCHED, Holding, Naming
from stillhouse.flows.refusing import JSON, Refusal, said, tell
from stillhouse.flows.remember import Listening, give, key_of
from stillhouse.flows.student_answer import Written, give_answer, write
from stillhouse.ledger.estimate import need
from stillhouse.ledger.prices import Price
from stillhouse.routing.outcomes import UNSPOKEN
from stillhouse.routing.retrying import TERMS, Plan, Terms, Try, Wait

_FALLBACK = AttemptKind.FALLBACK  # a member of an enumeration is dear to look up
_PAYING_TWICE = Terms(pay_twice=True)
_GONE = (Fate.CALLER_GONE, Fate.WITHDRAWN)
_LEFT = Refusal(499, "invalid_request", "the caller left")
_LATE = (Fate.CONNECT_TIMEOUT, Fate.FIRST_BYTE_TIMEOUT, Fate.TOTAL_TIMEOUT)
_PASSED_ON = (b"retry-after", b"retry-after-ms", b"request-id", b"x-request-id", b"x-should-retry")


def answer(house: House, asked: Asked, caller: Caller) -> Coroutine[Any, Any, Done]:
    """Answer a request, whatever happens, and book every call that it took.

    What an upstream was sent is in the journal before its first byte leaves, what it cost before
    the caller's last byte does. A stream that dies is ended in the caller's own wire format and
    never continued by another model.
    """
    if house.keeper.waiting and house.keeper.blocked:
        sentence = "the journal cannot be written, so nothing is bought: free space on its disk"
        return _refuse(house, asked, caller, Refusal(503, "overloaded", sentence), [], 0.0)
    key = key_of(asked) if asked.route.cache_seconds else None
    if key is not None:
        return _remembered(house, asked, caller, key)
    return (_ask if house.staff is None else _cascaded)(house, asked, caller)


async def _remembered(house: House, asked: Asked, caller: Caller, key: bytes) -> Done:
    """Answer out of the cache, or into it."""
    kept = house.cache.get(key, house.seconds())
    if kept is not None:
        hit = await give(house, asked, caller, kept)
        return done(house, asked, kept.status, [hit], 0.0, None, cached=True)
    listening = Listening(caller)
    told = await (_ask if house.staff is None else _cascaded)(house, asked, listening)
    if told.attempts:
        listening.keep(house, asked, key, told.attempts[-1])
    return told


async def _ask(house: House, asked: Asked, caller: Caller) -> Done:
    """Ask the route's upstreams until one answers or none is left to try."""
    ended: list[Ended] = []
    waited = asked.student_seconds
    route = asked.route
    make = Attempting if route.hedge_after_seconds is None else _hedging
    plan = Plan(
        route,
        house.catalogue,
        house.health,
        house.draw,
        house.seconds,
        _PAYING_TWICE if route.pay_twice else TERMS,
    )
    try:
        step: Try | Wait = plan.begin()
        result: Ended | Failed | None = None
        while True:
            if isinstance(step, Wait):
                waited += step.seconds
                await house.sleep(step.seconds)
                step = plan.go_on()
            try:
                kind = step.kind if ended or step.kind is _FALLBACK else asked.kind
                call = make(house, asked, caller, step.deployment, kind, len(ended))
                held = _hold_at_once(house, asked, caller, call.price)
            except CallerError as foreign:
                following = plan.after(UNSPOKEN)
                if following is None:
                    return await _unspoken(house, asked, caller, foreign, result, ended, waited)
                step = following
                continue
            if isinstance(held, Need):
                held = await _hold(house, asked, held)
            if isinstance(held, Refusal):
                return await _refuse(house, asked, caller, held, ended, waited)
            try:
                result = await call.run(held)
            except StillhouseError as failed:  # nothing went upstream
                house.desk.release(held)
                return await _refuse(house, asked, caller, said(failed), ended, waited)
            except Exception:  # a fault of ours: nothing stays reserved for it
                call.abandon()
                raise
            waited += call.waited
            ended += call.beside
            if caller.gone and isinstance(result, Failed):
                break
            following = plan.after(call.outcome(result))
            if following is None or not isinstance(result, Failed):  # an answer ends the plan
                break
            step = following
            ended.append(await call.close(result, last=False))
        if isinstance(result, Failed):
            ended.append(await call.close(result, last=not asked.more))
            return await _give_up(house, asked, caller, result, ended, waited)
        ended.append(result)
        told = 499 if result.fate in _GONE else result.status
        return done(house, asked, told, ended, waited, call.first_byte_seconds)
    finally:
        plan.close()  # what was left under way speaks for or against nobody


async def _cascaded(house: House, asked: Asked, caller: Caller) -> Done:
    """Let the cascade say who answers: a student of the request's task, or the teacher."""
    staff = house.staff
    matter = None
    if staff is not None and asked.consultation is None:
        matter = recognised(staff, asked)
    if staff is None or matter is None:
        return await _ask(house, asked, caller)
    ruling = await consult(staff, matter, asked.ask.wire, house.seconds)
    if ruling.decision is not None:
        try:
            written = write(house, asked, ruling)
        except CallerError as unfit:
            ruling = deferred(ruling, str(unfit))
        else:
            given = await _by_student(house, asked, caller, ruling, written, (), ruling.seconds)
            if isinstance(given, Refusal):
                return await _refuse(house, asked, caller, given, (), ruling.seconds)
            return given
    ask = _bridged if matter.serving.terms.bridge and ruling.said is not None else _by_teacher
    told = await ask(house, _consulted(asked, ruling), caller, ruling)
    conclude(ruling, told.attempts)
    watch_teacher(staff, matter, told.attempts)
    return told


async def _by_teacher(house: House, asked: Asked, caller: Caller, ruling: Ruling) -> Done:
    return await _ask(house, asked, Naming(caller, TEACHER))


async def _bridged(house: House, asked: Asked, caller: Caller, ruling: Ruling) -> Done:
    """Ask the teacher; while it fails the student answers, and says that it is not certified."""
    holding = Holding(caller)
    quiet = replace(house, watch=UNWATCHED)  # the request is told of once, at its end
    told = await _ask(quiet, asked._replace(more=True), holding)
    if holding.outage and told.attempts and not caller.gone:
        bridging, waited = bridged(ruling), told.seconds - told.overhead_seconds
        with suppress(CallerError):  # what cannot be rendered stays the teacher's failure
            written = write(house, asked, bridging)
            given = await _by_student(
                house, asked, caller, bridging, written, told.attempts, waited
            )
            if isinstance(given, Done):
                return given
    if holding.held is not None:
        await _close(house, told.attempts)
        await holding.release()
    house.watch.done(told)
    return told


async def _by_student(
    house: House,
    asked: Asked,
    caller: Caller,
    ruling: Ruling,
    written: Written,
    ended: Sequence[Ended],
    waited: float,
) -> Done | Refusal:
    """Give a student's answer: it costs nothing, but a limit on requests counts it."""
    held = await _hold(house, asked, Need(0, 0))
    if isinstance(held, Refusal):
        return held
    try:
        given = await give_answer(house, asked, caller, ruling, written, len(ended))
    except BaseException as failed:
        house.desk.release(held)
        if isinstance(failed, StoreError):  # what cannot be booked is not answered
            return said(failed)
        raise
    house.desk.settle(held, 0, 0)
    return done(house, _consulted(asked, ruling), 200, [*ended, given], waited, None)


def _consulted(asked: Asked, ruling: Ruling) -> Asked:
    return asked._replace(consultation=ruling.consultation, student_seconds=ruling.seconds)


def _hedging(
    house: House,
    asked: Asked,
    caller: Caller,
    deployment: Deployment,
    kind: AttemptKind,
    place: int,
) -> Hedging:
    reserve = partial(_reserve, house, asked, caller)
    return Hedging(house, asked, caller, deployment, kind, place, reserve)


async def _reserve(
    house: House, asked: Asked, caller: Caller, price: Price | None
) -> Hold | Refusal:
    """Set aside the most that a call may use; a refusal says which quota is in the way."""
    held = _hold_at_once(house, asked, caller, price)
    return await _hold(house, asked, held) if isinstance(held, Need) else held


def _hold_at_once(
    house: House, asked: Asked, caller: Caller, price: Price | None
) -> Hold | Refusal | Need:
    """Reserve out of what this process has in hand; what is needed, where that does not suffice."""
    if caller.gone:  # while it was waited to try again
        return _LEFT
    route = asked.route
    most, unpriced = route.max_output_tokens, route.allow_unpriced
    wanted = need(asked.ask, len(asked.body), price, most, allow_unpriced=unpriced)
    return house.desk.try_hold(asked.key_id, asked.tags, route.name, wanted) or wanted


async def _hold(house: House, asked: Asked, wanted: Need) -> Hold | Refusal:
    answered = await house.desk.hold(asked.key_id, asked.tags, asked.route.name, wanted)
    if isinstance(answered, Denied):
        quota = answered.quota
        return Refusal(
            429,
            "rate_limit",
            answered.sentence,
            answered.retry_after_seconds,
            quota.quota_id if quota is not None else "",
        )
    return answered


async def _refuse(
    house: House,
    asked: Asked,
    caller: Caller,
    refusal: Refusal,
    ended: Sequence[Ended],
    waited: float,
) -> Done:
    if not asked.more:
        await _close(house, ended)
    await tell(caller, asked, refusal)
    return done(house, asked, refusal.status, ended, waited, None, refusal.refused_by)


async def _close(house: House, ended: Sequence[Ended]) -> None:
    """Say that no other call follows after all: the exchange can be booked."""
    if ended and not ended[-1].last:
        await house.keeper.close(ended[-1]._replace(last=True))


async def _unspoken(
    house: House,
    asked: Asked,
    caller: Caller,
    foreign: CallerError,
    result: Ended | Failed | None,
    ended: list[Ended],
    waited: float,
) -> Done:
    """Say that the last upstream speaks nothing that this caller could be answered in."""
    if not isinstance(result, Failed):
        return await _refuse(house, asked, caller, said(foreign), ended, waited)
    if not asked.more:
        await _close(house, ended)
        ended[-1] = ended[-1]._replace(last=True)
    return await _give_up(house, asked, caller, result, ended, waited)


async def _give_up(
    house: House,
    asked: Asked,
    caller: Caller,
    failed: Failed,
    ended: Sequence[Ended],
    waited: float,
) -> Done:
    """Pass the last failure on: an upstream's own error as it is, any other in one sentence."""
    fate, status = failed.outcome.fate, failed.outcome.status
    upstream = ended[-1].attempt.host or "the upstream"
    ours = status == 401 and not failed.outcome.caller_key
    if fate is Fate.STATUS and status >= 400 and not ours:
        body = failed.body_for_caller
        headers: Headers = [
            *(field for field in failed.headers if field[0] in _PASSED_ON),
            JSON,
            (b"content-length", b"%d" % len(body)),
            (b"x-stillhouse-exchange", asked.exchange_id.encode()),
        ]
        await caller.whole(status, headers, body)
        return done(house, asked, status, ended, waited, None)
    if fate is Fate.STATUS:  # not the caller's fault
        sentence = f"{upstream} refused this endpoint's own key; check its key_env"
        if not ours:
            sentence = f"{upstream} sends elsewhere with status {status}; check its base_url"
        refusal = Refusal(502, "upstream_error", sentence)
    else:
        refusal = Refusal(504 if fate in _LATE else 502, "upstream_error", failed.heard.error)
    return await _refuse(house, asked, caller, refusal, ended, waited)


def done(
    house: House,
    asked: Asked,
    status: int,
    ended: Sequence[Ended],
    waited: float,
    first_byte: float | None,
    refused_by: str = "",
    *,
    cached: bool = False,
) -> Done:
    """Sum a request up for those who watch."""
    cost: int | None = 0
    for entry in ended:
        for charge in entry.charges:
            cost = None if cost is None or charge.billed is None else cost + charge.billed.pico
    seconds = house.seconds() - asked.began
    summed = Done(
        asked.exchange_id,
        asked.at_us,
        asked.ask.wire,
        asked.route.name,
        asked.key_id,
        asked.tags,
        status,
        asked.ask.stream,
        tuple(ended),
        cost,
        seconds,
        max(0.0, seconds - waited),
        first_byte,
        cached,
        refused_by,
        asked.traceparent,
        asked.consultation,
        asked.student_seconds,
    )
    house.watch.done(summed)
    return summed
