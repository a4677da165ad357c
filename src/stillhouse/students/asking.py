"""Asks the students at work, in a process of their own; whatever befalls it, the teacher answers.

>>> import asyncio
>>> async def nobody_there() -> None:
...     asking = Asking(Path("students.sock"))
...     print(await asking.ask("5d0c", "where is my card", 0.25))
...     asking.close()
>>> asyncio.run(nobody_there())
None
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from stillhouse.core.learning import Prediction
from stillhouse.core.serving import Answered
from stillhouse.students.frames import (
    MOST_BYTES,
    MOST_CHARACTERS,
    MOST_TEXTS,
    FrameError,
    Frames,
    Question,
    Reply,
    framed,
    reachable,
    reply_in,
)

FIRST_WAIT_SECONDS, LAST_WAIT_SECONDS = 0.05, 1.0
"""Between two tries to reach the process; each wait is twice the one before."""

PATIENCE_SECONDS = 60.0
"""How long `ask_many` waits for a part of its answer, a student's loading included."""

REACH_SECONDS = 5.0
"""How long `ask_many` waits for the process where it is not there."""

MOST_LATE = 5
"""So many late answers in a row, and live requests are kept from waiting for more."""

REST_SECONDS = 1.0
"""For how long then, before one request tries again."""

_MOST_UNSENT_BYTES = 2**20
_BULK_CHARACTERS = MOST_BYTES // 8


class Asking:
    """The students behind a unix socket: one connection that comes back by itself.

    It is made at the first question, which is not answered then. `ask_many` without texts makes a
    student ready: the process loads what it is asked for first. Belongs to one event loop.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line: asyncio.Transport | None = None
        self._reached = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Reply | None]] = {}
        self._number = 0
        self._late = 0
        self._rest_until = 0.0
        self._heard = False
        self._closed = False

    async def ask(
        self, student: str, text: str, deadline_seconds: float, *, odds: bool = False
    ) -> Answered | None:
        """What a student says of a text; None where it is missing, late or broken."""
        loop = asyncio.get_running_loop()
        if self._line is None or deadline_seconds <= 0:
            self._reach()
            return None
        if self._late >= MOST_LATE:
            if loop.time() < self._rest_until:
                return None
            self._rest_until = loop.time() + REST_SECONDS
        reply = await self._put(student, (text,), deadline_seconds, odds, patient=False)
        if reply is None:
            return None
        said = answers_in(reply)
        return said[0] if len(said) == 1 else None

    async def ask_many(self, student: str, texts: Sequence[str]) -> list[Answered] | None:
        """What a student says of many texts, with no hurry; None where it cannot be asked."""
        said: list[Answered] = []
        for part in parts(texts):
            if not await self._there():
                return None
            reply = await self._put(student, part, PATIENCE_SECONDS, odds=False, patient=True)
            if reply is None or reply.refused or len(reply.said) != len(part):
                return None
            said += answers_in(reply)
        return said

    def close(self) -> None:
        """Let the connection go; questions under way are answered with None."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
        if self._line is not None:
            self._line.abort()
        self._lost()

    async def _put(
        self, student: str, texts: tuple[str, ...], seconds: float, odds: bool, *, patient: bool
    ) -> Reply | None:
        """Send a question and wait so long for its reply."""
        line = self._line
        if line is None or line.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            return None
        if any(len(text) > MOST_CHARACTERS for text in texts):
            return None
        self._number = number = self._number + 1
        try:
            sent = framed(Question(number, student, texts, odds, patient, seconds))
        except UnicodeEncodeError:  # half a surrogate pair is no text
            return None
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply | None] = loop.create_future()
        self._waiting[number] = reply
        line.write(sent)
        alarm = loop.call_later(seconds, self._give_up, number, patient)
        try:
            return await reply
        finally:
            alarm.cancel()
            self._waiting.pop(number, None)

    def _give_up(self, number: int, patient: bool) -> None:
        reply = self._waiting.pop(number, None)
        if reply is None or reply.done():
            return
        reply.set_result(None)
        if not patient:
            self._late += 1
            self._rest_until = asyncio.get_running_loop().time() + REST_SECONDS

    def _answer(self, reply: Reply) -> None:
        waiting = self._waiting.pop(reply.number, None)
        if waiting is not None and not waiting.done():
            self._heard, self._late = True, 0
            waiting.set_result(reply)

    def _lost(self) -> None:
        """The connection is gone: nobody waits for it."""
        self._line = None
        self._reached.clear()
        waiting, self._waiting = self._waiting, {}
        for reply in waiting.values():
            if not reply.done():
                reply.set_result(None)

    async def _there(self) -> bool:
        """Whether the process can be reached, after some patience."""
        if self._closed:
            return False
        self._reach()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._reached.wait(), REACH_SECONDS)
        return self._line is not None

    def _reach(self) -> None:
        if self._keeper is None and not self._closed:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        """Connect, and again whenever the connection is lost, later each time it is in vain."""
        loop = asyncio.get_running_loop()
        wait = FIRST_WAIT_SECONDS
        while True:
            self._heard = False
            with suppress(OSError):
                lost: asyncio.Future[None] = loop.create_future()
                line, _ = await loop.create_unix_connection(
                    lambda lost=lost: _Line(self, lost),  # type: ignore[misc]
                    sock=connected(self._path),
                )
                self._line = line
                self._late = 0
                self._reached.set()
                try:
                    await lost
                finally:
                    line.abort()
                    self._lost()
            wait = FIRST_WAIT_SECONDS if self._heard else min(2 * wait, LAST_WAIT_SECONDS)
            await asyncio.sleep(wait)


class _Line(asyncio.Protocol):
    """Hands replies on; garbage ends the connection."""

    def __init__(self, asking: Asking, lost: asyncio.Future[None]) -> None:
        self._asking = asking
        self._lost = lost
        self._frames = Frames()

    def data_received(self, data: bytes) -> None:
        """Hand on what is whole now."""
        try:
            for body in self._frames.cut(data):
                self._asking._answer(reply_in(body))
        except FrameError:
            self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so, once: nobody waits from here on."""
        if not self._lost.done():
            self._asking._lost()
            self._lost.set_result(None)


def connected(path: Path) -> socket.socket:
    """A connection to a unix socket that is listened on; OSError where there is none now."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.setblocking(False)
        with reachable(path) as address:
            line.connect(address)
    except OSError:
        line.close()
        raise
    return line


def answers_in(reply: Reply) -> list[Answered]:
    """What a reply says of each text; nothing where it was refused.

    >>> answers_in(Reply(1, (("refund", 0.9),), ("card", "refund"), ((0.1, 0.9),)))
    [Answered(prediction=Prediction(label='refund', score=0.9),
              labels=('card', 'refund'), odds=(0.1, 0.9))]
    """
    odds = reply.odds or ((),) * len(reply.said)
    return [
        Answered(Prediction(label, score), reply.labels, shares)
        for (label, score), shares in zip(reply.said, odds, strict=False)
    ]


def parts(texts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Texts in parts that fit into a question; one empty part where there are none.

    >>> [len(part) for part in parts(["a"] * 300)], list(parts([]))
    ([256, 44], [()])
    """
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and (len(part) == MOST_TEXTS or characters + len(text) > _BULK_CHARACTERS):
            yield tuple(part)
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part or not texts:
        yield tuple(part)
