"""An answer that is known beforehand, told at its own pace."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence

from stillhouse.core.calls import Headers, UpstreamCall
from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import UpstreamError
from stillhouse.core.traffic import Completion, Usage
from stillhouse.dialects.faults import error_body
from stillhouse.dialects.render import render_body, render_stream

JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream")


class CannedReply:
    """Implements `core.ports.Reply`: each part after a pause, and then perhaps a failure."""

    def __init__(
        self,
        status: int,
        headers: Headers,
        parts: Sequence[bytes],
        *,
        pause_seconds: float = 0.0,
        error: UpstreamError | None = None,
    ) -> None:
        self._status = status
        self._headers = headers
        self._parts = parts
        self._pause_seconds = pause_seconds
        self._error = error
        self._cancelled = False

    @property
    def relay(self) -> None:
        """Its parts come after pauses, so somebody has to wait for them."""
        return

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._status

    @property
    def headers(self) -> Headers:
        """End-to-end header fields."""
        return self._headers

    def whole_body(self) -> bytes | None:
        """The whole body, unless it takes its time or ends in a failure."""
        if self._pause_seconds or self._error is not None or self._cancelled:
            return None
        return b"".join(self._parts)

    async def read(self) -> bytes:
        """The whole body, once its time has passed."""
        return b"".join([part async for part in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The parts at their pace."""
        for part in self._parts:
            if self._cancelled:
                return
            if self._pause_seconds:
                await asyncio.sleep(self._pause_seconds)
            yield part
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Tell no more."""
        self._cancelled = True


def refusal(
    wire: Wire, status: int, kind: str, message: str, *more: tuple[bytes, bytes]
) -> CannedReply:
    """An error in the dialect of the call."""
    return CannedReply(status, [JSON, *more], [error_body(wire, status, kind, message)])


def told(
    call: UpstreamCall, answer: Completion, answer_id: str, model: str, usage: Usage | None
) -> list[bytes]:
    """An answer in the dialect of the call: its events, or its body as the only part."""
    seconds = int(time.time())
    if streams(call):
        return render_stream(
            call.wire, answer, answer_id=answer_id, model=model, usage=usage, created_s=seconds
        )
    return [
        render_body(
            call.wire, answer, answer_id=answer_id, model=model, usage=usage, created_s=seconds
        )
    ]


def models(names: Iterable[str]) -> bytes:
    """A list of models as OpenAI gives it.

    >>> models(["gpt-6"])
    b'{"object": "list", "data": [{"id": "gpt-6", "object": "model", "owned_by": "stillhouse"}]}'
    """
    rows = [{"id": name, "object": "model", "owned_by": "stillhouse"} for name in names]
    return json.dumps({"object": "list", "data": rows}).encode()


def streams(call: UpstreamCall) -> bool:
    """Whether a call wants a stream of events, and its dialect has one."""
    return call.stream and call.wire in (Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES)
