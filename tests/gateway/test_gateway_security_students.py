"""Students at work: nobody steers, dodges, forges or fills them, and no death fails a request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import blake2b
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stillhouse.core.calls import Started
from stillhouse.core.catalogue import Wire
from stillhouse.core.learning import AnswerShape, Certificate, Row, Target, TrainSet
from stillhouse.core.serving import Change, Charter, Consultation, InputRange, PolicyEvent
from stillhouse.distillation.discovery import TaskModels
from stillhouse.distillation.recognition import Recogniser, written
from stillhouse.distillation.templates import induce, tokens
from stillhouse.flows.consulting import MOST_BYTES
from stillhouse.gateway.keys import make_key
from stillhouse.gateway.student_admin import VERBS
from stillhouse.gateway.student_families import StudentStatus, write_status
from stillhouse.routing.admission import LONGEST_NAME
from stillhouse.store.opening import open_store
from stillhouse.students.answering import serve
from stillhouse.students.constant import ConstantRecipe
from stillhouse.students.frames import FILE
from stillhouse.testing.faulty import FaultyUpstream
from stillhouse.wiring.staff import coin_key
from stillhouse.wiring.upstreams import read_request

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

TASKS = ("desk", "open", "big")
TURNS: Any = [
    {"role": "system", "content": "Which team? Cards or Loans."},
    {"role": "user", "content": "My card was swallowed"},
]
CALLERS = "sk-the-callers-own-key"
QUIET, QUIET_TOKEN = make_key("quiet", 0)
QUIET = replace(QUIET, students=False)
LONG = "long-" + "n" * 400


def artefact() -> bytes:
    """A student that says Cards to everything, and is sure of it."""
    rows = TrainSet(tuple(Row(f"r{n}", f"text {n}", "cards", n, n) for n in range(50)))
    labels, recipe = ("cards", "loans"), ConstantRecipe()
    said = recipe.rehearse(rows, rows, labels, 0, {})
    return recipe.fit(rows, labels, 0, said, {}).to_bytes()


STUDENT = artefact()
DIGEST = blake2b(STUDENT, digest_size=16).hexdigest()


def promote(database: str, tasks: tuple[str, ...]) -> None:
    """Put a student to work in some books."""
    body = written(TaskModels({}, {}, dict.fromkeys(tasks, ()), ()))
    known = Recogniser.read(body)
    with open_store(database) as store:
        digest = store.put_artefact(STUDENT)
        assert digest == DIGEST
        recogniser = store.put_artefact(body)
        for task in tasks:
            asked = json.dumps({"model": "m", "messages": TURNS}).encode()
            found = known.find(read_request(asked, Wire.CHAT), task)
            assert found is not None
            made = Charter(
                task, 1, digest, "constant", AnswerShape.LABELS, {"cards": "Cards"}, (0.8,), 100,
                Target(), 0.05, recogniser, (found.prompt,), ("m", "own"), (),
                InputRange(200, ("latin",)),
            )  # fmt: skip
            store.put_charter(made)
            proven = Certificate(digest, 0.8, 0.05, 0.95, 0.05, 1, 100, 90, 0, "exact", "d")
            store.add_verdict(task, 1, proven, 1)
            event = PolicyEvent(
                task, 1, Change.PROMOTED.value, "a test", "tester", 2, {"threshold": 0.8}
            )
            assert store.add_policy_event(event)


@contextmanager
def answering(folder: Path) -> Iterator[None]:
    """The process of the students, on a thread."""
    stop = threading.Event()
    thread = threading.Thread(
        target=serve,
        args=(folder / "journal" / FILE, {DIGEST: STUDENT}.__getitem__, lambda _: stop.is_set()),
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def until(done: Callable[[], bool], seconds: float = 40.0) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.05)


def ask(served: Served, body: Any = None, **fields: str) -> httpx.Response:
    """A call of the task `desk`, unless a field says otherwise."""
    headers = {"authorization": f"Bearer {served.token}", "x-stillhouse-task": "desk"}
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    said = {"model": "m", "messages": TURNS} | (body or {})
    return httpx.post(f"{served.v1}/chat/completions", json=said, headers=headers, timeout=30)


def by(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.headers.get("x-stillhouse-answered-by", ""))


def note_of(served: Served, answer: httpx.Response) -> Consultation | None:
    exchange = answer.headers["x-stillhouse-exchange"]
    (found,) = (
        one for one in served.entries() if isinstance(one, Started) and one.exchange_id == exchange
    )
    return found.consultation


@pytest.fixture(scope="module")
def served(harbour: Harbour) -> Iterator[Served]:
    upstream: FaultyUpstream = harbour.faulty()
    place = f'base_url = "{upstream.url}/v1"\nallow_private = true\nhost = "openai"\n'
    made = harbour.serve(
        f'[upstreams.all]\n{place}models = ["long-*"]\n'
        f"[upstreams.passing]\n{place}pass_caller_key = true\n"
        '[models.m]\nupstream = "all"\n[models.own]\nupstream = "passing"\n'
        '[models.other]\nupstream = "all"\n'
        "[students]\nshadow_share = 0.5\ndeadline_ms = 5000\n"
        '[students.tasks.desk]\nother_teacher = "defer"\n',
        keys=[QUIET],
    )
    promote(str(made.folder / "books.db"), TASKS)
    with answering(made.folder):
        until(lambda: by(ask(made)) == "student")
        yield made


# Who steers.


def test_nobody_without_an_admin_key_steers_or_looks(served: Served) -> None:
    steering = [("POST", f"/admin/students/desk/{verb}") for verb in VERBS]
    for method, path in (("GET", "/admin/students"), *steering):
        for token, status in (("", 401), (served.token, 403), (QUIET_TOKEN, 403)):
            fields = {"authorization": f"Bearer {token}"} if token else {}
            said = httpx.request(method, served.url + path, headers=fields, json={"why": "x"})
            assert said.status_code == status, (method, path)
    assert by(ask(served)) == "student"


def test_no_page_other_host_or_other_method_steers(served: Served) -> None:
    admin = {"authorization": f"Bearer {served.tokens['admin']}"}
    path = f"{served.url}/admin/students/desk/pause"
    assert httpx.post(path, headers=admin | {"host": "evil.example"}).status_code == 421
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        assert httpx.request(method, path, headers=admin).status_code in (404, 405)
    before = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    asked = httpx.options(path, headers=before)
    assert asked.status_code >= 400
    assert not [name for name in asked.headers if name.startswith("access-control")]
    token = served.tokens["admin"]
    assert httpx.post(f"{path}?key={token}", cookies={"key": token}).status_code == 401
    assert by(ask(served)) == "student"


def test_an_endpoint_that_lets_everybody_in_lets_nobody_steer(harbour: Harbour) -> None:
    place = f'base_url = "{harbour.faulty().url}/v1"\nallow_private = true\n'
    open_house = harbour.serve(f'[upstreams.all]\n{place}models = ["*"]\n', usual_keys=False)
    promote(str(open_house.folder / "books.db"), ("desk",))
    for fields in ({}, {"authorization": "Bearer anything"}):
        path = f"{open_house.url}/admin/students"
        assert httpx.get(path, headers=fields).status_code in (401, 403)
        assert httpx.post(f"{path}/desk/pause", headers=fields).status_code in (401, 403)


def test_no_keys_at_all_are_not_everybody(served: Served) -> None:
    admin = {"authorization": f"Bearer {served.tokens['admin']}"}
    path = f"{served.url}/admin/students/desk/promote"
    assert httpx.post(path, headers=admin, json={"keys": []}).status_code == 400


# Who pays.


def test_who_pays_a_provider_himself_is_answered_by_it_for_no_audit_may_cost_us(
    served: Served,
) -> None:
    keyed = {"x_stillhouse_key": served.token, "authorization": f"Bearer {CALLERS}"}
    assert by(ask(served, {"model": "own"})) == "student", "we pay where no key is sent"
    assert by(ask(served, **keyed)) == "student", "a key that goes nowhere is nobody's"
    own = ask(served, {"model": "own"}, **keyed)
    assert by(own) == "teacher"
    note = note_of(served, own)
    assert note is not None
    assert note.answerer == "teacher"


# What callers cannot choose.


def test_ids_and_verdicts_are_nothing_that_a_caller_can_name(served: Served) -> None:
    chosen = "0" * 32
    forged = {
        "x_stillhouse_exchange": chosen,
        "traceparent": f"00-{chosen[:-1]}1-{'1' * 16}-01",
        "x_request_id": chosen,
        "x_stillhouse_answered_by": "teacher",
        "x_stillhouse_certificate": "forged@v9",
        "x_stillhouse_coin": "0",
    }
    answers = [ask(served, **forged) for _ in range(24)]
    assert {one.headers["x-stillhouse-certificate"] for one in answers} == {"desk@v1"}
    assert len({one.headers["x-stillhouse-exchange"] for one in answers} - {chosen}) == 24
    notes = [note_of(served, one) for one in answers]
    assert {note.coin for note in notes if note is not None} == {True, False}


def test_a_task_of_a_callers_own_naming_is_no_line_of_anything(served: Served) -> None:
    for name in ('desk"} 1', "desk\\n", "x' OR 1=1 --", "../../coin.key"):
        assert by(ask(served, x_stillhouse_task=name)) == ""
    admin = {"authorization": f"Bearer {served.tokens['admin']}"}
    text = httpx.get(f"{served.url}/metrics", headers=admin, timeout=20).text
    tasks = {
        line.split('task="')[1].split('"')[0] for line in text.splitlines() if 'task="' in line
    }
    assert tasks <= {*TASKS}


def test_one_key_takes_no_student_from_others_where_the_terms_say_so(served: Served) -> None:
    for fields in ({}, {"authorization": f"Bearer {QUIET_TOKEN}"}):
        assert by(ask(served, {"model": "other"}, **fields)) == "teacher"
        odd = [{"role": "system", "content": "Another prompt"}, TURNS[1]]
        assert by(ask(served, {"messages": odd}, **fields)) == "teacher"
    assert by(ask(served)) == "student"


def test_what_is_told_of_a_name_that_a_caller_chose_is_short(served: Served) -> None:
    opened = {"x_stillhouse_task": "open"}
    assert by(ask(served, **opened)) == "student"
    note = note_of(served, ask(served, {"model": LONG}, **opened))
    assert note is not None
    assert LONG[:LONGEST_NAME] in note.voids
    assert LONG[: LONGEST_NAME + 1] not in note.voids


# What takes long.


def test_what_no_student_could_have_learnt_is_not_read_for_its_task(served: Served) -> None:
    big = {"x_stillhouse_task": "big"}
    many = [{"role": "user", "content": "hello"}] * (MOST_BYTES // 30)
    for turns in (many, [TURNS[0], {"role": "user", "content": "word 1 " * MOST_BYTES}]):
        answer = ask(served, {"messages": turns}, **big)
        assert by(answer) == ""
        assert note_of(served, answer) is None


LONG_TEXTS = [
    piece * (2_000_000 // len(piece))
    for piece in (" ", "1-", "1", "a", "1 jan ", "jan 1, ", "a1.", "\n", " x", "Until ", "1\t")
]


@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: repr(text[:6]))
def test_no_text_keeps_those_busy_who_look_for_its_task(text: str) -> None:
    asked = [
        f"Item {n}: {c} and\nuntil {n} May 2026 {n} kg of it\nWarm?"
        for n, c in enumerate("abcdefgh")
    ]
    template = induce(asked)
    assert template.pieces != ("", "")
    tokens(text[:200_000])
    for around in (text, f"Item 1: {text}", f"Item 1: x and until 3 {text}", f"{text}\nWarm?"):
        template.slot(around)


# What is kept.


def test_what_students_leave_behind_is_for_its_owner_alone(served: Served, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_status(tmp_path, [StudentStatus("t", 1, "serving")])
        coin_key(tmp_path / "new")
        promote(str(tmp_path / "books.db"), ("desk",))
    finally:
        os.umask(before)
    places = [*tmp_path.rglob("*"), *(served.folder / "journal").iterdir()]
    assert {"students.json", "coin.key", FILE} <= {place.name for place in places}
    for place in places:
        assert place.stat().st_mode & 0o077 == 0, place


def test_the_coins_key_is_one_for_all_and_whole_whoever_makes_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as makers:
        keys = set(makers.map(lambda _: coin_key(tmp_path / "j"), range(64)))
    assert len(keys) == 1
    assert {path.name for path in (tmp_path / "j").iterdir()} == {"coin.key"}


# What dies.


@contextmanager
def running(folder: Path) -> Iterator[tuple[int, int]]:
    """The endpoint as people start it: its process and its port."""
    (folder / "stillhouse.toml").write_text(
        f'[server]\nport = 0\nworkers = 1\n[books]\ndatabase = "{folder}/books.db"\n'
        f'[journal]\nfolder = "{folder}/journal"\n'
        '[upstreams.here]\nkind = "scripted"\n[models.m]\nupstream = "here"\n'
        "[students]\nshadow_share = 0.5\ndeadline_ms = 2000\n",
        "utf-8",
    )
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "stillhouse", "serve"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    assert process.stdout is not None
    with process.stdout:
        try:
            first = process.stdout.readline()
            yield process.pid, int(first.rpartition(":")[2].partition("/")[0])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def beside(pid: int) -> dict[str, int]:
    """The processes beside the workers, by what they run."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        for word in words:
            if word.startswith("stillhouse.wiring.") and not word.endswith(":app"):
                found[word.rpartition(".")[2]] = int(child)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_death_beside_the_workers_fails_a_request(tmp_path: Path) -> None:
    promote(str(tmp_path / "books.db"), ("desk",))
    ended = threading.Event()
    body = json.dumps({"model": "m", "messages": TURNS})

    def calls(port: int) -> list[tuple[int, str]]:
        found = []
        fields = {"content-type": "application/json", "x-stillhouse-task": "desk"}
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as caller:
            while not ended.is_set():
                caller.request("POST", "/v1/chat/completions", body, fields)
                with caller.getresponse() as answer:
                    answer.read()
                    name = answer.headers.get("x-stillhouse-answered-by", "")
                    found.append((answer.status, name))
        return found

    with running(tmp_path) as (pid, port), ThreadPoolExecutor(4) as callers:
        calling = [callers.submit(calls, port) for _ in range(4)]
        try:
            until(lambda: len(beside(pid)) >= 3)
            for name in sorted(beside(pid)) * 2:
                old = beside(pid).get(name, 0)
                if old:
                    os.kill(old, signal.SIGKILL)
                    until(lambda n=name, o=old: beside(pid).get(n, o) != o)  # type: ignore[misc]
            fields = {"x-stillhouse-task": "desk"}
            where = f"http://127.0.0.1:{port}/v1/chat/completions"
            until(lambda: by(httpx.post(where, content=body, headers=fields)) == "student")
        finally:
            ended.set()
        told = [one for call in calling for one in call.result()]
    assert {status for status, _ in told} == {200}
    assert {"student", "teacher"} <= {name for _, name in told}
