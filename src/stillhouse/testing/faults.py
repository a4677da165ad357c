"""Every way in which an upstream can fail, as bytes and pauses on a socket."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import brotli

from stillhouse.core.catalogue import Wire
from stillhouse.dialects.faults import error_body, stream_error
from stillhouse.testing.answering import contradict
from stillhouse.testing.sockets import Step, Then

STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)
LARGE_BYTES = 10_000_000
DRIP_SECONDS = 0.01
SLOW_SECONDS = 0.1
_STATUS = re.compile(r"(\d{3})(?:-retry-after(?:-(\d+))?)?")


class Good(NamedTuple):
    """A lawful answer, before a fault is put into it."""

    wire: Wire
    parts: list[bytes]
    stream: bool
    pause_seconds: float


class Plan(NamedTuple):
    """What is put on the socket. `whole`: it is an answer that a client takes for complete."""

    status: int
    steps: list[Step]
    whole: bool = True
    close: bool = False


def plan(fault: str, good: Good) -> Plan | None:
    """How to answer under a fault, or `""` for none; None where the fault is not known."""
    found = _STATUS.fullmatch(fault)
    if found and int(found[1]) in STATUSES:
        return failed(good.wire, int(found[1]), found[2] or ("1" if "retry" in fault else ""))
    make = _PLANS.get(fault)
    return None if make is None else make(good)


def failed(wire: Wire, status: int, retry_after: str = "", message: str = "") -> Plan:
    """An error in the vendor's own words."""
    body = error_body(wire, status, "", message or f"This upstream fails with {status} on demand.")
    more = f"retry-after: {retry_after}\r\n" if retry_after else ""
    return Plan(status, [head(status, False, f"{more}content-length: {len(body)}\r\n") + body])


def head(status: int, stream: bool, framing: str, version: str = "1.1") -> bytes:
    """The head of an answer."""
    kind = "text/event-stream" if stream else "application/json"
    return (
        f"HTTP/{version} {status} Said\r\ncontent-type: {kind}\r\n"
        f"x-request-id: req_f\r\n{framing}\r\n"
    ).encode("latin-1")


def chunk(part: bytes) -> bytes:
    """A part in chunked coding."""
    return b"%x\r\n%s\r\n" % (len(part), part)


_CHUNKED = "transfer-encoding: chunked\r\n"
_END = b"0\r\n\r\n"


def _body(good: Good, part: bytes, more: str = "") -> bytes:
    return head(200, good.stream, f"{more}content-length: {len(part)}\r\n") + part


def _paced(good: Good, parts: list[bytes], seconds: float) -> list[Step]:
    if not seconds:
        return [chunk(part) for part in parts]
    return [step for part in parts for step in (seconds, chunk(part))]


def _well(good: Good) -> Plan:
    if not good.stream:
        return Plan(200, [_body(good, good.parts[0])])
    steps = _paced(good, good.parts, good.pause_seconds)
    return Plan(200, [head(200, True, _CHUNKED), *steps, _END])


def _half(good: Good) -> list[bytes]:
    """The first half: of the events, or of the body's bytes."""
    if good.stream:
        return good.parts[: max(1, len(good.parts) // 2)]
    return [good.parts[0][: len(good.parts[0]) // 2]]


def _begun(good: Good, *then: Step) -> Plan:
    """Half an answer under chunked coding, and what comes then."""
    steps: list[Step] = [head(200, good.stream, _CHUNKED), *map(chunk, _half(good)), 0.005]
    return Plan(200, [*steps, *then], whole=False)


def _cut_json(good: Good) -> Plan:
    """A body that is whole to HTTP and ends in the middle to anybody else."""
    if good.stream:
        return _begun(good, _END)
    return Plan(200, [_body(good, _half(good)[0])], whole=False)


def _garbage_event(good: Good) -> Plan:
    bad = b'data: {"choices": [{]\n\n' if good.stream else b'{"choices": [{]'
    parts = [*good.parts[:1], bad, *good.parts[1:]] if good.stream else [bad]
    return Plan(200, [head(200, good.stream, _CHUNKED), *map(chunk, parts), _END], whole=False)


def _coded(name: str, compress: Callable[[bytes], bytes]) -> Callable[[Good], Plan]:
    def made(good: Good) -> Plan:
        return Plan(
            200, [_body(good, compress(b"".join(good.parts)), f"content-encoding: {name}\r\n")]
        )

    return made


def _large(good: Good) -> Plan:
    """Ten megabytes of lawful JSON: white space before the end of the body, or comments."""
    if good.stream:
        filler = chunk(b": " + b"." * 65_000 + b"\n\n")
        count = LARGE_BYTES // 65_000
        return Plan(
            200,
            [head(200, True, _CHUNKED), *[filler] * count, *map(chunk, good.parts), _END],
        )
    return Plan(200, [_body(good, good.parts[0][:-1] + b" " * LARGE_BYTES + good.parts[0][-1:])])


def _old(good: Good) -> Plan:
    whole = b"".join(good.parts)
    return Plan(200, [head(200, good.stream, "", "1.0") + whole], close=True)


def _trailers(good: Good) -> Plan:
    steps: list[Step] = [head(200, good.stream, _CHUNKED + "trailer: x-sum\r\n")]
    return Plan(200, [*steps, *map(chunk, good.parts), b"0\r\nx-sum: 1\r\n\r\n"])


def _drip(good: Good) -> Plan:
    body = b"".join(good.parts)
    pieces = good.parts if good.stream else [body[at : at + 64] for at in range(0, len(body), 64)]
    steps = _paced(good, pieces, DRIP_SECONDS)
    return Plan(200, [head(200, good.stream, _CHUNKED), *steps, _END])


def _error_event(good: Good) -> Plan:
    event = stream_error(good.wire, 529, "overloaded", "This upstream is too busy on demand.")
    return _begun(good, chunk(event), _END) if good.stream else failed(good.wire, 529)


def _contradictory(good: Good) -> Plan:
    return _well(good._replace(parts=[contradict(part) for part in good.parts]))


def _hints(good: Good) -> Plan:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    well = _well(good)
    return well._replace(steps=[early, *well.steps])


_PLANS: Mapping[str, Callable[[Good], Plan]] = {
    "": _well,
    "usage-missing": _well,  # it was left out before
    "usage-contradictory": _contradictory,
    "drop": lambda _: Plan(0, [Then.CLOSE], whole=False),
    "reset": lambda _: Plan(0, [Then.RESET], whole=False),
    "hang": lambda _: Plan(0, [Then.HANG], whole=False),
    "garbage": lambda _: Plan(0, [b"\x16\x03\x01 no HTTP at all\r\n\r\n", Then.HANG], whole=False),
    "hang-midway": lambda good: _begun(good, Then.HANG),
    "truncated": lambda good: _begun(good, Then.CLOSE),
    "cut": lambda good: _begun(good, Then.RESET),
    "truncated-json": _cut_json,
    "garbage-chunk": lambda good: _begun(good, b"zz\r\nno chunk\r\n", Then.HANG),
    "garbage-event": _garbage_event,
    "error-event": _error_event,
    "slow": lambda good: _well(good)._replace(steps=[SLOW_SECONDS, *_well(good).steps]),
    "drip": _drip,
    "gzip": _coded("gzip", gzip.compress),
    "br": _coded("br", brotli.compress),
    "deflate": _coded("deflate", zlib.compress),
    "large": _large,
    "http10": _old,
    "trailers": _trailers,
    "hints": _hints,
    "close": lambda good: _well(good)._replace(close=True),
}

FAULTS: tuple[str, ...] = (
    *(str(status) for status in STATUSES),
    *(f"{status}-retry-after" for status in (408, 409, 429, 500, 503, 529)),
    *filter(None, _PLANS),
)
"""All faults by name. `refused` is a closed port, and a TLS failure this very port."""


def listing(name: str, ids: list[str]) -> Plan:
    """The models that are served, or one of them."""
    rows = [{"id": one, "object": "model", "created": 0, "owned_by": "faulty"} for one in ids]
    shown: object = {"object": "list", "data": rows}
    if name:
        shown = {"id": name, "object": "model", "created": 0, "owned_by": "faulty"}
    return plain(shown)


def plain(shown: object) -> Plan:
    """Some JSON."""
    body = json.dumps(shown).encode()
    return Plan(200, [head(200, False, f"content-length: {len(body)}\r\n") + body])
