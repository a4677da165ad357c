"""What the results of a batch say, line by line: which call each line is, how it ended, its usage.

OpenAI's are the lines of a file, `{"id", "custom_id", "response": {"status_code", "body"},
"error"}`; Anthropic's are `{"custom_id", "result": {"type", "message" or "error"}}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from stillhouse.core.calls import Fate, Seen
from stillhouse.core.catalogue import Wire
from stillhouse.dialects.faults import upstream_message
from stillhouse.dialects.seen import read_body

_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Result(NamedTuple):
    """One line of results: one call of a batch.

    `own_id` tells it apart from the other lines. `at_s` is the second in which it was answered, 0
    where nobody says. A call that failed, was cancelled or ran out of time was not bought.
    """

    own_id: str
    wire: Wire
    fate: Fate
    status: int
    seen: Seen
    error: str = ""
    at_s: int = 0

    @property
    def ok(self) -> bool:
        """Whether there is an answer, which is then paid for."""
        return self.fate is Fate.OK


class _Response(msgspec.Struct, gc=False):
    status_code: object = None
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Ending(msgspec.Struct, gc=False):
    type: object = None
    message: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    id: object = None
    response: _Response | msgspec.UnsetType | None = msgspec.UNSET
    result: _Ending | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Answer(msgspec.Struct, gc=False):
    kind: object = msgspec.field(name="object", default=None)
    created: object = None
    created_at: object = None
    usage: object = None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_ANSWER = ("object", "created", "created_at", "usage")


def read_result(line: bytes) -> Result | None:
    """Read one line; None where it is no line of a batch's results, such as one of its requests.

    >>> body = b'{"object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 3}}'
    >>> line = b'{"id": "r1", "custom_id": "a", "response": {"status_code": 200, "body": %s}}'
    >>> result = read_result(line % body)
    >>> result.own_id, result.fate.value, result.seen.model, result.seen.usage_body
    ('r1', 'ok', 'm', {'prompt_tokens': 3})
    >>> read_result(b'{"custom_id": "a", "result": {"type": "expired"}}').fate.value
    'total_timeout'
    >>> read_result(b'{"custom_id": "a", "method": "POST", "body": {"model": "m"}}') is None
    True
    """
    try:
        said = _decode_line(line)
    except _BROKEN:
        patient = _patiently(line)
        if patient is None:
            return None
        said = patient
    if said.result is not msgspec.UNSET:
        return _read_ending(said.custom_id, said.result)
    if said.response is not msgspec.UNSET:
        own_id = said.id if type(said.id) is str and said.id else said.custom_id
        return _read_response(own_id, said.response, bytes(said.error))
    return None


def _patiently(line: bytes) -> _Line | None:
    """Parse what the fast decoder refuses though the grammar allows it: half a surrogate pair."""
    try:
        said = json.loads(line) if b'"custom_id"' in line else None
    except (ValueError, RecursionError):
        return None
    if type(said) is not dict or type(said.get("custom_id")) is not str:
        return None
    made = _Line(said["custom_id"].encode("utf-8", "backslashreplace").decode(), said.get("id"))
    response, result = said.get("response"), said.get("result")
    if type(response) is dict:
        made.response = _Response(response.get("status_code"), _raw(response.get("body")))
    elif "response" in said:
        made.response = None
    if type(result) is dict:
        parts = (_raw(result.get(name)) for name in ("message", "error"))
        made.result = _Ending(result.get("type"), *parts)
    made.error = _raw(said.get("error"))
    return made


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


_ENDINGS = {"expired": Fate.TOTAL_TIMEOUT, "canceled": Fate.CALLER_GONE}
_ENDED = {Fate.TOTAL_TIMEOUT: "the batch ran out of time", Fate.CALLER_GONE: "it was cancelled"}
_CODES = {
    "batch_expired": Fate.TOTAL_TIMEOUT,
    "batch_cancelled": Fate.CALLER_GONE,
    "batch_canceled": Fate.CALLER_GONE,
}


def _read_response(own_id: str, response: _Response | None, error: bytes) -> Result:
    """A line of OpenAI's."""
    if response is None:
        fate = _fate_of(error)
        why = upstream_message(error) or _ENDED.get(fate, "")
        return Result(own_id, Wire.CHAT, fate, 0, Seen(complete=False), why)
    status = response.status_code if type(response.status_code) is int else 200
    body = bytes(response.body)
    if not 200 <= status < 300:
        return Result(own_id, Wire.CHAT, Fate.STATUS, status, Seen(), upstream_message(body))
    wire, at_s = _look_into(body)
    return _answered(own_id, wire, status, body, at_s)


def _read_ending(own_id: str, ending: _Ending) -> Result:
    """A line of Anthropic's, which has no id but the caller's own."""
    wire = Wire.MESSAGES
    if ending.type == "succeeded":
        return _answered(own_id, wire, 200, bytes(ending.message), 0)
    fate = _ENDINGS.get(str(ending.type), Fate.STATUS)
    why = upstream_message(bytes(ending.error)) or _ENDED.get(fate, "")
    return Result(own_id, wire, fate, 0, Seen(complete=False), why)


def _answered(own_id: str, wire: Wire, status: int, body: bytes, at_s: int) -> Result:
    seen = read_body(body, wire)
    if seen.service_tier == "batch":  # Anthropic's word for what every line here is
        seen = seen._replace(service_tier="")
    return Result(own_id, wire, Fate.OK, status, seen, seen.error, at_s)


def _look_into(body: bytes) -> tuple[Wire, int]:
    """By whose rules a body counts, and when it was written."""
    try:
        said = _decode_answer(body)
    except _BROKEN:
        try:
            patient = json.loads(body)
            said = _Answer(*(patient.get(name) for name in _ANSWER))
        except (ValueError, RecursionError, AttributeError):
            return Wire.CHAT, 0
    at_s = said.created if said.created is not None else said.created_at
    usage = said.usage if type(said.usage) is dict else {}
    if ("input_tokens" in usage and "prompt_tokens" not in usage) or said.kind == "response":
        wire = Wire.RESPONSES
    else:
        wire = Wire.EMBEDDINGS if said.kind == "list" else Wire.CHAT
    return wire, at_s if type(at_s) is int and at_s > 0 else 0


def _fate_of(error: bytes) -> Fate:
    try:
        code = msgspec.json.decode(error)["code"]
    except (*_BROKEN, KeyError, TypeError):
        return Fate.STATUS
    return _CODES.get(str(code), Fate.STATUS)


class Lines:
    r"""Cuts a body into whole lines as it arrives, and holds back what has no end yet.

    >>> lines = Lines()
    >>> [*lines.feed(b'{"a": 1}\n{"b"')], [*lines.feed(b": 2}\n")], lines.rest()
    ([b'{"a": 1}\n'], [b'{"b": 2}\n'], b'')
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.held = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that a chunk completes, each with its end."""
        start = 0
        while (end := chunk.find(b"\n", start) + 1) > 0:
            yield self.rest() + chunk[start:end]
            start = end
        if start < len(chunk):
            self._parts.append(chunk[start:])
            self.held += len(chunk) - start

    def may_be_object(self) -> bool:
        """Whether what is held back may turn out as a JSON object; also where nothing is."""
        begun = next((part.lstrip() for part in self._parts if part.strip()), b"{")
        return begun.startswith(b"{")

    def rest(self) -> bytes:
        """What is held back; nothing is afterwards."""
        held = b"".join(self._parts)
        self._parts.clear()
        self.held = 0
        return held


_RESULTS_URL = re.compile(
    rb'("results_url"\s*:\s*")[^"\\]*?(/messages/batches/[A-Za-z0-9_.:-]+/results)(?=")'
)


def with_results_here(body: bytes, base_url: bytes) -> bytes:
    """Let a message batch say that its results are fetched here, and not at its vendor's.

    Anthropic's SDK goes to whatever address the batch names, with the key that it has; all else in
    the body stays as it is, byte for byte.

    >>> with_results_here(b'{"results_url": "https://a.com/v1/messages/batches/b1/results"}',
    ...                   b"http://localhost:4100/v1")
    b'{"results_url": "http://localhost:4100/v1/messages/batches/b1/results"}'
    """
    return _RESULTS_URL.sub(lambda found: found[1] + base_url + found[2], body)
