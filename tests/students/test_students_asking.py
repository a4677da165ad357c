"""Who asks the students: late, lost, garbled or dead, the answer is None and the caller goes on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import pytest

from stillhouse.core.learning import Prediction
from stillhouse.core.ports import Student
from stillhouse.core.ports import Students as StudentsPort
from stillhouse.core.serving import Answered
from stillhouse.students.asking import MOST_LATE, Asking, parts
from stillhouse.students.frames import (
    MOST_BYTES,
    MOST_CHARACTERS,
    MOST_TEXTS,
    Frames,
    Question,
    Reply,
    framed,
    question_in,
)

Students = dict[str, Student]
Script = Callable[[Question, asyncio.StreamWriter], Awaitable[None]]
LONG_SECONDS = 30.0


class Scripted:
    """A process of students that does what a script says; `asked` is what it has heard."""

    def __init__(self, path: Path, script: Script) -> None:
        self.path, self.script = path, script
        self.asked: list[Question] = []
        self._lines: list[tuple[asyncio.StreamWriter, asyncio.Task[None] | None]] = []

    @property
    def lines(self) -> int:
        return len(self._lines)

    async def __aenter__(self) -> Scripted:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        for writer, task in self._lines:
            writer.close()
            if task is not None:
                await task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.append((writer, asyncio.current_task()))
        frames = Frames()
        with suppress(ConnectionError):
            while data := await reader.read(2**16):
                for body in frames.cut(data):
                    question = question_in(body)
                    self.asked.append(question)
                    await self.script(question, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def says_yes(question: Question, writer: asyncio.StreamWriter) -> None:
    writer.write(framed(Reply(question.number, (("yes", 0.9),) * len(question.texts))))


async def says_nothing(question: Question, writer: asyncio.StreamWriter) -> None:
    """Late for ever."""


async def reached(asking: Asking) -> None:
    """Wait until the process answers."""
    while await asking.ask_many("a", []) is None:
        await asyncio.sleep(0.01)


YES = Answered(Prediction("yes", 0.9))


def test_asking_keeps_the_port() -> None:
    port: StudentsPort = Asking(Path("students.sock"))
    assert port


def test_questions_share_a_line_and_get_their_own_answers(tmp_path: Path) -> None:
    held: list[Question] = []

    async def backwards(question: Question, writer: asyncio.StreamWriter) -> None:
        """Answers the last one first, once ten are here."""
        if not question.texts:
            await says_yes(question, writer)
            return
        held.append(question)
        for one in reversed(held if len(held) == 10 else []):
            writer.write(framed(Reply(one.number, ((one.texts[0], 0.5),))))

    async def story() -> None:
        async with Scripted(tmp_path / "s", backwards) as server:
            asking = Asking(server.path)
            await reached(asking)
            asks = (asking.ask("a", f"text {n}", LONG_SECONDS) for n in range(10))
            said = await asyncio.gather(*asks)
            wanted = [Answered(Prediction(f"text {n}", 0.5)) for n in range(10)]
            assert (said, server.lines) == (wanted, 1)
            asking.close()

    asyncio.run(story())


def test_odds_come_with_their_labels(tmp_path: Path) -> None:
    async def odds(question: Question, writer: asyncio.StreamWriter) -> None:
        shares = ((0.1, 0.9),) * question.odds
        labels = ("no", "yes") if question.odds else ()
        said = (("yes", 0.9),) * len(question.texts)
        writer.write(framed(Reply(question.number, said, labels, shares)))

    async def story() -> None:
        async with Scripted(tmp_path / "s", odds) as server:
            asking = Asking(server.path)
            await reached(asking)
            assert await asking.ask("a", "text", LONG_SECONDS) == YES
            wanted = Answered(Prediction("yes", 0.9), ("no", "yes"), (0.1, 0.9))
            assert await asking.ask("a", "text", LONG_SECONDS, odds=True) == wanted
            asking.close()

    asyncio.run(story())


@pytest.mark.parametrize("why", ["missing", "loading", "broken", "busy", "a later word"])
def test_a_refusal_is_none(tmp_path: Path, why: str) -> None:
    async def refuses(question: Question, writer: asyncio.StreamWriter) -> None:
        refused = why if question.texts else ""
        writer.write(framed(Reply(question.number, refused=refused)))

    async def story() -> None:
        async with Scripted(tmp_path / "s", refuses) as server:
            asking = Asking(server.path)
            await reached(asking)
            assert await asking.ask("a", "text", LONG_SECONDS) is None
            assert await asking.ask_many("a", ["text"]) is None
            asking.close()

    asyncio.run(story())


def test_a_late_answer_is_none_and_disturbs_no_later_one(tmp_path: Path) -> None:
    late: list[Question] = []

    async def first_late(question: Question, writer: asyncio.StreamWriter) -> None:
        if question.texts == ("slow",):
            late.append(question)
            return
        for one in [*late, question]:
            await says_yes(one, writer)

    async def story() -> None:
        async with Scripted(tmp_path / "s", first_late) as server:
            asking = Asking(server.path)
            await reached(asking)
            assert await asking.ask("a", "slow", 0.01) is None
            assert await asking.ask("a", "quick", LONG_SECONDS) == YES
            assert await asking.ask("a", "quick", LONG_SECONDS) == YES
            asking.close()

    asyncio.run(story())


def test_who_is_late_over_and_over_is_not_waited_for(tmp_path: Path) -> None:
    async def silent(question: Question, writer: asyncio.StreamWriter) -> None:
        if not question.texts:
            await says_yes(question, writer)

    async def story() -> None:
        async with Scripted(tmp_path / "s", silent) as server:
            asking = Asking(server.path)
            await reached(asking)
            server.asked.clear()
            for _ in range(MOST_LATE):
                assert await asking.ask("a", "text", 0.001) is None
            for _ in range(100):
                assert await asking.ask("a", "text", LONG_SECONDS) is None
            await reached(asking)  # all that was sent before has been heard
            assert len([one for one in server.asked if one.texts]) == MOST_LATE
            assert await asyncio.wait_for(probe(asking, server), LONG_SECONDS)
            asking.close()

    async def probe(asking: Asking, server: Scripted) -> bool:
        """In time one is let through again, and its answer lets in all."""
        server.script = says_yes
        while await asking.ask("a", "text", LONG_SECONDS) is None:
            await asyncio.sleep(0.01)
        return await asking.ask("a", "text", LONG_SECONDS) == YES

    asyncio.run(story())


def test_nobody_there_is_none_at_once_and_later_somebody_is(tmp_path: Path) -> None:
    async def story() -> None:
        asking = Asking(tmp_path / "s")
        for _ in range(100):
            assert await asking.ask("a", "text", LONG_SECONDS) is None
        async with Scripted(tmp_path / "s", says_yes):
            assert await asking.ask_many("a", ["text", "text"]) == [YES, YES]
            assert await asking.ask("a", "text", LONG_SECONDS) == YES
            asking.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        (MOST_BYTES + 1).to_bytes(4, "big"),
        b"\0\0\0\1\xc1",
        framed(Reply(1, (("yes", 0.9),)))[:7],
    ],
)
def test_garbage_and_a_death_in_the_middle_of_a_frame_are_none_for_all_who_wait(
    tmp_path: Path, garbage: bytes
) -> None:
    async def garbles(question: Question, writer: asyncio.StreamWriter) -> None:
        if question.texts == ("text 2",):
            writer.write(garbage)
            writer.close()
        elif not question.texts or question.texts == ("well",):
            await says_yes(question, writer)

    async def story() -> None:
        async with Scripted(tmp_path / "s", garbles) as server:
            asking = Asking(server.path)
            await reached(asking)
            asks = (asking.ask("a", f"text {n}", LONG_SECONDS) for n in range(3))
            assert await asyncio.gather(*asks) == [None] * 3
            await reached(asking)
            assert await asking.ask("a", "well", LONG_SECONDS) == YES
            assert server.lines == 2
            asking.close()

    asyncio.run(story())


def test_an_answer_about_other_texts_than_were_asked_is_none(tmp_path: Path) -> None:
    async def confused(question: Question, writer: asyncio.StreamWriter) -> None:
        count = len(question.texts) + 1 if question.texts else 0
        writer.write(framed(Reply(question.number, (("yes", 0.9),) * count)))

    async def story() -> None:
        async with Scripted(tmp_path / "s", confused) as server:
            asking = Asking(server.path)
            await reached(asking)
            assert await asking.ask("a", "text", LONG_SECONDS) is None
            assert await asking.ask_many("a", ["text"]) is None
            asking.close()

    asyncio.run(story())


def test_what_cannot_be_asked_is_none_without_asking(tmp_path: Path) -> None:
    async def story() -> None:
        async with Scripted(tmp_path / "s", says_yes) as server:
            asking = Asking(server.path)
            await reached(asking)
            server.asked.clear()
            assert await asking.ask("a", "x" * (MOST_CHARACTERS + 1), LONG_SECONDS) is None
            assert await asking.ask("a", "half \ud83d a pair", LONG_SECONDS) is None
            assert await asking.ask("a", "text", 0.0) is None
            assert await asking.ask_many("a", ["text", "\ud83d"]) is None
            assert server.asked == []
            asking.close()

    asyncio.run(story())


def test_a_caller_who_gives_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story() -> None:
        async with Scripted(tmp_path / "s", says_yes) as server:
            asking = Asking(server.path)
            await reached(asking)
            server.script = says_nothing
            ask = asyncio.ensure_future(asking.ask("a", "text", LONG_SECONDS))
            while not (server.asked and server.asked[-1].texts):
                await asyncio.sleep(0.001)
            ask.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ask
            server.script = says_yes
            assert await asking.ask("a", "text", LONG_SECONDS) == YES
            asking.close()

    asyncio.run(story())


def test_who_waits_when_it_is_closed_hears_none_and_so_does_who_comes_later(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with Scripted(tmp_path / "s", says_yes) as server:
            asking = Asking(server.path)
            await reached(asking)
            server.script = says_nothing
            ask = asyncio.ensure_future(asking.ask("a", "text", LONG_SECONDS))
            await asyncio.sleep(0)
            asking.close()
            assert await ask is None
            assert await asking.ask("a", "text", LONG_SECONDS) is None
            assert await asking.ask_many("a", ["text"]) is None
            asking.close()

    asyncio.run(story())


@pytest.mark.parametrize("length", [10, MOST_CHARACTERS])
def test_many_texts_are_asked_in_parts_that_fit_into_a_frame(length: int) -> None:
    texts = ["\N{GRINNING FACE}" * length] * (MOST_TEXTS + 44)
    cut = list(parts(texts))
    assert [text for part in cut for text in part] == texts
    for part in cut:
        assert 0 < len(part) <= MOST_TEXTS
        assert len(framed(Question(1, "a", part))) <= MOST_BYTES


SERVER = """
import sys
from pathlib import Path
from stillhouse.students.answering import serve
folder = Path(sys.argv[1])
serve(folder / "s", lambda digest: (folder / digest).read_bytes(), lambda seconds: False)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_process_that_is_killed_costs_its_answers_and_comes_back(
    tmp_path: Path, students: Students, loop: str
) -> None:
    artefact = students["lexical"].to_bytes()
    digest = blake2b(artefact, digest_size=16).hexdigest()
    (tmp_path / digest).write_bytes(artefact)
    (wanted,) = students["lexical"].predict(["where is my card"])

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)])

    async def ready(asking: Asking, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while await asking.ask_many(digest, []) is None:
            assert time.monotonic() < until, "the process does not answer"
            await asyncio.sleep(0.02)

    async def story() -> None:
        asking, other = Asking(tmp_path / "s"), Asking(tmp_path / "s")
        server = start()
        try:
            await ready(asking)
            await ready(other)
            ask = asking.ask(digest, "where is my card", LONG_SECONDS)
            assert await ask == Answered(wanted)
            texts = [f"where is my card {n} " * 500 for n in range(2000)]
            bulk = asyncio.ensure_future(asking.ask_many(digest, texts))
            assert await other.ask(digest, "where is my card", LONG_SECONDS) == Answered(wanted)
            server.kill()
            server.wait()
            assert await bulk is None
            assert await asking.ask(digest, "where is my card", LONG_SECONDS) is None
            server = start()
            await ready(asking)
            await ready(other)
            for one in (asking, other):
                assert await one.ask(digest, "where is my card", LONG_SECONDS) == Answered(wanted)
        finally:
            server.kill()
            server.wait()
            asking.close()
            other.close()

    if loop == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        uvloop.run(story())
    else:
        asyncio.run(story())
