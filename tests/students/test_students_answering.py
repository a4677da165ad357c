"""The process of the students: what it answers, and what one worker cannot do to others."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stillhouse.core.errors import StoreError
from stillhouse.core.ports import Student
from stillhouse.students.answering import MOST_BULK, PIECE_TEXTS, listening, serve
from stillhouse.students.frames import (
    MOST_BYTES,
    MOST_CHARACTERS,
    MOST_TEXTS,
    Frames,
    Question,
    Reply,
    framed,
    reachable,
    reply_in,
)

Students = dict[str, Student]
RECIPES = ("constant", "lexical", "embedding", "blend")


class Worker:
    """A plain connection that asks and reads."""

    def __init__(self, path: Path) -> None:
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.end.settimeout(30)
        with reachable(path) as address:
            self.end.connect(address)
        self._frames = Frames()
        self._heard: list[Reply] = []

    def send(self, *questions: Question) -> None:
        self.end.sendall(b"".join(map(framed, questions)))

    def next(self) -> Reply | None:
        """The next reply; None where the line is closed."""
        while not self._heard:
            data = self.end.recv(2**16)
            if not data:
                return None
            self._heard += map(reply_in, self._frames.cut(data))
        return self._heard.pop(0)

    def ask(self, student: str, *texts: str, odds: bool = False, patient: bool = True) -> Reply:
        self.send(Question(1, student, texts, odds, patient, 30.0))
        reply = self.next()
        assert reply is not None, "the line was closed"
        return reply


@contextmanager
def served(
    path: Path, load: Callable[[str], bytes], say: Callable[[str], None] = lambda sentence: None
) -> Iterator[Callable[[], Worker]]:
    """Serve on a thread; gives what connects."""
    stop, workers = threading.Event(), list[Worker]()
    up = threading.Event()

    def ended(seconds: float) -> bool:
        up.set()
        return stop.is_set()

    def connect() -> Worker:
        workers.append(Worker(path))
        return workers[-1]

    thread = threading.Thread(target=serve, args=(path, load, ended, say))
    thread.start()
    try:
        assert up.wait(30)
        yield connect
    finally:
        stop.set()
        for worker in workers:
            worker.end.close()
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def load(students: Students) -> Callable[[str], bytes]:
    """Artefacts by the recipe's name in place of a digest."""
    artefacts = {name: student.to_bytes() for name, student in students.items()}

    def find(digest: str) -> bytes:
        if digest not in artefacts:
            raise StoreError(f"there is no artefact {digest}")
        return artefacts[digest]

    return find


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_asked_over_the_socket_is_what_the_student_says(
    tmp_path: Path,
    load: Callable[[str], bytes],
    students: Students,
    recipe: str,
    unseen: dict[str, str],
) -> None:
    texts = list(unseen)
    with served(tmp_path / "s", load) as connect:
        reply = connect().ask(recipe, *texts, odds=True)
    for (label, score), wanted in zip(reply.said, students[recipe].predict(texts), strict=True):
        assert label == wanted.label
        assert score == pytest.approx(wanted.score, abs=1e-6)
    assert reply.labels == students[recipe].labels
    for row, shares in zip(students[recipe].odds(texts).tolist(), reply.odds, strict=True):
        assert shares == pytest.approx(row, abs=1e-6)


def test_odds_are_told_to_who_asks_for_them(tmp_path: Path, load: Callable[[str], bytes]) -> None:
    with served(tmp_path / "s", load) as connect:
        reply = connect().ask("lexical", "my card", "my refund")
    assert len(reply.said) == 2
    assert (reply.labels, reply.odds) == ((), ())


def test_many_texts_are_answered_in_their_order(
    tmp_path: Path, load: Callable[[str], bytes], students: Students, pairs: list[tuple[str, str]]
) -> None:
    texts = [text for text, _ in pairs] * 4
    with served(tmp_path / "s", load) as connect:
        reply = connect().ask("lexical", *texts)
    assert reply.said == tuple((p.label, p.score) for p in students["lexical"].predict(texts))


def test_no_texts_make_a_student_ready(tmp_path: Path, load: Callable[[str], bytes]) -> None:
    with served(tmp_path / "s", load) as connect:
        worker = connect()
        assert worker.ask("lexical") == Reply(1)
        assert worker.ask("lexical", "my card", patient=False).said


def test_a_live_question_goes_before_the_bulk(tmp_path: Path, load: Callable[[str], bytes]) -> None:
    with served(tmp_path / "s", load) as connect:
        worker = connect()
        worker.ask("lexical")
        bulk = Question(1, "lexical", ("my card is lost " * 50,) * MOST_TEXTS, patient=True,
                        within_seconds=30.0)  # fmt: skip
        live = Question(2, "lexical", ("my refund",), within_seconds=30.0)
        worker.send(bulk, live)
        first, second = worker.next(), worker.next()
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (2, 1)
    assert len(second.said) == MOST_TEXTS


def test_live_questions_that_wait_together_are_all_answered(
    tmp_path: Path, load: Callable[[str], bytes], students: Students, pairs: list[tuple[str, str]]
) -> None:
    asked = [
        Question(n, ("lexical", "constant")[n % 2], (text,), within_seconds=30.0)
        for n, (text, _) in enumerate(pairs)
    ]
    with served(tmp_path / "s", load) as connect:
        one, other = connect(), connect()
        one.ask("lexical")
        one.ask("constant")
        one.send(*asked)
        other.send(*asked)
        heard = [[worker.next() for _ in asked] for worker in (one, other)]
    for replies in heard:
        said = {reply.number: reply.said for reply in replies if reply is not None}
        for question in asked:
            (wanted,) = students[question.student].predict(question.texts)
            assert said[question.number] == ((wanted.label, wanted.score),)


def test_a_question_that_nobody_waits_for_any_more_is_not_answered(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    with served(tmp_path / "s", load) as connect:
        worker = connect()
        worker.ask("constant")
        late = Question(7, "constant", ("a",), within_seconds=-1.0)
        worker.send(late, Question(8, "constant", ("a",), within_seconds=30.0))
        reply = worker.next()
    assert reply is not None
    assert reply.number == 8


def test_while_a_student_is_loaded_others_answer_and_the_patient_wait(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    go, asked = threading.Event(), threading.Event()

    def slow(digest: str) -> bytes:
        if digest == "lexical":
            asked.set()
            assert go.wait(30)
        return load(digest)

    with served(tmp_path / "s", slow) as connect:
        patient, live = connect(), connect()
        live.ask("constant")
        patient.send(Question(5, "lexical", ("my card",), patient=True, within_seconds=30.0))
        assert asked.wait(30)
        assert live.ask("lexical", "my card", patient=False).refused == "loading"
        assert live.ask("constant", "my card", patient=False).said
        go.set()
        reply = patient.next()
        assert reply is not None
        assert reply.said
        assert live.ask("lexical", "my card", patient=False).said == reply.said


def test_a_student_that_is_not_there_is_missing_and_that_is_said_once(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    said: list[str] = []
    with served(tmp_path / "s", load, said.append) as connect:
        worker = connect()
        assert worker.ask("nobody", "my card").refused == "missing"
        assert worker.ask("nobody", "my card", patient=False).refused == "missing"
        assert worker.ask("constant", "my card").said
    assert said == ["student nobody cannot answer: there is no artefact nobody"]


def test_a_damaged_artefact_and_a_bug_in_the_store_harm_nobody_else(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    def odd(digest: str) -> bytes:
        if digest == "bug":
            raise ZeroDivisionError
        return b"damaged" if digest == "damaged" else load(digest)

    with served(tmp_path / "s", odd) as connect:
        worker = connect()
        assert worker.ask("damaged", "my card").refused == "broken"
        assert worker.ask("bug", "my card").refused == "broken"
        assert worker.ask("constant", "my card").said


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (MOST_BYTES + 1).to_bytes(4, "big"),
        b"\0\0\0\1\xc1",
        b"\0\0\0\0",
        b"\0\0\0\3\x92\x01\x02",
    ],
)
def test_garbage_closes_its_own_line_alone(
    tmp_path: Path, load: Callable[[str], bytes], garbage: bytes
) -> None:
    with served(tmp_path / "s", load) as connect:
        good, bad = connect(), connect()
        bad.end.sendall(garbage)
        assert bad.next() is None
        assert good.ask("constant", "my card").said


def test_a_worker_that_dies_in_the_middle_of_a_frame_harms_nobody(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    with served(tmp_path / "s", load) as connect:
        good, bad = connect(), connect()
        bad.send(Question(1, "constant", ("a",) * MOST_TEXTS, patient=True, within_seconds=30.0))
        bad.end.sendall(framed(Question(2, "constant", ("a",)))[:9])
        bad.end.close()
        assert good.ask("constant", "my card").said


def test_what_is_too_long_or_too_much_is_refused(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    with served(tmp_path / "s", load) as connect:
        worker = connect()
        assert worker.ask("constant", "a" * (MOST_CHARACTERS + 1)).refused == "too_long"
        assert worker.ask("constant", *"a" * (MOST_TEXTS + 1)).refused == "too_long"
        many = "a" * (PIECE_TEXTS + 1)
        assert worker.ask("constant", *many, patient=False).refused == "too_long"


def test_who_asks_too_much_at_once_is_refused_the_rest(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    go = threading.Event()

    def slow(digest: str) -> bytes:
        assert go.wait(30)
        return load(digest)

    asked = [Question(n, "constant", ("a",), False, True, 30.0) for n in range(MOST_BULK + 1)]
    with served(tmp_path / "s", slow) as connect:
        worker = connect()
        worker.send(*asked)
        first = worker.next()
        go.set()
        others = [worker.next() for _ in range(MOST_BULK)]
    assert first == Reply(MOST_BULK, refused="busy")
    assert all(reply is not None and reply.said for reply in others)


def test_the_socket_is_its_owners_alone_and_goes_in_the_end(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    path = tmp_path / "new" / "s"
    with served(path, load) as connect:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert connect().ask("constant", "a").said
    assert list(path.parent.iterdir()) == []


def test_a_socket_that_was_left_behind_is_replaced(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    with served(path, load) as connect:
        assert connect().ask("constant", "a").said


def test_who_ends_late_leaves_the_socket_of_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(path):
        with listening(path) as second:
            assert second.fileno() > 0
            kept = path.stat().st_ino
            path.rename(tmp_path / "kept")
            with socket.socket(socket.AF_UNIX) as third:
                third.bind(str(path))
        assert path.stat().st_ino != kept
    assert path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="a long path is reached by /proc")
def test_a_path_too_long_for_an_address_is_reached_all_the_same(
    tmp_path: Path, load: Callable[[str], bytes]
) -> None:
    with served(tmp_path / ("long" * 40) / "s", load) as connect:
        assert connect().ask("constant", "a").said


def test_a_place_that_cannot_be_listened_on_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match="students cannot be asked at"),
        listening(tmp_path / "file" / "s"),
    ):
        pass


WATCHED = """
import sys
from stillhouse.wiring import answering
from stillhouse.students import asking
print(*sys.modules)
from stillhouse.students.kept import _read
student = _read(open(sys.argv[1], "rb").read())
student.odds(["where is my card"])
print(*sys.modules)
"""


@pytest.mark.parametrize("recipe", ["lexical", "blend"])
def test_nothing_is_loaded_before_a_student_is_asked_and_little_then(
    tmp_path: Path, students: Students, recipe: str
) -> None:
    (tmp_path / "artefact").write_bytes(students[recipe].to_bytes())
    words = [sys.executable, "-c", WATCHED, str(tmp_path / "artefact")]
    before, after = subprocess.run(
        words, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    rooms = [{name.partition(".")[0] for name in line.split()} for line in (before, after)]
    assert not rooms[0] & {"numpy", "scipy", "sklearn", "onnxruntime"}
    assert "numpy" in rooms[1]
    assert not rooms[1] & {"scipy", "sklearn"}
