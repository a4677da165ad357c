"""The ASGI callable: a request comes in, passes the door, is answered, and told to the watch."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import getrandbits
from traceback import extract_tb
from typing import Any

from stillhouse.core.catalogue import Route, Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.quotas import VirtualKey
from stillhouse.dialects.faults import error_body
from stillhouse.dialects.paths import SERVED
from stillhouse.dialects.peek import peek
from stillhouse.flows.answer import answer
from stillhouse.flows.house import Asked, House
from stillhouse.gateway import heads
from stillhouse.gateway.caller import AsgiCaller, Patience, Receive, Scope, Send
from stillhouse.gateway.cycles import ShortCycle
from stillhouse.gateway.door import Door, MisdirectedError, with_metadata
from stillhouse.gateway.writing import EXTENSION
from stillhouse.ledger.names import matches
from stillhouse.routing.catalogue import find_route

NO_KEY = "the key is missing, unknown, expired or revoked; send a virtual key as bearer token"

Other = Callable[[Scope, Receive, Send], Awaitable[None]]

_REMEMBERED = 4096
_NOTHING: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may send: bytes of a body, and how long it may take to send it."""

    body_bytes: int = 32 * 2**20
    body_seconds: float = 60.0


class TooLargeError(CallerError):
    """A body is longer than the limit."""


class Endpoint:
    """The only door: raw ASGI, so that nothing stands between a caller's bytes and its answer.

    Calls of models take the short way here; every other path goes to `other`. `house` may be put
    in another's place while requests are under way: each keeps the one that it began with.
    """

    def __init__(self, house: House, door: Door, other: Other, limits: Limits = Limits()) -> None:
        self.house, self.door, self.limits = house, door, limits
        self.in_flight = 0
        self._other = other
        self._patience = Patience()
        self._routes: dict[tuple[str, str], Route | None] = {}
        self._known = house.catalogue

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one HTTP request."""
        wire = SERVED.get(scope["path"])
        if wire is not None and scope["method"] == "POST":
            return self._serve(wire, scope, receive, send)
        return self._other(scope, receive, send)

    async def _serve(self, wire: Wire, scope: Scope, receive: Receive, send: Send) -> None:
        house = self.house
        began, at_us = house.seconds(), house.now_us()
        extensions = scope.get("extensions") or _NOTHING
        cycle: Any = extensions.get(EXTENSION)
        short = type(cycle) is ShortCycle  # the body is here, and its caller's leaving is told
        try:
            visitor = self.door.enter(scope["headers"], extensions.get(heads.EXTENSION))
        except MisdirectedError as elsewhere:
            await _tell(send, wire, 421, "misdirected", str(elsewhere))
            return
        if visitor is None:
            await _tell(send, wire, 401, "authentication", NO_KEY)
            return
        try:
            if short:
                body = _sized(cycle.take(), self.limits)
            else:
                body = await read_body(receive, visitor.found, self.limits)
            ask = peek(body, wire)
            route = self._route(house, visitor.key, ask.model)
        except TooLargeError as large:
            await _tell(send, wire, 413, "request_too_large", str(large))
            return
        except CallerError as wrong:
            await _tell(send, wire, 400, "invalid_request", str(wrong))
            return
        except ConnectionError:  # the caller left before it had said what it wanted
            return
        except TimeoutError:
            await _tell(send, wire, 408, "timeout", "the request's body took too long to arrive")
            return
        if route is None:
            sentence = f"the model {ask.model!r} is not served here; GET /v1/models lists names"
            await _tell(send, wire, 404, "not_found", sentence)
            return
        caller = AsgiCaller(scope, receive, send)
        if not short:
            self._patience.add(caller)
        self.in_flight += 1
        asked = Asked(
            "%032x" % (at_us // 1000 << 80 | getrandbits(80)),
            at_us,
            began,
            ask,
            body,
            route,
            visitor.key.key_id,
            with_metadata(visitor.tags, ask.metadata) if ask.metadata else visitor.tags,
            visitor.headers,
            visitor.caller_key,
            visitor.traceparent,
            visitor.key.tags.team,
            visitor.students and not (visitor.caller_key and _on_callers_account(house, route)),
        )
        try:
            await answer(house, asked, caller)
        except Exception as fault:  # ours: said without a word of what was asked or answered
            report(asked.exchange_id, fault)
            await caller.fault(wire)
        finally:
            self.in_flight -= 1
            caller.release()

    def _route(self, house: House, key: VirtualKey, model: str) -> Route | None:
        """The route of a model that this key may call."""
        if house.catalogue is not self._known:
            self._known = house.catalogue
            self._routes.clear()
        memory = (key.key_id, model)
        try:
            return self._routes[memory]
        except KeyError:
            pass
        route = find_route(house.catalogue, model)
        if route is not None and key.models:
            route = _within(route, key.models)
        if len(self._routes) >= _REMEMBERED:
            self._routes.clear()
        self._routes[memory] = route
        return route


def _within(route: Route, patterns: tuple[str, ...]) -> Route | None:
    """A route as far as a key may go: not where it falls back to what the key may not call."""
    if not matches(patterns, route.name):
        return None
    allowed = tuple(name for name in route.fallbacks if matches(patterns, name))
    return route if allowed == route.fallbacks else replace(route, fallbacks=allowed)


def _on_callers_account(house: House, route: Route) -> bool:
    """Whether a call may go out with the caller's own key: to audit an answer would cost us ours.

    What cannot be audited is no student's to answer.
    """
    upstreams = house.catalogue.upstreams
    return any(upstreams[one.upstream].pass_caller_key for one in route.deployments)


def report(exchange_id: str, fault: Exception) -> None:
    """Say on standard error where a fault of ours arose: kind and place, no text, no value."""
    frames = [
        f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in extract_tb(fault.__traceback__)
    ]
    told = {"fault": type(fault).__name__, "exchange_id": exchange_id, "at": frames[-4:]}
    print(json.dumps(told), file=sys.stderr, flush=True)


async def read_body(receive: Receive, found: dict[bytes, bytes], limits: Limits) -> bytes:
    """The whole body of a request; TooLargeError or TimeoutError where it passes a limit."""
    length = found.get(b"content-length", b"")
    if length.isdigit() and int(length) > limits.body_bytes:
        raise _too_large(int(length), limits)
    if b"content-encoding" in found and found[b"content-encoding"] != b"identity":
        coding = found[b"content-encoding"].decode("latin-1")
        raise CallerError(f"the body's content-encoding is {coding!r}; send it as it is")
    message = await receive()
    if message["type"] != "http.request":
        raise ConnectionError
    body = _sized(message["body"], limits)
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    async with asyncio.timeout(limits.body_seconds):
        while message.get("more_body"):
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionError
            parts.append(message["body"])
            size += len(message["body"])
            if size > limits.body_bytes:
                raise _too_large(size, limits)
    return b"".join(parts)


def _sized(body: bytes, limits: Limits) -> bytes:
    if len(body) > limits.body_bytes:
        raise _too_large(len(body), limits)
    return body


def _too_large(size: int, limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"the body has {size} bytes or more and the limit is {limits.body_bytes}; send less, or "
        "raise max_body_bytes"
    )


async def _tell(send: Send, wire: Wire, status: int, kind: str, sentence: str) -> None:
    """Give a failure at the door in the caller's own wire format."""
    body = error_body(wire, status, kind, sentence)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
