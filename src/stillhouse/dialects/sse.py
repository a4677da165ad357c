"""Server-sent events: splits a stream into events however it was cut, and writes them.

After the WHATWG standard, "9.2.6 Interpreting an event stream": lines end in CRLF, LF or CR, a
leading byte order mark is skipped, `data` lines of one event are joined by a newline, lines that
begin with a colon are comments, and an event without data is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Event(NamedTuple):
    """One event: its name (empty where none was given), its data, its id."""

    event: str
    data: bytes
    id: str = ""


ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
"""How an event ends, by the line ends that its writer uses."""

_BOM = b"\xef\xbb\xbf"


class Splitter:
    r"""Cuts a stream into events as its bytes come in; any cutting gives the same events.

    >>> splitter = Splitter()
    >>> list(splitter.feed(b"event: ping\r\nda")) + list(splitter.feed(b"ta: {}\r\n\r\n"))
    [Event(event='ping', data=b'{}', id='')]
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._begun = False
        self._event = ""
        self._id = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes; yield the events that they complete."""
        rest = self._rest
        goes_on = self._begun and rest and not rest[-1].endswith(b"\r")
        if goes_on and b"\n" not in chunk and b"\r" not in chunk:
            rest.append(chunk)  # a line may be long, and is put together once
            return
        text = b"".join([*rest, chunk]) if rest else chunk
        if not self._begun:
            if len(text) < 3 and _BOM.startswith(text):
                self._rest = [text]
                return
            self._begun = True
            text = text.removeprefix(_BOM)
        lines = text.splitlines(keepends=True)
        # A CR at the very end may be half of a CRLF: wait for what follows.
        self._rest = [lines.pop()] if lines and not lines[-1].endswith(b"\n") else []
        for line in lines:
            if (event := self._take(line.rstrip(b"\r\n"))) is not None:
                yield event

    def end(self) -> Iterator[Event]:
        """Say that no more comes: yield an event whose closing blank line is missing.

        The standard drops such an event. Some upstreams leave the last line end out, and whether
        the data is whole shows when it is parsed.
        """
        text, self._rest = b"".join(self._rest), []
        for line in (text.removesuffix(b"\r"), b"") if text else (b"",):
            if (event := self._take(line)) is not None:
                yield event

    def _take(self, line: bytes) -> Event | None:
        if not line:
            event, data = self._event, self._data
            self._event, self._data = "", []
            return Event(event, b"\n".join(data), self._id) if data else None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        return None


def events(stream: bytes) -> list[Event]:
    r"""Cut a whole stream into its events.

    >>> [event.data for event in events(b": hello\ndata: 1\ndata: 2\n\ndata: [DONE]\n\n")]
    [b'1\n2', b'[DONE]']
    """
    plain = stream.startswith(b"data: ") and stream.endswith(b"\n\n") and stream.find(b"\r") < 0
    if plain and stream.find(b"\n") == len(stream) - 2:  # a single event of one line, as most are
        return [Event("", stream[6:-2])]
    splitter = Splitter()
    return [*splitter.feed(stream), *splitter.end()]


def encode(event: str, data: bytes) -> bytes:
    r"""Write one event; an empty name is left out.

    >>> encode("", b"[DONE]"), encode("ping", b"{}")
    (b'data: [DONE]\n\n', b'event: ping\ndata: {}\n\n')
    """
    head = b"event: %s\n" % event.encode() if event else b""
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    return b"%sdata: %s\n\n" % (head, lines)
