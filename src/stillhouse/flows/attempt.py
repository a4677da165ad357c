"""One call upstream, from the journal's first word about it to its price."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from stillhouse.core.calls import Ended, Fate, Headers, Seen, Started
from stillhouse.core.catalogue import Deployment, OnDisconnect
from stillhouse.core.errors import ProviderError, StoreError, UpstreamError
from stillhouse.core.ports import Reply
from stillhouse.core.quotas import Hold
from stillhouse.core.traffic import Attempt, AttemptKind
from stillhouse.dialects.faults import stream_error, upstream_message
from stillhouse.dialects.seen import StreamEye, read_body
from stillhouse.dialects.translate import StreamTranslator
from stillhouse.dialects.unfold import text_answered
from stillhouse.flows.booking import Heard, book, expected_output, price_of
from stillhouse.flows.house import Asked, Caller, House
from stillhouse.flows.speaking import call_for, headers_for, way
from stillhouse.routing.outcomes import Outcome, retry_after

_OK, _CANCEL = Fate.OK, OnDisconnect.CANCEL  # members of an enumeration are dear to look up
NO_JSON = "the upstream's answer is cut off, or no JSON"


class Failed(NamedTuple):
    """A call that gave no answer to pass on; not in the journal yet."""

    outcome: Outcome
    heard: Heard
    headers: Headers = []  # noqa: RUF012 (never changed)
    body_for_caller: bytes = b""


class Attempting:
    """One call upstream: `run` it, and where it failed `close` it once it is known what follows.

    Afterwards `waited` is the time in seconds that was the upstream's, until there was a connection
    to it as well as until its answer was here. `beside` are further calls that were booked; here
    there is none.
    """

    __slots__ = (
        "_asked",
        "_attempt",
        "_called",
        "_caller",
        "_callers_key",
        "_deployment",
        "_dialled",
        "_hold",
        "_house",
        "_keeps_body",
        "_latency",
        "_sent",
        "_settled",
        "_started",
        "_translation",
        "_wire",
        "first_byte_seconds",
        "price",
        "waited",
    )

    def __init__(
        self,
        house: House,
        asked: Asked,
        caller: Caller,
        deployment: Deployment,
        kind: AttemptKind,
        place: int,
    ) -> None:
        self._house, self._asked, self._caller = house, asked, caller
        self._deployment = deployment
        ask = asked.ask
        upstream, self._wire, self._translation = way(house, deployment.upstream, ask.wire)
        self._callers_key = asked.caller_key if upstream.pass_caller_key else ""
        self._attempt = Attempt(
            f"{asked.exchange_id}-{place + 1}" if place else asked.exchange_id,
            deployment.model,
            house.now_us() if place else asked.at_us,
            upstream.host,
            kind,
            service_tier=ask.service_tier,
            region=upstream.region,
        )
        self.price = price_of(house, self._attempt)
        self._keeps_body = not place
        self._called = self._sent = 0.0
        self._dialled: float | None = None
        self._settled = True
        self._latency = self.waited = 0.0
        self.first_byte_seconds: float | None = None

    beside: Sequence[Ended] = ()

    def outcome(self, result: Ended | Failed) -> Outcome:
        """What came of it, for the plan that chose it."""
        if isinstance(result, Failed):
            return result.outcome
        return Outcome(result.fate, result.status, None, True, self.first_byte_seconds)

    def _sending(self) -> Awaitable[None] | None:
        house = self._house
        self._dialled = house.seconds() - self._called
        written = house.keeper.start(self._started)
        if written is not None:
            return self._confirmed(written)
        self._sent = house.seconds()
        return None

    async def _confirmed(self, written: Awaitable[None]) -> None:
        """Wait for the disk; what it does not confirm does not leave, and is booked so."""
        try:
            await written
        except StoreError as unsure:
            self._caller.interrupt(None)
            nothing = Heard(Fate.WITHDRAWN, 0, error=str(unsure))
            await self._house.keeper.close(self._ended(nothing, last=self._keeps_body))
            raise
        self._sent = self._house.seconds()

    async def run(self, hold: Hold) -> Ended | Failed:
        """Send the call and pass its answer on; Failed where there was none to pass.

        Raises CallerError and StoreError before anything has gone upstream.
        """
        house, asked = self._house, self._asked
        self._hold, self._settled = hold, False
        self._started = Started(
            asked.exchange_id,
            self._attempt,
            asked.ask.wire,
            self._deployment.upstream,
            asked.tags,
            asked.key_id,
            self.price.price_id if self.price is not None else "",
            house.keep_body(asked.route, asked.body) if self._keeps_body else "",
            len(asked.body),
            expected_output(house, asked),
            hold.counters,
            self._wire if self._translation is not None else "",
            asked.consultation if self._keeps_body else None,
        )
        provider = house.providers[self._deployment.upstream]
        reply: Reply | None = None
        if asked.route.on_disconnect is _CANCEL:
            self._caller.interrupt(asyncio.current_task(house.loop))
        try:
            model, attempt_id = self._deployment.model, self._attempt.attempt_id
            call = call_for(
                asked, model, self._wire, self._translation, attempt_id, self._callers_key
            )
            self._called = house.seconds()
            reply = await provider.send(call, self._sending)
            status = reply.status
            if asked.ask.stream and status < 300:
                return await self._pass_stream(reply)
            body = reply.whole_body()
            if body is None:
                body = await reply.read()
            self._arrived()
        except UpstreamError as fault:
            self._arrived()
            status = reply.status if reply is not None else 0
            return Failed(Outcome(fault.fate, status), Heard(fault.fate, status, error=str(fault)))
        except asyncio.CancelledError:
            if not self._caller.gone:
                raise
            _uncancel()
            if reply is not None:
                reply.cancel()
            self._arrived()
            fate = Fate.CALLER_GONE if self._sent else Fate.WITHDRAWN
            status = reply.status if reply is not None else 0
            return await self._keep(Heard(fate, status, error="the caller left"))
        if status >= 300:
            heard = Heard(Fate.STATUS, status, body=body, error=upstream_message(body))
            waits = retry_after(reply.headers, house.now_us())
            outcome = Outcome(Fate.STATUS, status, waits, caller_key=bool(self._callers_key))
            turned = self._translation
            told = body if turned is None else turned.error(status, body)
            return Failed(outcome, heard, reply.headers, told)
        seen = read_body(body, self._wire)
        if not seen.complete:
            heard = Heard(Fate.GARBAGE, status, seen, body=body, error=NO_JSON)
            return Failed(Outcome(Fate.GARBAGE, status), heard)
        return await self._give(reply, body, seen)

    def _arrived(self) -> None:
        """Nothing more is awaited from upstream: from here on the call is booked, come what may."""
        self._caller.interrupt(None)
        now, dialled = self._house.seconds(), self._dialled
        if self._sent:
            self._latency = now - self._sent
        self.waited = now - self._called if dialled is None else dialled + self._latency

    async def _give(self, reply: Reply, body: bytes, seen: Seen) -> Ended | Failed:
        """Book a whole answer, then give it."""
        self.first_byte_seconds = self._latency
        text = text_answered(body, self._wire) if seen.usage_body is None else None
        out, asked = body, self._asked
        if self._translation is not None:
            at_s = asked.at_us // 1_000_000
            try:
                out = self._translation.answer(
                    body, asked.ask.model, asked=asked.body, created=at_s
                )
            except ProviderError as foreign:
                heard = Heard(Fate.GARBAGE, reply.status, seen, text, body=body, error=str(foreign))
                return Failed(Outcome(Fate.GARBAGE, reply.status), heard)
        ended = await self._keep(Heard(_OK, reply.status, seen, text, body=body))
        headers = headers_for(asked.exchange_id, reply.headers, len(out))
        await self._caller.whole(reply.status, headers, out)
        return ended

    async def _pass_stream(self, reply: Reply) -> Ended | Failed:
        """Pass a stream on as it comes; its last piece leaves once the call is in the journal."""
        ask, caller = self._asked.ask, self._caller
        eye = StreamEye(self._wire, hide_usage=self._translation is None and not ask.wants_usage)
        turned = None
        if self._translation is not None:
            at_s = self._asked.at_us // 1_000_000
            turned = self._translation.stream(ask.model, asked=self._asked.body, created=at_s)
        fault = UpstreamError(Fate.TRUNCATED, "the stream ended before its last event")
        try:
            async for chunk in reply.chunks():
                out = eye.feed(chunk) if turned is None else _both(eye, turned, chunk)
                if self.first_byte_seconds is None:
                    self.first_byte_seconds = self._house.seconds() - self._sent
                    headers = headers_for(self._asked.exchange_id, reply.headers, None)
                    await caller.begin(reply.status, headers)
                if eye.ended:
                    return await self._end_stream(reply, eye, out, turned)
                if out:
                    await caller.piece(out)
                if caller.push is not None and reply.relay is not None:
                    last = await self._relay(reply.relay, caller.push, eye, turned)
                    if last is not None:
                        return await self._end_stream(reply, eye, last, turned)
            if eye.end().complete:
                return await self._end_stream(reply, eye, eye.rest(), turned)
        except UpstreamError as broken:
            fault = broken.with_traceback(None)  # which holds this frame, and so the whole stream
        except asyncio.CancelledError:
            if not caller.gone:
                raise
            _uncancel()
        reply.cancel()
        self._arrived()
        return await self._broken_stream(reply, eye, fault, turned)

    async def _relay(
        self,
        relay: Callable[[Callable[[bytes], bool]], Awaitable[bool]],
        push: Callable[[bytes], bool],
        eye: StreamEye,
        turned: StreamTranslator | None,
    ) -> bytes | None:
        """Pass chunks on without a task in between; the last event's bytes, None without one."""
        last: bytes | None = None
        fault: Exception | None = None
        feed = eye.feed if turned is None else partial(_both, eye, turned)

        def sink(chunk: bytes) -> bool:
            nonlocal last, fault
            try:
                out = feed(chunk)
                if not eye.ended:
                    return not out or push(out)
                last = out
            except Exception as wrong:  # raised again where somebody waits
                fault = wrong
            return False

        while not await relay(sink):
            if fault is not None:
                raise fault
            if last is not None:
                return last
            await self._caller.ready()
        return None

    async def _end_stream(
        self,
        reply: Reply,
        eye: StreamEye,
        last: bytes,
        turned: StreamTranslator | None,
    ) -> Ended:
        self._arrived()
        seen = eye.end()
        text = eye.text_seen() if seen.usage_body is None else ""
        fate = Fate.OK if seen.complete else Fate.GARBAGE  # an event in its midst is no JSON
        heard = Heard(fate, reply.status, seen, text, body=eye.stream(), error=seen.error)
        ended = await self._keep(heard)
        await self._caller.end(last if turned is None else last + turned.end())
        return ended

    async def _broken_stream(
        self,
        reply: Reply,
        eye: StreamEye,
        fault: UpstreamError,
        turned: StreamTranslator | None,
    ) -> Ended | Failed:
        """Book a stream that died; where the caller has seen a part, tell it in its own format."""
        gone, begun = self._caller.gone, self.first_byte_seconds is not None
        seen = eye.end()
        fate = Fate.CALLER_GONE if gone else Fate.GARBAGE if seen.error else fault.fate
        heard = Heard(
            fate,
            reply.status,
            seen,
            eye.text_seen(),
            body=eye.stream(),
            error="the caller left" if gone else seen.error or str(fault),
        )
        if not (begun or gone):
            return Failed(Outcome(fate, reply.status), heard)
        ended = await self._keep(heard)
        if not gone:
            sentence = f"the upstream's stream broke off: {heard.error}"
            wire = self._asked.ask.wire
            told = eye.told_error()  # the upstream's own error event has gone through
            error = (
                b""
                if told
                else stream_error(
                    wire, 502, "upstream_error", sentence, sequence_number=eye.next_sequence
                )
            )
            await self._caller.end(error if turned is None else turned.end() or error)
        return ended

    async def close(self, failed: Failed, *, last: bool) -> Ended:
        """Book a call that failed; `last` where no other follows it."""
        return await self._keep(failed.heard, last=last)

    async def _keep(self, heard: Heard, *, last: bool = True) -> Ended:
        """Book the call, write it down, and free what was reserved beyond its cost."""
        house, first = self._house, self.first_byte_seconds
        heard = Heard(
            heard.fate,
            heard.status,
            heard.seen,
            heard.text,
            None if first is None else first * 1000,
            self._latency * 1000,
            heard.body,
            heard.error,
        )
        if not self._sent:  # never left, and so not in the journal yet
            await house.keeper.close(self._started)
        ended = self._ended(heard, last=last)
        unsure = house.keeper.end(ended)
        if unsure is not None:
            await unsure
        usage, cost, out, tokens = ended.attempt.usage, 0, 0, 0
        if usage is not None:
            out = usage.total_output_tokens
            tokens = usage.total_input_tokens + out
        for charge in ended.charges:
            if charge.billed is not None:
                cost += charge.billed.pico
        self._settled = True
        house.desk.settle(self._hold, cost, tokens)
        if heard.fate is _OK and usage is not None:
            house.learn_output(self._asked.route.name, out)
        return ended

    def _ended(self, heard: Heard, *, last: bool = True) -> Ended:
        house, asked = self._house, self._asked
        return book(house, asked, self._started, self._wire, heard, self.price, last=last)

    def abandon(self) -> None:
        """Free what is still reserved: something of ours has failed on the way."""
        if not self._settled:
            self._settled = True
            if self._sent:
                self._house.desk.settle(self._hold, 0, 0)
            else:
                self._house.desk.release(self._hold)


def _both(eye: StreamEye, turned: StreamTranslator, chunk: bytes) -> bytes:
    eye.feed(chunk)
    return turned.feed(chunk)


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
