"""Says a chat answer, whole or streaming, as an Anthropic Messages answer."""

from __future__ import annotations

from stillhouse.core.catalogue import Wire
from stillhouse.dialects import sse
from stillhouse.dialects.faults import stream_error
from stillhouse.dialects.translate_chat_stream import ended_by
from stillhouse.dialects.translate_json import Body, an_object, arguments_object, dump, load
from stillhouse.dialects.translate_segments import (
    Ending,
    Segment,
    Shape,
    first_choice,
    segments_of,
)
from stillhouse.dialects.translate_usage import as_messages

_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def answer(body: bytes, model: str) -> bytes:
    """Translate a whole chat answer; `model` is named where the answer names none.

    >>> said = answer(
    ...     b'{"id": "c1", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],'
    ...     b' "usage": {"prompt_tokens": 3, "completion_tokens": 1}}', "m")
    >>> load(said, "it")["content"], load(said, "it")["stop_reason"]
    ([{'type': 'text', 'text': 'Hi', 'citations': None}], 'end_turn')
    """
    given = load(body, "the upstream's answer")
    choice = first_choice(given)
    message = an_object(choice.get("message"), "choices[0].message")
    said = _message(given, model)
    segments = segments_of(message, said["id"])
    called = any(segment.shape is Shape.TOOL for segment in segments)
    refused = any(segment.shape is Shape.REFUSAL for segment in segments)
    stop = choice.get("stop_reason")
    ending = Ending(
        ended_by(choice.get("finish_reason"), called=called),
        stop if type(stop) is str else None,
        given.get("usage"),
    )
    said["content"] = [_block(segment) for segment in segments]
    return dump(said | _ended(ending, refused) | {"usage": _usage(ending.usage)})


def _message(chunk: Body, model: str) -> Body:
    return {
        "id": str(chunk.get("id") or "msg_unnamed"),
        "type": "message",
        "role": "assistant",
        "model": str(chunk.get("model") or model),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": _usage(chunk.get("usage")),
    }


def _usage(counts: object) -> Body:
    """A message's usage, which has every field that Anthropic's specification requires."""
    unknown = ("cache_creation", "inference_geo", "output_tokens_details", "server_tool_use")
    return dict.fromkeys((*unknown, "service_tier")) | as_messages(counts)


def _block(segment: Segment) -> Body:
    if segment.shape is Shape.TOOL:
        return {
            "type": "tool_use",
            "id": segment.id,
            "name": segment.name,
            "input": arguments_object(segment.text),
            "caller": {"type": "direct"},
        }
    if segment.shape is Shape.THINKING:
        return {"type": "thinking", "thinking": segment.text, "signature": segment.signature}
    if segment.shape is Shape.REDACTED:
        return {"type": "redacted_thinking", "data": segment.signature}
    return {"type": "text", "text": segment.text, "citations": None}


def _ended(ending: Ending, refused: bool) -> Body:
    reason = _STOPS[ending.reason]
    if reason == "end_turn" and refused:
        reason = "refusal"
    elif reason == "end_turn" and ending.stop_sequence is not None:
        reason = "stop_sequence"
    sequence = ending.stop_sequence if reason == "stop_sequence" else None
    return {"stop_reason": reason, "stop_sequence": sequence}


class MessagesWriter:
    """Writes an answer as Anthropic's events; counts are known at the end and said there."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._index = 0
        self._refused = False

    def start(self, chunk: Body) -> bytes:
        """Send `message_start`; its usage is zero unless the upstream counts from the start."""
        return _event("message_start", message=_message(chunk, self._model))

    def begin(self, segment: Segment) -> bytes:
        """Send `content_block_start` with an empty block."""
        empty = Segment(segment.shape, id=segment.id, name=segment.name)
        if segment.shape is Shape.REDACTED:
            empty.signature = segment.signature
        self._refused |= segment.shape is Shape.REFUSAL
        return _event("content_block_start", index=self._index, content_block=_block(empty))

    def write(self, segment: Segment, piece: str) -> bytes:
        """Send `content_block_delta`."""
        if segment.shape is Shape.TOOL:
            return self._delta(type="input_json_delta", partial_json=piece)
        if segment.shape is Shape.THINKING:
            return self._delta(type="thinking_delta", thinking=piece)
        return self._delta(type="text_delta", text=piece)

    def close(self, segment: Segment, *, cut: bool) -> bytes:
        """Send a thinking block's signature, and `content_block_stop`."""
        said = b""
        if segment.shape is Shape.THINKING and segment.signature:
            said = self._delta(type="signature_delta", signature=segment.signature)
        said += _event("content_block_stop", index=self._index)
        self._index += 1
        return said

    def finish(self, ending: Ending) -> bytes:
        """Send `message_delta` with the stop reason and all counts, and `message_stop`."""
        delta = _ended(ending, self._refused)
        usage = as_messages(ending.usage)
        return _event("message_delta", delta=delta, usage=usage) + _event("message_stop")

    def fail(self, status: int, kind: str, message: str) -> bytes:
        """Send an error event; no `message_stop` follows."""
        return stream_error(Wire.MESSAGES, status, kind, message)

    def _delta(self, **delta: str) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)


def _event(name: str, **fields: object) -> bytes:
    return sse.encode(name, dump({"type": name, **fields}))
