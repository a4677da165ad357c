"""Says an Anthropic Messages answer, whole or streaming, as a chat completion."""

from __future__ import annotations

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.dialects.faults import stream_error
from stillhouse.dialects.sse import Splitter, encode
from stillhouse.dialects.translate_chat_stream import BROKEN_OFF
from stillhouse.dialects.translate_json import (
    Body,
    an_object,
    arguments_text,
    dump,
    load,
    objects,
)
from stillhouse.dialects.translate_messages_chat import tool_call
from stillhouse.dialects.translate_segments import told_error
from stillhouse.dialects.translate_thinking import kept_block, thinking_of
from stillhouse.dialects.translate_usage import as_chat

_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Every other stop reason (end_turn, stop_sequence, pause_turn) is `stop`."""


def answer(body: bytes, model: str, created: int = 0) -> bytes:
    """Translate a whole Messages answer; `created` is the time in seconds since 1970.

    >>> said = answer(b'{"id": "msg_1", "content": [{"type": "text", "text": "Hi"}], '
    ...               b'"stop_reason": "end_turn", "usage": {"input_tokens": 3}}', "m")
    >>> load(said, "it")["choices"][0]["message"]["content"]
    'Hi'
    """
    given = load(body, "the upstream's answer")
    content = objects(given.get("content"), "content")
    calls = [
        tool_call(block, f"content[{at}]")
        for at, block in enumerate(content)
        if block.get("type") == "tool_use"
    ]
    told = [str(block.get("text", "")) for block in content if block.get("type") == "text"]
    message: Body = {
        "role": "assistant",
        "content": "".join(told) if told or not calls else None,
        "refusal": _refusal(given),
        "annotations": [],
        **thinking_of(content),
    }
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, **_ended(given)}
    return dump(
        {
            "id": str(given.get("id") or "chatcmpl-unnamed"),
            "object": "chat.completion",
            "created": created,
            "model": str(given.get("model") or model),
            "choices": [choice],
            "usage": as_chat(given.get("usage")),
        }
    )


def _ended(given: Body) -> Body:
    """The finish reason; a stop sequence that was met stands beside it, as vLLM has it."""
    reason = given.get("stop_reason")
    said: Body = {"finish_reason": _REASONS.get(reason, "stop") if type(reason) is str else "stop"}
    if type(given.get("stop_sequence")) is str:
        said["stop_reason"] = given["stop_sequence"]
    return said


def _refusal(given: Body) -> str | None:
    details = given.get("stop_details")
    why = details.get("explanation") if type(details) is dict else None
    return why if type(why) is str and given.get("stop_reason") == "refusal" else None


class MessagesStream:
    """Translates a Messages stream into chat chunks; `end` tells a stream cut short as broken.

    `wants_usage` is whether the caller asked for the chunk with the counts.
    """

    def __init__(self, model: str, *, wants_usage: bool, created: int = 0) -> None:
        self._model = model
        self._wants_usage = wants_usage
        self._created = created
        self._events = Splitter()
        self._id = "chatcmpl-unnamed"
        self._usage: Body = {}
        self._block: Body = {}
        self._calls = 0
        self._has_input = self._stopped = self._over = False

    def feed(self, chunk: bytes) -> bytes:
        """Take the upstream's next bytes, cut anywhere; return the caller's."""
        return b"".join([self._read(event.data) for event in self._events.feed(chunk)])

    def end(self) -> bytes:
        """Say that the upstream has ended; return the caller's last bytes."""
        said = b"".join([self._read(event.data) for event in self._events.end()])
        if self._over:
            return said
        if self._stopped:
            return said + self._finish()
        return said + self._fail(502, "truncated", BROKEN_OFF)

    def _read(self, data: bytes) -> bytes:
        if self._over:
            return b""
        try:
            return self._take(load(data, "an event of the upstream's stream"))
        except CallerError as fault:
            return self._fail(502, "garbage", str(fault))

    def _take(self, event: Body) -> bytes:
        shape = event.get("type")
        if shape == "content_block_delta":
            return self._piece(an_object(event.get("delta"), "delta"))
        if shape == "content_block_start":
            return self._open(an_object(event.get("content_block"), "content_block"))
        if shape == "content_block_stop":
            return self._close(event.get("index"))
        if shape == "message_start":
            return self._start(an_object(event.get("message"), "message"))
        if shape == "message_delta":
            return self._stop(event)
        if shape == "message_stop":
            return self._finish()
        if shape == "error":
            return self._fail(*told_error(event.get("error")))
        return b""  # a ping, or a kind of event that Anthropic may add

    def _start(self, message: Body) -> bytes:
        self._id = str(message.get("id") or self._id)
        self._model = str(message.get("model") or self._model)
        self._count(message.get("usage"))
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _open(self, block: Body) -> bytes:
        self._block = dict(block)
        shape = block.get("type")
        if shape == "tool_use":
            call = tool_call({**block, "input": {}}, "content_block")
            call["function"]["arguments"] = ""
            self._has_input = False
            self._calls += 1
            return self._chunk({"tool_calls": [{"index": self._calls - 1, **call}]})
        if shape == "text" and block.get("text"):
            return self._chunk({"content": block["text"]})
        if shape == "thinking" and block.get("thinking"):
            return self._chunk({"reasoning_content": block["thinking"]})
        return b""

    def _piece(self, delta: Body) -> bytes:
        shape = delta.get("type")
        if shape == "text_delta":
            return self._chunk({"content": str(delta.get("text", ""))})
        if shape == "input_json_delta":
            return self._arguments(str(delta.get("partial_json", "")))
        if shape == "thinking_delta":
            piece = str(delta.get("thinking", ""))
            self._block["thinking"] = str(self._block.get("thinking", "")) + piece
            return self._chunk({"reasoning_content": piece})
        if shape == "signature_delta":
            self._block["signature"] = str(delta.get("signature", ""))
        return b""

    def _arguments(self, piece: str) -> bytes:
        if not piece or self._block.get("type") != "tool_use":
            return b""
        self._has_input = True
        call = {"index": self._calls - 1, "function": {"arguments": piece}}
        return self._chunk({"tool_calls": [call]})

    def _close(self, index: object) -> bytes:
        """End a block: the signed thinking goes out whole, and input that came with no delta."""
        block, said = self._block, b""
        if block.get("signature") or block.get("data"):
            at = index if type(index) is int else 0
            said = self._chunk({"thinking_blocks": [kept_block(block, at)]})
        elif block.get("type") == "tool_use" and not self._has_input:
            said = self._arguments(arguments_text(block.get("input")))
        self._block = {}
        return said

    def _stop(self, event: Body) -> bytes:
        delta = an_object(event.get("delta"), "delta")
        self._count(event.get("usage"))
        if delta.get("stop_reason") is None:
            return b""
        self._stopped = True
        why = _refusal(delta)
        return self._chunk({} if why is None else {"refusal": why}, **_ended(delta))

    def _count(self, usage: object) -> None:
        """Counts are totals so far: a later one replaces an earlier one."""
        if type(usage) is dict:
            self._usage |= {name: count for name, count in usage.items() if count is not None}

    def _finish(self) -> bytes:
        self._over = True
        usage = b""
        if self._wants_usage:
            usage = self._event({"choices": [], "usage": as_chat(self._usage)})
        return usage + encode("", b"[DONE]")

    def _fail(self, status: int, kind: str, message: str) -> bytes:
        self._over = True
        return stream_error(Wire.CHAT, status, kind, message)

    def _chunk(self, delta: Body, **ended: object) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, **ended}
        return self._event({"choices": [choice]})

    def _event(self, rest: Body) -> bytes:
        head = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }
        return encode("", dump(head | rest))
