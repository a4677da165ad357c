"""Reads a chat stream and hands it to a writer segment by segment, however its pieces are mixed.

Anthropic's blocks and Responses' items follow each other, while chat may mix the arguments of
parallel calls. So one segment is open at a time; what belongs to later ones waits until the open
one is whole: text at once, arguments as soon as they are JSON.
"""

from __future__ import annotations

from collections import deque

from stillhouse.core.errors import CallerError
from stillhouse.dialects.sse import Splitter
from stillhouse.dialects.translate_json import Body, load, objects
from stillhouse.dialects.translate_segments import (
    Ending,
    Segment,
    Shape,
    Writer,
    arguments_of,
    call_id,
    kept_segment,
    reasoning,
    told,
    told_error,
)

BROKEN_OFF = "the upstream's stream ended before its last event"


class ChatStream:
    """Translates a chat stream with a writer of the caller's dialect.

    `feed` takes bytes as they come, cut anywhere. `end` says that no more come: a stream whose
    answer had not ended by then is told to the caller as broken.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._events = Splitter()
        self._waiting: deque[Segment] = deque()
        self._last: Segment | None = None
        self._calls: dict[int, Segment] = {}
        self._told = 0
        self._id = ""
        self._reason = ""
        self._stop_sequence: str | None = None
        self._usage: object = None
        self._begun = self._over = False

    def feed(self, chunk: bytes) -> bytes:
        """Take the upstream's next bytes; return the caller's."""
        return b"".join([self._read(event.data) for event in self._events.feed(chunk)])

    def end(self) -> bytes:
        """Say that the upstream has ended; return the caller's last bytes."""
        said = b"".join([self._read(event.data) for event in self._events.end()])
        if self._over:
            return said
        if self._reason:
            return said + self._finish()
        return said + self._fail(502, "truncated", BROKEN_OFF)

    def _read(self, data: bytes) -> bytes:
        if self._over:
            return b""
        if data.strip() == b"[DONE]":
            if not self._begun:
                return self._fail(502, "truncated", "the upstream's stream held no answer")
            return self._finish()
        try:
            return self._take(load(data, "an event of the upstream's stream"))
        except CallerError as fault:
            return self._fail(502, "garbage", str(fault))

    def _take(self, chunk: Body) -> bytes:
        error = chunk.get("error")
        if error:
            return self._fail(*told_error(error))
        said = b""
        if not self._begun:
            self._begun = True
            self._id = str(chunk.get("id") or "")
            said = self._writer.start(chunk)
        if type(chunk.get("usage")) is dict:
            self._usage = chunk["usage"]
        for choice in objects(chunk.get("choices") or [], "choices"):
            if choice.get("index", 0) == 0:
                self._sort(choice)
        return said + self._flush()

    def _sort(self, choice: Body) -> None:
        """Add each piece of a chunk to its segment."""
        delta = choice.get("delta")
        if type(delta) is dict:
            self._sort_thinking(delta)
            for shape, piece in told(delta.get("content"), "content"):
                self._add(shape, piece)
            if type(delta.get("refusal")) is str:
                self._add(Shape.REFUSAL, delta["refusal"])
            for call in objects(delta.get("tool_calls") or [], "tool_calls"):
                self._sort_call(call)
        if type(choice.get("finish_reason")) is str:
            self._reason = choice["finish_reason"]
        if type(choice.get("stop_reason")) is str:
            self._stop_sequence = choice["stop_reason"]

    def _sort_thinking(self, delta: Body) -> None:
        self._add(Shape.THINKING, reasoning(delta))
        for block in objects(delta.get("thinking_blocks") or [], "thinking_blocks"):
            kept, last = kept_segment(block), self._last
            if kept.shape is Shape.THINKING and not kept.signature:
                continue
            if last is None or last.shape is not kept.shape or last.sealed:
                kept.unwritten = kept.text
                self._queue(kept)
            else:  # its text came as reasoning_content before
                last.signature, last.sealed = kept.signature, True

    def _sort_call(self, call: Body) -> None:
        """Find the call a piece belongs to: by index, though some servers give all the same."""
        function = call.get("function")
        function = function if type(function) is dict else {}
        index = call.get("index")
        index = index if type(index) is int else 0 if not call.get("id") else len(self._calls)
        segment = self._calls.get(index)
        if segment is None or (
            call.get("id") and function.get("name") and call["id"] != segment.id
        ):
            order, self._told = self._told, self._told + 1
            segment = self._calls[index] = Segment(Shape.TOOL, id=call_id(call, self._id, order))
            self._queue(segment)
        if not segment.name and type(function.get("name")) is str:
            segment.name = function["name"]
        piece = arguments_of(function)
        segment.text += piece
        segment.unwritten += piece

    def _add(self, shape: Shape, piece: str) -> None:
        if not piece:
            return
        segment = self._last
        if segment is None or segment.shape is not shape or segment.sealed:
            segment = Segment(shape)
            self._queue(segment)
        segment.text += piece
        segment.unwritten += piece

    def _queue(self, segment: Segment) -> None:
        self._waiting.append(segment)
        self._last = segment

    def _flush(self, ending: Ending | None = None) -> bytes:
        """Write what may be written now; once the answer has ended, all of it."""
        said = []
        while self._waiting:
            segment = self._waiting[0]
            if not segment.opened:
                if segment.shape is Shape.TOOL and not segment.name and ending is None:
                    break
                segment.opened = True
                said.append(self._writer.begin(segment))
            if segment.unwritten:
                said.append(self._writer.write(segment, segment.unwritten))
                segment.unwritten = ""
            if ending is None and (len(self._waiting) == 1 or not segment.whole):
                break
            cut = ending is not None and ending.cut and len(self._waiting) == 1
            said.append(self._writer.close(segment, cut=cut))
            self._waiting.popleft()
        return b"".join(said)

    def _finish(self) -> bytes:
        self._over = True
        reason = ended_by(self._reason, called=bool(self._calls))
        ending = Ending(reason, self._stop_sequence, self._usage)
        return self._flush(ending) + self._writer.finish(ending)

    def _fail(self, status: int, kind: str, message: str) -> bytes:
        self._over = True
        return self._writer.fail(status, kind, message)


def ended_by(reason: object, *, called: bool) -> str:
    """Why an answer ended, in chat's word: `stop` with tool calls in it means the calls.

    >>> ended_by("stop", called=True), ended_by("length", called=True), ended_by(None, called=False)
    ('tool_calls', 'length', 'stop')
    """
    if reason in ("length", "content_filter"):
        return str(reason)
    return "tool_calls" if called else "stop"
