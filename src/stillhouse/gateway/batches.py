"""Files and batches: passed through untouched to the upstream that keeps them.

OpenAI's `/v1/files` and `/v1/batches`, Anthropic's `/v1/messages/batches`. Their ids belong to one
upstream: the one that the header `x-stillhouse-upstream` names, else the first that speaks the
format. Results are booked as they pass, see flows.batches.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import Catalogue, Upstream, Wire
from stillhouse.core.errors import (
    CallerError,
    ProviderError,
    StillhouseError,
    StoreError,
    UpstreamError,
)
from stillhouse.core.quotas import VirtualKey
from stillhouse.dialects.faults import error_body
from stillhouse.flows.batches import Once, Passing, QuotaError, pass_on
from stillhouse.flows.house import House
from stillhouse.flows.refusing import when_to_ask_again
from stillhouse.gateway.app import NO_KEY, Limits, Other, TooLargeError, read_body
from stillhouse.gateway.caller import AsgiCaller, Message, Receive, Scope, Send
from stillhouse.gateway.door import Door, MisdirectedError, Visitor
from stillhouse.gateway.http import RefusedError
from stillhouse.gateway.writing import EXTENSION, cut

UPLOAD_BYTES = 256 * 2**20
"""The largest body of an upload: as much as the vendors take in one batch."""

LARGE_UPLOADS = 2
"""Uploads beyond the usual limit that a worker reads at once; others wait at the door."""

UPSTREAM_HEADER = b"x-stillhouse-upstream"

_ID = r"(?P<id>[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199})"


class Place(NamedTuple):
    """A path with its methods: those that upload, that begin a batch, that give results."""

    path: re.Pattern[str]
    wire: Wire
    methods: tuple[str, ...]
    uploads: bool = False
    makes: bool = False
    results: bool = False


def _place(path: str, wire: Wire, *methods: str, **terms: bool) -> Place:
    return Place(re.compile(f"/v1{path}"), wire, methods, **terms)


PLACES: tuple[Place, ...] = (
    _place("/files", Wire.CHAT, "GET", "POST", uploads=True),
    _place(f"/files/{_ID}", Wire.CHAT, "DELETE", "GET"),
    _place(f"/files/{_ID}/content", Wire.CHAT, "GET", results=True),
    _place("/batches", Wire.CHAT, "GET", "POST", makes=True),
    _place(f"/batches/{_ID}", Wire.CHAT, "GET"),
    _place(f"/batches/{_ID}/cancel", Wire.CHAT, "POST"),
    _place("/messages/batches", Wire.MESSAGES, "GET", "POST", uploads=True, makes=True),
    _place(f"/messages/batches/{_ID}", Wire.MESSAGES, "DELETE", "GET"),
    _place(f"/messages/batches/{_ID}/cancel", Wire.MESSAGES, "POST"),
    _place(f"/messages/batches/{_ID}/results", Wire.MESSAGES, "GET", results=True),
)

_BEGINNINGS = ("/v1/files", "/v1/batches", "/v1/messages/batches")
_LATE = (Fate.CONNECT_TIMEOUT, Fate.FIRST_BYTE_TIMEOUT, Fate.TOTAL_TIMEOUT)


class Batches:
    """Serves the paths of files and batches; every other path goes on to `other`."""

    def __init__(
        self, house: Callable[[], House], door: Door, once: Once, other: Other, limits: Limits
    ) -> None:
        self._house, self._door, self._once, self._other = house, door, once, other
        self._limits, self._large = limits, Limits(UPLOAD_BYTES, limits.body_seconds)
        self._uploads = asyncio.Semaphore(LARGE_UPLOADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"].startswith(_BEGINNINGS):
            for place in PLACES:
                found = place.path.fullmatch(scope["path"])
                if found is not None:
                    named = found.groupdict().get("id") or ""
                    await self._serve(place, named, scope, receive, send)
                    return
        await self._other(scope, receive, send)

    async def _serve(
        self, place: Place, named: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        sending = _Sending(send)
        try:
            asked = await self._asked(place, named, scope, receive)
            caller = AsgiCaller(scope, receive, sending)
            caller.watch()
            try:
                await pass_on(self._house(), self._once, asked, caller)
            finally:
                caller.release()
        except ConnectionError:  # the caller left before it had said what it wanted
            return
        except TimeoutError:
            late = RefusedError(408, "the request's body took too long to arrive")
            await _tell(send, place.wire, late)
        except StillhouseError as failed:
            if sending.begun:
                await _cut(scope, receive, failed)
            else:
                await _tell(send, place.wire, failed)

    async def _asked(self, place: Place, named: str, scope: Scope, receive: Receive) -> Passing:
        """The request, once it has passed the door and its body is here."""
        visitor = self._door.enter(scope["headers"])
        if visitor is None:
            raise RefusedError(401, NO_KEY)
        method = scope["method"]
        if method not in place.methods and not (method == "HEAD" and "GET" in place.methods):
            allowed = " or ".join(place.methods)
            raise RefusedError(
                405,
                f"{method} is not served at this path; use {allowed}",
                ((b"allow", ", ".join(place.methods).encode()),),
            )
        if not _may(visitor.key):
            raise RefusedError(403, _NARROW)
        sent = dict(scope["headers"])
        wanted = sent.get(UPSTREAM_HEADER, b"").decode("latin-1")
        upstream = chosen(self._house().catalogue, place.wire, wanted)
        body = await self._body(visitor, receive, uploads=place.uploads)
        kind = [(b"content-type", sent[b"content-type"])] if b"content-type" in sent else []
        query = scope.get("query_string", b"").decode("latin-1")
        path = scope["path"].removeprefix("/v1")
        return Passing(
            method,
            f"{path}?{query}" if query else path,
            body,
            place.wire,
            upstream,
            visitor.key.key_id,
            visitor.tags,
            (*visitor.headers, *kind) if body else visitor.headers,
            visitor.caller_key,
            place.makes and method == "POST",
            named if place.results and method == "GET" else "",
            _base_url(scope, sent),
        )

    async def _body(self, visitor: Visitor, receive: Receive, *, uploads: bool) -> bytes:
        found, usual = visitor.found, self._limits
        if not uploads:
            return await read_body(receive, found, usual)
        length = found.get(b"content-length", b"")  # without one, nobody knows
        large = not length.isdigit() or int(length) > usual.body_bytes
        try:
            async with self._uploads if large else nullcontext():
                return await read_body(receive, found, self._large)
        except TooLargeError as refused:
            raise TooLargeError(
                f"an upload may have {UPLOAD_BYTES} bytes; split it, and make several batches"
            ) from refused


_NARROW = (
    "this key is for some models only, and what a batch asks of which model is not read; use a key "
    "without a list of models"
)


def _may(key: VirtualKey) -> bool:
    """Whether a key may use batches: only one that may call every model.

    A file may ask anything of any model, and its upstream shows all files to all keys.
    """
    return not key.models or "*" in key.models


def chosen(catalogue: Catalogue, wire: Wire, named: str) -> Upstream:
    """The upstream that a request about batches goes to; RefusedError where there is none.

    >>> acme = Upstream("acme")
    >>> chosen(Catalogue({"a": Upstream("a", kind="scripted"), "acme": acme}, {}), Wire.CHAT, "")
    Upstream(name='acme', ...)
    """
    fitting = [u for u in catalogue.upstreams.values() if u.kind == "http" and wire in u.wires]
    if not named and fitting:
        return fitting[0]
    for upstream in fitting:
        if upstream.name == named:
            return upstream
    if named:
        known = ", ".join(upstream.name for upstream in fitting) or "none"
        raise RefusedError(
            404, f"{UPSTREAM_HEADER.decode()} names no upstream that has batches; there is {known}"
        )
    raise RefusedError(404, f"no upstream here speaks {wire} over HTTP, so there are no batches")


def _base_url(scope: Scope, sent: dict[bytes, bytes]) -> bytes:
    """Where the caller found this endpoint; who ends TLS before it says so in a header."""
    scheme = sent.get(b"x-forwarded-proto") or scope.get("scheme", "http").encode()
    return (b"https" if scheme == b"https" else b"http") + b"://" + sent.get(b"host", b"") + b"/v1"


class _Sending:
    """Sends to the caller, and knows whether anything has left."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


_STATUS: tuple[tuple[type[StillhouseError], int], ...] = (
    (QuotaError, 429),
    (TooLargeError, 413),
    (MisdirectedError, 421),
    (CallerError, 400),
    (StoreError, 503),
    (ProviderError, 502),
    (StillhouseError, 500),
)


def _status(failed: StillhouseError) -> int:
    if isinstance(failed, RefusedError):
        return failed.status
    if isinstance(failed, UpstreamError) and failed.fate in _LATE:
        return 504
    return next(status for kind, status in _STATUS if isinstance(failed, kind))


async def _tell(send: Send, wire: Wire, failed: StillhouseError) -> None:
    """Give a failure in the caller's own wire format."""
    status = _status(failed)
    body = error_body(wire, status, "", str(failed))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if isinstance(failed, RefusedError):
        headers += failed.headers
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    if isinstance(failed, QuotaError):
        headers += when_to_ask_again(status, failed.retry_after_seconds)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _cut(scope: Scope, receive: Receive, failed: StillhouseError) -> None:
    """Break an answer off in its midst: results have no last line that could say so."""
    cycle = (scope.get("extensions") or {}).get(EXTENSION)
    if cycle is None:
        raise failed
    cut(cycle)
    while (await receive())["type"] != "http.disconnect":
        pass
