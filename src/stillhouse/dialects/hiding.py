"""Takes the usage that a gateway asked for back out of a chat stream whose caller did not ask."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stillhouse.dialects import deltas, sse

_NO_OBJECT = (b"data: [", b"data:[")
_LONG = 1024
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r(?!\n)")
USUAL_NULL = b',"usage":null'
"""How OpenAI writes it, and the common case. Whoever reads a stream may take it out of whole events
without a hider, and is done where no `"usage"` is left in them."""
_NULL_USAGE = re.compile(rb',[ \t]*"usage"[ \t]*:[ \t]*null|"usage"[ \t]*:[ \t]*null[ \t]*,[ \t]*')


class Hider:
    r"""Holds back what came of an event until its end has come, and passes it on without the usage.

    >>> hider = Hider()
    >>> hider.feed(b'data: {"choices":[],"usage":{"prompt')
    b''
    >>> hider.feed(b'_tokens":5}}\n\ndata: [DONE]\n\n')
    b'data: [DONE]\n\n'
    """

    __slots__ = ("_seam", "held")

    def __init__(self) -> None:
        self.held: list[bytes] = []
        """What came of an event that has not ended yet."""
        self._seam = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; return what may be passed on by now."""
        if self.held:
            if len(self.held[0]) > _LONG:  # a long event is looked through and put together once
                seam = self._seam + chunk
                if not any(end in seam for end in sse.ENDS):
                    self.held.append(chunk)
                    self._seam = seam[-3:]
                    return b""
            chunk, self.held = b"".join([*self.held, chunk]), []
        if not chunk.endswith(sse.ENDS):
            at = max(chunk.rfind(end) + len(end) if end in chunk else 0 for end in sse.ENDS)
            if not chunk.startswith(_NO_OBJECT, at):  # `[DONE]` may go at once: it has no usage
                self.held, self._seam = [chunk[at:]], chunk[at:][-3:]
                chunk = chunk[:at]
        return _without_usage(chunk)

    def rest(self) -> bytes:
        """What is held back of an event that never ended; empty where nothing is."""
        held, self.held = self.held, []
        return b"".join(held)


def _without_usage(chunk: bytes) -> bytes:
    """Leave the usage event out of whole chat events, and `"usage":null` out of the others.

    No text can look like the member that is removed: inside a string its quotes are escaped.
    """
    chunk = chunk.replace(USUAL_NULL, b"")
    if b'"usage"' not in chunk:
        return chunk
    kept: list[bytes] = []
    for event in _whole_events(chunk):
        if b'"usage"' not in event:
            kept.append(event)
        elif not _only_usage(event):
            kept.append(_NULL_USAGE.sub(b"", event))
    return b"".join(kept)


def _whole_events(chunk: bytes) -> Iterator[bytes]:
    at = 0
    for end in _EVENT_END.finditer(chunk):
        yield chunk[at : end.end()]
        at = end.end()
    if at < len(chunk):
        yield chunk[at:]


def _only_usage(event: bytes) -> bool:
    for said in deltas.payloads(sse.events(event)):
        return type(said.get("usage")) is dict and not said.get("choices")
    return False
