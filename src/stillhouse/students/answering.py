"""Students at work: one thread that answers questions over a unix socket, live ones first.

What predicts is one thread anyway, so the socket is read between two predictions and nobody is
handed from thread to thread. A prediction takes as many texts as fit into a millisecond, or one: a
live request waits for one such piece at most, however much else is asked.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.core.errors import StoreError
from stillhouse.students.frames import (
    MOST_CHARACTERS,
    MOST_TEXTS,
    FrameError,
    Frames,
    Question,
    Refused,
    Reply,
    framed,
    question_in,
    reachable,
)
from stillhouse.students.kept import KeptStudents

if TYPE_CHECKING:
    from stillhouse.core.ports import Student

PIECE_SECONDS = 0.001
PIECE_TEXTS = 16
"""What is predicted at once: at least one text, no more than these, and about so long."""

LOOK_SECONDS = 0.25
"""How often the order to end is looked for."""

MOST_LIVE, MOST_BULK = 512, 64
"""Questions that may wait; one more is refused."""

MOST_LINES = 512
MOST_UNSENT_BYTES = 16 * 2**20
"""What is kept for a worker that does not read."""

_READ_BYTES = 2**18
_FIRST_PACE_SECONDS = 0.005
_MOST_PACES = 64


def serve(
    path: Path,
    load: Callable[[str], bytes],
    ended: Callable[[float], bool],
    say: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Answer on a unix socket until `ended` says so; StoreError where it cannot be listened on.

    `load` gives a student's artefact by its digest, on a thread of its own.
    """
    with listening(path) as listener:
        Answering(listener, load, say).run(ended)


class Line:
    """A worker's connection."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.frames = Frames()
        self.unsent = bytearray()
        self.open = True


@dataclass(slots=True)
class Asked:
    """A question that waits, and what has been said of its first texts."""

    line: Line
    question: Question
    until_seconds: float
    said: list[tuple[str, float]] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    odds: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def left(self) -> tuple[str, ...]:
        """The texts of which nothing has been said."""
        return self.question.texts[len(self.said) :]


class Answering:
    """Reads questions, predicts, replies; a broken line or student harms no other."""

    def __init__(
        self,
        listener: socket.socket,
        load: Callable[[str], bytes],
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._listener = listener
        self._waker, self._woken = socket.socketpair()
        self._kept = KeptStudents(load, self._wake, say)
        self._say = say
        self._live: deque[Asked] = deque()
        self._bulk: deque[Asked] = deque()
        self._parked: list[Asked] = []
        self._pace: dict[str, float] = {}
        self._lines: set[Line] = set()
        self._doors = selectors.DefaultSelector()

    def run(self, ended: Callable[[float], bool]) -> None:
        """Answer until told to end; questions under way are dropped then."""
        for end in (self._listener, self._waker, self._woken):
            end.setblocking(False)
        self._doors.register(self._listener, selectors.EVENT_READ)
        self._doors.register(self._woken, selectors.EVENT_READ)
        look = 0.0
        try:
            while True:
                waits = not (self._live or self._bulk)
                for key, events in self._doors.select(LOOK_SECONDS if waits else 0.0):
                    self._heed(key, events)
                now = time.monotonic()
                if now >= look:
                    look = now + LOOK_SECONDS
                    if ended(0.0):
                        return
                self._predict(now)
        finally:
            for line in list(self._lines):
                self._drop(line)
            self._doors.close()
            self._waker.close()
            self._woken.close()

    def _wake(self) -> None:
        """A student has arrived: called on the thread that loads."""
        with suppress(OSError):
            self._waker.send(b"!")

    def _heed(self, key: selectors.SelectorKey, events: int) -> None:
        if key.fileobj is self._listener:
            self._accept()
        elif key.fileobj is self._woken:
            self._woken.recv(4096)
            self._kept.take_in(time.monotonic())
            self._bulk.extend(self._parked)
            self._parked.clear()
        else:
            line: Line = key.data
            if events & selectors.EVENT_WRITE:
                self._send(line)
            if events & selectors.EVENT_READ and line.open:
                self._read(line)

    def _accept(self) -> None:
        with suppress(OSError):
            end, _ = self._listener.accept()
            if len(self._lines) >= MOST_LINES:
                end.close()
                return
            end.setblocking(False)
            line = Line(end)
            self._lines.add(line)
            self._doors.register(end, selectors.EVENT_READ, line)

    def _read(self, line: Line) -> None:
        """Queue what a worker asks; one that makes no sense is hung up on."""
        try:
            data = line.end.recv(_READ_BYTES)
            if not data:
                self._drop(line)
            for body in line.frames.cut(data):
                self._queue(line, question_in(body))
        except BlockingIOError:
            pass
        except (OSError, FrameError):
            self._drop(line)

    def _queue(self, line: Line, question: Question) -> None:
        most = MOST_TEXTS if question.patient else PIECE_TEXTS
        queue, room = (self._bulk, MOST_BULK) if question.patient else (self._live, MOST_LIVE)
        asked = Asked(line, question, time.monotonic() + question.within_seconds)
        if len(question.texts) > most or any(len(t) > MOST_CHARACTERS for t in question.texts):
            self._refuse(asked, Refused.TOO_LONG)
        elif len(queue) + (len(self._parked) if question.patient else 0) >= room:
            self._refuse(asked, Refused.BUSY)
        else:
            queue.append(asked)

    def _predict(self, now: float) -> None:
        """Answer one piece: of live questions, else of the next in the bulk."""
        while self._live and (self._live[0].until_seconds < now or not self._live[0].line.open):
            self._live.popleft()  # nobody waits for it any more
        if self._live:
            first = self._live[0].question.student
            chosen, others = self._piece(first)
            self._live = others
            self._ask(first, chosen, now)
        elif self._bulk:
            asked = self._bulk.popleft()
            if asked.line.open and asked.until_seconds >= now:
                self._ask(asked.question.student, [asked], now)

    def _piece(self, student: str) -> tuple[list[Asked], deque[Asked]]:
        """Live questions to a student that are answered together, and the others."""
        room = self._room(student)
        chosen: list[Asked] = []
        others: deque[Asked] = deque()
        for asked in self._live:
            size = len(asked.question.texts)
            if asked.question.student == student and (not chosen or size <= room):
                chosen.append(asked)
                room -= size
            else:
                others.append(asked)
        return chosen, others

    def _room(self, student: str) -> int:
        """How many texts of a student make a piece."""
        pace = self._pace.get(student, _FIRST_PACE_SECONDS)
        return max(1, min(PIECE_TEXTS, int(PIECE_SECONDS / pace)))

    def _ask(self, digest: str, questions: Sequence[Asked], now: float) -> None:
        """Let a student say what fits into a piece; a question that is not done waits on."""
        found = self._kept.find(digest, now)
        if found is Refused.LOADING and questions[0].question.patient:
            self._parked += questions
            return
        if isinstance(found, Refused):
            for asked in questions:
                self._refuse(asked, found)
            return
        patient = questions[0].question.patient
        room = self._room(digest) if patient else PIECE_TEXTS
        try:
            self._tell(found, digest, questions, room)
        except Exception as broken:  # whatever a student raises, the others go on
            self._say(f"student {digest[:12]} failed at a request ({type(broken).__name__})")
            for asked in questions:
                self._refuse(asked, Refused.BROKEN)

    def _tell(self, student: Student, digest: str, questions: Sequence[Asked], room: int) -> None:
        from stillhouse.students.linear import likeliest

        texts = [text for asked in questions for text in asked.left[:room]]
        if texts:
            began = time.monotonic()
            odds = student.odds(texts)
            said = [(one.label, one.score) for one in likeliest(odds, student.labels)]
            self._learn(digest, (time.monotonic() - began) / len(texts))
        start = 0
        for asked in questions:
            end = start + len(asked.left[:room])
            if end > start:
                if asked.question.odds:
                    asked.odds += [tuple(row) for row in odds[start:end].tolist()]
                    asked.labels = tuple(student.labels)
                asked.said += said[start:end]
            start = end
            if asked.left:
                self._bulk.append(asked)
            else:
                number, told, shares = asked.question.number, tuple(asked.said), tuple(asked.odds)
                self._reply(asked.line, Reply(number, told, asked.labels, shares))

    def _learn(self, digest: str, seconds: float) -> None:
        """How long a text takes a student, the last ones counting most."""
        if len(self._pace) > _MOST_PACES:
            self._pace.clear()
        known = self._pace.get(digest, seconds)
        self._pace[digest] = 0.8 * known + 0.2 * seconds

    def _refuse(self, asked: Asked, why: Refused) -> None:
        self._reply(asked.line, Reply(asked.question.number, refused=why.value))

    def _reply(self, line: Line, reply: Reply) -> None:
        if line.open:
            line.unsent += framed(reply)
            self._send(line)

    def _send(self, line: Line) -> None:
        """Send what the kernel takes; the rest when it takes more."""
        try:
            sent = line.end.send(line.unsent)
            del line.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(line)
            return
        if len(line.unsent) > MOST_UNSENT_BYTES:
            self._drop(line)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if line.unsent else 0)
        if self._doors.get_key(line.end).events != wanted:
            self._doors.modify(line.end, wanted, line)

    def _drop(self, line: Line) -> None:
        if line.open:
            line.open = False
            self._lines.discard(line)
            self._doors.unregister(line.end)
            line.end.close()


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A unix socket at a path for its owner alone, in place of any that was left there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        os.fchmod(listener.fileno(), 0o600)  # on Linux the file has this mode from the beginning
        with reachable(new) as address:
            listener.bind(address)
        new.chmod(0o600)
        listener.listen(128)
        mine = new.stat().st_ino
        new.replace(path)
    except OSError as error:
        listener.close()
        raise StoreError(
            f"students cannot be asked at {path} ({error.strerror or error}); check the rights of "
            "the folder, or name another one as the journal's"
        ) from error
    try:
        yield listener
    finally:
        listener.close()
        with suppress(OSError):
            if path.stat().st_ino == mine:
                path.unlink()
