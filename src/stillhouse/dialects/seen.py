"""Reads off an answer, whole or streaming, what the books need, and lets the bytes pass untouched.

A stream costs one list append per chunk; it is read once, when it has ended. All its events are
checked then, so that a broken one does not go unnoticed.

When is a stream complete? When the dialect's last event was seen: `[DONE]`, `message_stop`,
`response.completed`, `response.incomplete` or `response.failed`. A chat stream without `[DONE]`,
which some upstreams never send, is complete once every choice that it began has a finish reason.
A stream with an error event in it, or with one that is no JSON, never is.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec

from stillhouse.core.calls import Seen
from stillhouse.core.catalogue import Wire
from stillhouse.dialects import deltas, sse
from stillhouse.dialects.faults import harmless, upstream_message
from stillhouse.dialects.hiding import USUAL_NULL, Hider
from stillhouse.dialects.peek import LONGEST_NAME

_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MARKER = {Wire.CHAT: b"[DONE]", Wire.MESSAGES: b"message_stop", Wire.RESPONSES: b'"response"'}
"""What a dialect's last event holds and hardly any other does: spares a closer look."""
_LONG = 1024
_DONE = b"data: [DONE]\n\n"
_DONE_ENDS = tuple(b"]" + end for end in sse.ENDS)
_OBJECT_ENDS = b"}\n\n"
_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")
_COSTS = (int, float, str)
_SEQUENCE = re.compile(rb'"sequence_number": ?(\d{1,9})')


class _Body(msgspec.Struct, gc=False):
    """What is read of a body, of a chat chunk and of the `response` inside a Responses event."""

    model: object = None
    usage: object = None
    service_tier: object = None
    error: object = None


class _Event(msgspec.Struct, gc=False):
    """What is read of an event in a stream, of whichever dialect."""

    type: object = None
    model: object = None
    usage: object = None
    service_tier: object = None
    error: object = None
    message: object = None
    response: _Body | None = None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_events = msgspec.json.Decoder(list[_Event]).decode


def read_body(body: bytes, wire: Wire) -> Seen:
    """Read an answer that came in one piece; `complete` is False where it is cut or no JSON object.

    >>> seen = read_body(b'{"model": "m", "usage": {"prompt_tokens": 3, "cost": 0.25}}', Wire.CHAT)
    >>> seen.model, seen.usage_body["prompt_tokens"], seen.reported_cost
    ('m', 3, 0.25)
    >>> read_body(b'{"model": "m", "usage": {"pro', Wire.CHAT).complete
    False
    """
    try:
        said = _decode_body(body)
    except _BROKEN:
        patient = _patiently(body)
        if patient is None:
            return Seen(complete=False)
        said = _body(patient)
    error = upstream_message(body) if said.error else ""
    return _seen(said.usage, said.model, said.service_tier, True, error)


def _seen(usage: object, model: object, tier: object, complete: bool, error: str) -> Seen:
    said, cost = None, None
    if type(usage) is dict:
        said = usage
        cost = said.get("cost")  # OpenRouter: what it charged, in USD
        if tier is None:
            tier = said.get("service_tier")  # Anthropic's place for it
    return Seen(
        said,
        _name(model),
        _name(tier) if tier is not None else "",
        cost if type(cost) in _COSTS else None,
        complete,
        error,
    )


class StreamEye:
    r"""Watches one streaming answer go by.

    `feed` returns what to pass on: the very chunk it was given, unless the caller did not ask for
    the usage event that was added upstream (`hide_usage`). Then chunks that end inside an event are
    held back up to its end, the usage event is left out and `"usage":null` is removed; `rest()`
    gives what is held back when the stream ends, and must be passed on too.

    >>> eye = StreamEye(Wire.CHAT, hide_usage=True)
    >>> eye.feed(b'data: {"choices":[{"delta":{"content":"Hi"}}],"usage":null}\n\n')
    b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
    >>> eye.feed(b'data: {"choices":[],"usage":{"prompt_tokens":5}}\n\ndata: [DONE]\n\n')
    b'data: [DONE]\n\n'
    >>> eye.end().usage_body, eye.end().complete, eye.text_seen()
    ({'prompt_tokens': 5}, True, 'Hi')
    """

    __slots__ = ("_chat", "_chunks", "_hider", "_marker", "_wire", "ended")

    def __init__(self, wire: Wire, hide_usage: bool) -> None:
        self._wire = wire
        self._chat = wire is Wire.CHAT
        self._marker = _MARKER.get(wire, b"[DONE]")
        self._chunks: list[bytes] = []
        self._hider = Hider() if hide_usage and self._chat else None
        self.ended = False
        """Whether the chunk fed last completed the dialect's last event: nothing of worth follows.

        False says little: some streams just stop. Then `end` tells whether that was their end.
        """

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; return what may be passed on by now."""
        self._chunks.append(chunk)
        hider = self._hider
        # Most chunks end with an object's event, and that is not a chat's last one.
        if self._chat and chunk.endswith(_OBJECT_ENDS):
            self.ended = False
            if hider is None:
                return chunk
            if not hider.held:
                chunk = chunk.replace(USUAL_NULL, b"")
                if chunk.rfind(b'"usage"') < 0:
                    return chunk
            return hider.feed(chunk)
        self.ended = self._has_ended()
        return chunk if hider is None else hider.feed(chunk)

    def _has_ended(self) -> bool:
        chunks = self._chunks
        if self._chat and chunks[-1] == _DONE and (len(chunks) == 1 or chunks[-2][-2:] == b"\n\n"):
            return True
        if self._chat and len(chunks[-1]) > 4 and not chunks[-1].endswith(_DONE_ENDS):
            return False
        if self._marker not in chunks[-1] and (len(chunks) == 1 or chunks[-2].endswith(sse.ENDS)):
            return False
        return _is_last(self._last_event(), self._wire)

    def _last_event(self) -> bytes:
        """The event that the last chunk completed, over however many chunks; empty where none."""
        text = end = b""
        parts: list[bytes] = []
        for chunk in reversed(self._chunks):
            if len(text) < _LONG:
                text = chunk + text
                if len(text) < 4:
                    continue
                end = next((end for end in sse.ENDS if text.endswith(end)), b"")
                if not end:
                    return b""
                at = text.rfind(end, 0, -len(end))
                parts, seam = [text], text[:3]
            else:  # a long event is looked through and put together once
                seam = chunk + seam
                at = seam.rfind(end)
                seam = seam[:3]
                parts.append(chunk)
            if at >= 0:
                return b"".join(reversed(parts))[at + len(end) :]
        return b"".join(reversed(parts)) or text

    def rest(self) -> bytes:
        """What was held back of an event that never ended; empty where nothing was."""
        return b"" if self._hider is None else self._hider.rest()

    def stream(self) -> bytes:
        """All that the upstream sent so far, as it sent it."""
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""

    def text_seen(self) -> str:
        """The text that came so far, reasoning and tool arguments included: what was generated."""
        return "".join(deltas.texts(sse.events(self.stream()), self._wire))

    def told_error(self) -> bool:
        r"""Whether the last event so far is an error event, so that nobody need add one.

        >>> eye = StreamEye(Wire.MESSAGES, hide_usage=False)
        >>> _ = eye.feed(b'event: error\ndata: {"type":"error","error":{"message":"Busy."}}\n\n')
        >>> eye.told_error()
        True
        """
        events = _read_events(self.stream()).events
        return bool(events) and (bool(events[-1].error) or events[-1].type == "error")

    @property
    def next_sequence(self) -> int:
        """The `sequence_number` that a further event of a Responses stream has."""
        found = _SEQUENCE.findall(self.stream())
        return int(found[-1]) + 1 if found else 0

    def end(self) -> Seen:
        """Say what the stream told, now that no more of it comes."""
        stream = self.stream()
        heard = _read_events(stream)
        if self._wire is Wire.MESSAGES:
            return _end_messages(heard)
        if self._wire is Wire.RESPONSES:
            return _end_responses(heard)
        return _end_chat(heard, stream)


class _Heard(NamedTuple):
    """A stream's events; whether `[DONE]` was among them; whether the last one is cut off."""

    events: list[_Event]
    done: bool = False
    cut: bool = False
    error: str = ""


def _read_events(stream: bytes) -> _Heard:
    """Decode all events of a stream, in one step where each has one `data` line, as most have."""
    if stream.find(b"\r") < 0:
        said, count, done = b"\n", 0, False
        if stream.startswith(b"data: ") and stream.endswith(b"\n\n"):
            said, count, done = _as_array(stream[6:-2].split(b"\n\ndata: "))
        if said.find(b"\n") >= 0:  # there are other lines than those of data
            said, count, done = _as_array(
                [line[5:] for line in stream.split(b"\n") if line[:5] == b"data:"]
            )
        try:
            found = _decode_events(said)
        except _BROKEN:
            found = []
        if len(found) == count:  # else a line holds two of them, or none
            return _Heard(found, done)
    return _read_one_by_one(stream)


def _as_array(lines: list[bytes]) -> tuple[bytes, int, bool]:
    """The data of a stream's events in one array, how many, and whether `[DONE]` came last."""
    done = bool(lines) and lines[-1].strip() == b"[DONE]"
    if done:
        lines.pop()
    return b"[%s]" % b",".join(lines), len(lines), done


def _read_one_by_one(stream: bytes) -> _Heard:
    splitter = sse.Splitter()
    found: list[_Event] = []
    done, error = False, ""
    for _, data, _ in splitter.feed(stream):
        if data.strip() == b"[DONE]":
            done = True
        elif (event := _read_event(data)) is not None:
            found.append(event)
        else:
            error = error or f"event {len(found) + 1} of the stream is no JSON object"
    cut = False
    for _, data, _ in splitter.end():
        if data.strip() == b"[DONE]":
            done = True
        elif (event := _read_event(data)) is not None:
            found.append(event)
        else:
            cut = True
    return _Heard(found, done, cut, error)


def _read_event(data: bytes) -> _Event | None:
    try:
        return _decode_event(data)
    except _BROKEN:
        patient = _patiently(data)
        if patient is None:
            return None
    inner = patient.pop("response", None)
    said = {name: patient.get(name) for name in _Event.__struct_fields__ if name != "response"}
    return _Event(**said, response=_body(inner) if type(inner) is dict else None)


def _body(said: dict[str, Any]) -> _Body:
    return _Body(*[said.get(name) for name in _Body.__struct_fields__])


def _end_chat(heard: _Heard, stream: bytes) -> Seen:
    usage = model = tier = None
    error = heard.error
    for event in heard.events:
        model = model or event.model
        tier = event.service_tier or tier
        if event.usage is not None and type(event.usage) is dict:
            usage = event.usage  # the last one counts all: vLLM and others repeat it
        if event.error and not error:
            error = _said(event.error) or "the upstream sent an error event"
    complete = not error and (heard.done or (not heard.cut and _all_finished(stream)))
    return _seen(usage, model, tier, complete, error)


def _end_messages(heard: _Heard) -> Seen:
    usage: dict[str, object] | None = None
    model: object = None
    counted = stopped = False
    error = heard.error
    for event in heard.events:
        kind = event.type
        if kind == "message_start" and type(event.message) is dict:
            model = event.message.get("model")
            usage = deltas.merged_usage(usage, event.message.get("usage"))
        elif kind == "message_delta":
            usage = deltas.merged_usage(usage, event.usage)
            counted = counted or type(event.usage) is dict
        elif kind == "message_stop":
            stopped = True
        elif kind == "error" and not error:
            error = _said(event.error) or "the upstream sent an error event"
    seen = _seen(usage, model, None, stopped and not error, error)
    return seen if counted or usage is None else seen._replace(partial=True)


def _end_responses(heard: _Heard) -> Seen:
    usage = model = tier = None
    ended = False
    error = heard.error
    for event in heard.events:
        if event.response is not None:
            model = event.response.model or model
            tier = event.response.service_tier or tier
            if type(event.response.usage) is dict:
                usage = event.response.usage
        if event.type in _RESPONSE_ENDS:
            ended = True
        if event.type == "error" and not error:
            error = _said(event.error) or _said(event.message) or "the upstream sent an error event"
        if event.type == "response.failed" and not error and event.response is not None:
            # The dialect's own last event: the stream is whole, and what it tells is a failure.
            failed = _said(event.response.error) or "the upstream says that the response failed"
            return _seen(usage, model, tier, True, failed)
    return _seen(usage, model, tier, ended and not error, error)


def _all_finished(stream: bytes) -> bool:
    """Whether every choice that a chat stream began has ended with a reason."""
    begun: set[str] = set()
    finished: set[str] = set()
    for chunk in deltas.payloads(sse.events(stream)):
        for choice in deltas.objects(chunk.get("choices")):
            begun.add(repr(choice.get("index")))  # an index may be anything, lists too
            if choice.get("finish_reason"):
                finished.add(repr(choice.get("index")))
    return bool(begun) and begun == finished


def _is_last(event: bytes, wire: Wire) -> bool:
    if event == _DONE:
        return wire is not Wire.MESSAGES and wire is not Wire.RESPONSES
    for _, data, _ in sse.events(event):
        if wire in (Wire.MESSAGES, Wire.RESPONSES):
            said = _read_event(data)
            kind = said.type if said is not None else None
            return kind == "message_stop" or kind in _RESPONSE_ENDS
        return data.strip() == b"[DONE]"
    return False


def _patiently(body: bytes) -> dict[str, Any] | None:
    """Parse what the fast decoder refuses though the grammar allows it: half a surrogate pair."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return said if type(said) is dict else None


def _name(value: object) -> str:
    """A name as it may be kept and shown; empty where an upstream sends what is none."""
    fits = type(value) is str and len(value) <= LONGEST_NAME and value.isprintable()
    return str(value) if fits else ""


def _said(error: object) -> str:
    if type(error) is dict:
        error = error.get("message") or error.get("type") or error.get("code")
    return harmless(error) if type(error) is str else ""
