"""A student at work behind the real endpoint, as the vendors' own SDKs see its answers.

The student is fitted and asked over its socket, the policy is read from the books, and a teacher
stands behind the endpoint.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI

from stillhouse.core.calls import Entry, Started
from stillhouse.core.catalogue import Wire
from stillhouse.core.learning import AnswerShape, Certificate, Row, Target, TrainSet
from stillhouse.core.ports import Student
from stillhouse.core.serving import Change, Charter, InputRange, PolicyEvent
from stillhouse.core.traffic import AttemptKind
from stillhouse.distillation.discovery import TaskModels
from stillhouse.distillation.recognition import Recogniser, written
from stillhouse.gateway.keys import make_key
from stillhouse.store.opening import open_store
from stillhouse.students.answering import serve
from stillhouse.students.frames import FILE
from stillhouse.students.lexical import LexicalRecipe
from stillhouse.testing.faulty import FaultyUpstream
from stillhouse.wiring.upstreams import read_request

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

ANSWERS = {"cards": "Cards", "loans": "Loans"}
SORT = "Which team? Answer with its name.\n- Cards\n- Loans"
CARD = "My card was swallowed by the machine"
TURNS: Any = [{"role": "system", "content": SORT}, {"role": "user", "content": CARD}]
QUESTION: Any = {
    "type": "choice",
    "name": "team",
    "instructions": "Which team?",
    "choices": [{"value": "Loans"}, {"value": "Cards"}],
}
KEYED: Any = {
    "model": "m",
    "state": CARD,
    "questions": {
        "team": {
            "type": "choice",
            "instructions": "Which team?",
            "criteria": {"Loans": None, "Cards": None},
        }
    },
}
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {}}},
    }
    for name in ("Cards", "Loans")
]
PROMPTS: Any = [
    (Wire.CHAT, {"messages": TURNS}),
    (Wire.RESPONSES, {"instructions": SORT, "input": CARD}),
    (Wire.MESSAGES, {"system": SORT, "messages": TURNS[1:], "max_tokens": 9}),
    (Wire.DECISIONS, {"input": CARD, "questions": [QUESTION]}),
    (Wire.SYSTEMONE, KEYED),
]


def fitted() -> Student:
    """A student of two labels that tells cards from loans."""
    words = {"cards": "card swallowed machine stolen pin", "loans": "loan rate mortgage lend debt"}
    rows = [
        Row(f"r{n}", f"my {word} {other} was in the bank {n % 7}", label, n, n)
        for n, (label, word, other) in enumerate(
            (label, word, other)
            for label, said in words.items()
            for word in said.split()
            for other in said.split()
            for _ in range(3)
        )
    ]
    labels, recipe = ("cards", "loans"), LexicalRecipe()
    kept, apart = TrainSet(tuple(rows[::2])), TrainSet(tuple(rows[1::2]))
    said = recipe.rehearse(kept, apart, labels, 0, {})
    return recipe.fit(TrainSet(tuple(rows)), labels, 0, said, {})


def charter(task: str, student: str, recogniser: str, known: Recogniser) -> Charter:
    """A charter of all that the tests ask, but of nothing else."""
    prompts = []
    for wire, body in PROMPTS:
        found = known.find(read_request(json.dumps(body).encode(), wire), task)
        assert found is not None
        prompts.append(found.prompt)
    shape = AnswerShape.TOOL if task == "pick" else AnswerShape.LABELS
    return Charter(
        task, 1, student, "lexical", shape, ANSWERS, (0.8,), 100, Target(), 0.05, recogniser,
        tuple(prompts), ("m",), ("m",), InputRange(200, ("latin",), tools=True),
    )  # fmt: skip


def promote(served: Served, task: str, student: bytes) -> Charter:
    """Put a version of a task to work in an endpoint's books."""
    models = TaskModels({}, {}, dict.fromkeys(("desk", "pick", "gone"), ()), ())
    body = written(models)
    with open_store(str(served.folder / "books.db")) as store:
        digest, known = store.put_artefact(student), store.put_artefact(body)
        made = charter(task, digest, known, Recogniser.read(body))
        proven = Certificate(digest, 0.8, 0.05, 0.95, 0.05, 1, 100, 90, 0, "exact", "d")
        store.put_charter(made)
        store.add_verdict(task, 1, proven, 1)
        change(served, task, Change.PROMOTED, threshold=0.8)
    return made


def change(served: Served, task: str, what: Change, **detail: object) -> None:
    """Append an event to the books of an endpoint."""
    with open_store(str(served.folder / "books.db")) as store:
        event = PolicyEvent(task, 1, what.value, "a test", "tester", 2, detail)
        assert store.add_policy_event(event)


@contextmanager
def answering(served: Served, artefact: bytes) -> Iterator[None]:
    """The process of the students, on a thread."""
    digest = blake2b(artefact, digest_size=16).hexdigest()
    stop = threading.Event()
    thread = threading.Thread(
        target=serve,
        args=(
            served.folder / "journal" / FILE,
            {digest: artefact}.__getitem__,
            lambda _: stop.is_set(),
        ),
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something to become true."""
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.05)


def asked(served: Served, body: Any = None, path: str = "chat/completions", **headers: str) -> Any:
    """A plain call: the answer with its headers."""
    fields = {"authorization": f"Bearer {served.token}", "x-stillhouse-task": "desk"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    said = {"model": "m", "messages": TURNS} | (body or {})
    return httpx.post(f"{served.v1}/{path}", json=said, headers=fields, timeout=20)


def answerer(answer: Any) -> str:
    return str(answer.headers.get("x-stillhouse-answered-by", ""))


@pytest.fixture(scope="module")
def upstream(harbour: Harbour) -> FaultyUpstream:
    return harbour.faulty()


QUIET, QUIET_TOKEN = make_key("quiet", 0)
QUIET = replace(QUIET, students=False)


@pytest.fixture(scope="module")
def served(harbour: Harbour, upstream: FaultyUpstream) -> Iterator[Served]:
    wires = ["chat", "responses", "messages", "decisions", "systemone"]
    toml = (
        f'[upstreams.all]\nbase_url = "{upstream.url}/v1"\nallow_private = true\n'
        f'wires = {wires}\nhost = "openai"\n[models.m]\nupstream = "all"\n'
        '[models.other]\nupstream = "all"\n'
        "[students]\nshadow_share = 0.5\ndeadline_ms = 5000\n"
        "[students.tasks.desk]\nbridge = true\n"
    )
    made = harbour.serve(toml, keys=[QUIET])
    artefact = fitted().to_bytes()
    for task in ("desk", "pick", "gone"):
        promote(made, task, artefact)
    with answering(made, artefact):
        until(lambda: answerer(asked(made)) == "student")
        yield made


@pytest.fixture(scope="module")
def openai(served: Served) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=served.v1,
        api_key=served.token,
        max_retries=0,
        timeout=20,
        default_headers={"x-stillhouse-task": "desk"},
    ) as made:
        yield made


@pytest.fixture(scope="module")
def anthropic(served: Served) -> Iterator[Anthropic]:
    with Anthropic(
        base_url=served.url,
        api_key=served.token,
        max_retries=0,
        timeout=20,
        default_headers={"x-stillhouse-task": "desk"},
    ) as made:
        yield made


def is_students(headers: Any) -> bool:
    names = ("x-stillhouse-answered-by", "x-stillhouse-certificate")
    return [headers.get(name) for name in names] == ["student", "desk@v1"]


def test_a_chat_answer_is_one_for_openais_sdk(openai: OpenAI) -> None:
    raw = openai.chat.completions.with_raw_response.create(model="m", messages=TURNS)
    assert is_students(raw.headers)
    said = raw.parse()
    assert said.choices[0].message.content == "Cards"
    assert said.choices[0].finish_reason == "stop"
    assert said.usage is not None
    assert said.usage.completion_tokens == 1
    assert said.model_extra == {"stillhouse": {"answered_by": "student", "certificate": "desk@v1"}}


def test_a_chat_stream_is_one_for_openais_sdk(openai: OpenAI) -> None:
    raw = openai.chat.completions.with_raw_response.create(
        model="m", messages=TURNS, stream=True, stream_options={"include_usage": True}
    )
    assert is_students(raw.headers)
    chunks = list(raw.parse())
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Cards"
    assert chunks[-1].usage is not None
    assert all(c.model_extra and c.model_extra["stillhouse"]["answered_by"] for c in chunks)


def test_a_responses_answer_is_one_for_openais_sdk(openai: OpenAI) -> None:
    raw = openai.responses.with_raw_response.create(model="m", instructions=SORT, input=CARD)
    assert is_students(raw.headers)
    said = raw.parse()
    assert (said.output_text, said.status) == ("Cards", "completed")
    assert said.metadata == {
        "stillhouse_answered_by": "student",
        "stillhouse_certificate": "desk@v1",
    }


def test_a_responses_stream_is_one_for_openais_sdk(openai: OpenAI) -> None:
    with openai.responses.stream(model="m", instructions=SORT, input=CARD) as stream:
        kinds = [event.type for event in stream]
        said = stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert said.output_text == "Cards"
    assert said.metadata is not None
    assert said.metadata["stillhouse_answered_by"] == "student"


def test_a_message_is_one_for_anthropics_sdk(anthropic: Anthropic) -> None:
    raw = anthropic.messages.with_raw_response.create(
        model="m", max_tokens=9, system=SORT, messages=TURNS[1:]
    )
    assert is_students(raw.headers)
    said = raw.parse()
    assert (said.content[0].type, said.stop_reason) == ("text", "end_turn")
    assert getattr(said.content[0], "text", "") == "Cards"
    assert said.model_extra is not None
    assert said.model_extra["stillhouse"]["certificate"] == "desk@v1"


def test_a_message_stream_is_one_for_anthropics_sdk(anthropic: Anthropic) -> None:
    with anthropic.messages.stream(
        model="m", max_tokens=9, system=SORT, messages=TURNS[1:]
    ) as stream:
        assert is_students(stream.response.headers)
        assert "".join(stream.text_stream) == "Cards"
        said = stream.get_final_message()
    assert said.stop_reason == "end_turn"
    assert said.model_extra is not None
    assert said.model_extra["stillhouse"]["answered_by"] == "student"


def test_a_tool_that_a_student_chooses_is_called_in_every_format(
    openai: OpenAI, anthropic: Anthropic
) -> None:
    pick = {"x-stillhouse-task": "pick"}
    chat = openai.chat.completions.create(
        model="m", messages=TURNS, tools=TOOLS, extra_headers=pick
    )
    calls: Any = chat.choices[0].message.tool_calls
    (call,) = calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("Cards", {})
    assert chat.choices[0].finish_reason == "tool_calls"
    flat: Any = [{"type": "function", **one["function"], "strict": None} for one in TOOLS]
    said = openai.responses.create(
        model="m", instructions=SORT, input=CARD, tools=flat, extra_headers=pick
    )
    (item,) = said.output
    assert item.type == "function_call"
    assert (item.name, item.arguments) == ("Cards", "{}")
    offered: Any = [
        {"name": one["function"]["name"], "input_schema": one["function"]["parameters"]}
        for one in TOOLS
    ]
    wanted: Any = {"max_tokens": 9, "system": SORT, "messages": TURNS[1:], "tools": offered}
    with anthropic.messages.stream(model="m", extra_headers=pick, **wanted) as stream:
        streamed = stream.get_final_message()
    whole = anthropic.messages.create(model="m", extra_headers=pick, **wanted)
    messages: list[Any] = [streamed, whole]
    for message in messages:
        (block,) = message.content
        assert block.type == "tool_use"
        assert (block.name, block.input, message.stop_reason) == ("Cards", {}, "tool_use")


def test_a_decision_is_one_for_openais_sdk(openai: OpenAI) -> None:
    raw = openai.decisions.with_raw_response.create(model="m", input=CARD, questions=[QUESTION])
    assert is_students(raw.headers)
    said = raw.parse()
    (given,) = said.answers
    assert given.type == "choice"
    assert (given.choice, given.name) == ("Cards", "team")
    assert [one.value for one in given.probabilities] == ["Loans", "Cards"]
    assert sum(one.probability for one in given.probabilities) == pytest.approx(1.0)
    assert said.model_extra is not None
    assert said.model_extra["stillhouse"]["certificate"] == "desk@v1"


@pytest.mark.parametrize("path", ["systemone", "decisions"])
def test_a_decision_in_system_ones_shape_has_its_members(served: Served, path: str) -> None:
    answer = asked(served, {**KEYED, "messages": []}, path)
    assert is_students(answer.headers)
    given = answer.json()["answers"]["team"]
    assert given["choice"] == "Cards"
    assert list(given["probabilities"]) == ["Loans", "Cards"]
    assert sum(given["probabilities"].values()) == pytest.approx(1.0)
    assert answer.json()["usage"].keys() == {"input_tokens", "output_tokens"}


def started(served: Served, answer: Any) -> Started:
    """What the journal says of the beginning of a request, its first call."""
    exchange = answer.headers["x-stillhouse-exchange"]

    def mine(entry: Entry) -> bool:
        return isinstance(entry, Started) and entry.exchange_id == exchange

    found = [entry for entry in served.entries() if mine(entry)]
    assert len(found) == 1
    assert isinstance(found[0], Started)
    return found[0]


@pytest.mark.parametrize("word", ["never", "Never", "NEVER"])
def test_a_caller_forbids_students_by_a_header(
    served: Served, upstream: FaultyUpstream, word: str
) -> None:
    before = len(upstream.seen)
    answer = asked(served, x_stillhouse_students=word)
    assert (answerer(answer), len(upstream.seen)) == ("teacher", before + 1)
    note = started(served, answer).consultation
    assert note is not None
    assert note.reason == "the caller wants no student"


def test_a_key_forbids_students(served: Served) -> None:
    answer = asked(served, authorization=f"Bearer {QUIET_TOKEN}")
    assert answerer(answer) == "teacher"


def test_no_other_word_forbids_students_nor_goes_upstream(served: Served) -> None:
    assert answerer(asked(served, x_stillhouse_students="always")) == "student"


def test_what_a_student_answers_stands_in_the_journal_without_a_call_upstream(
    served: Served, upstream: FaultyUpstream
) -> None:
    before = len(upstream.seen)
    answer = asked(served)
    begun = started(served, answer)
    (ended,) = served.ended(begun.exchange_id)
    assert begun.consultation is not None
    assert (begun.attempt.kind, begun.consultation.answerer) == (AttemptKind.STUDENT, "student")
    assert (ended.status, ended.answer) == (200, answer.text)
    assert len(upstream.seen) == before


def test_what_the_student_is_not_sure_of_is_the_teachers(served: Served) -> None:
    turns = [TURNS[0], {"role": "user", "content": "good morning to you all"}]
    answer = asked(served, {"messages": turns})
    assert answerer(answer) == "teacher"
    note = started(served, answer).consultation
    assert note is not None
    assert note.reason == "below threshold"
    assert 0 <= note.score < 0.8


@pytest.mark.parametrize("stream", [False, True])
def test_a_student_bridges_an_outage_and_says_so(served: Served, stream: bool) -> None:
    turns = [TURNS[0], {"role": "user", "content": "good morning to you all [fault-503]"}]
    answer = asked(served, {"messages": turns, "stream": stream})
    assert (answer.status_code, answerer(answer)) == (200, "student")
    assert answer.headers["x-stillhouse-uncertified"] == "bridging the teacher's outage"
    assert "x-stillhouse-certificate" not in answer.headers
    calls = served.ended(answer.headers["x-stillhouse-exchange"])
    assert [call.last for call in calls] == [False] * (len(calls) - 1) + [True]
    assert calls[-1].attempt.kind is AttemptKind.STUDENT


def test_a_callers_own_failure_is_not_bridged(served: Served) -> None:
    turns = [TURNS[0], {"role": "user", "content": "good morning to you all [fault-422]"}]
    assert asked(served, {"messages": turns}).status_code == 422


def test_another_model_voids_a_certificate_for_all_requests_that_follow(served: Served) -> None:
    gone = {"x_stillhouse_task": "gone"}
    assert answerer(asked(served, **gone)) == "student"
    voiding = started(served, asked(served, {"model": "other"}, **gone)).consultation
    assert voiding is not None
    assert voiding.voids
    answer = asked(served, **gone)
    assert answerer(answer) == "teacher"
    note = started(served, answer).consultation
    assert note is not None
    assert note.reason == "its certificate is void"
    change(served, "pick", Change.PAUSED)  # a new staff, which knows of it still
    pick = {"x_stillhouse_task": "pick"}
    until(lambda: answerer(asked(served, {"tools": TOOLS}, **pick)) == "")
    assert answerer(asked(served, **gone)) == "teacher"
    change(served, "pick", Change.RESUMED)
    until(lambda: answerer(asked(served, {"tools": TOOLS}, **pick)) == "student")


def test_the_requests_that_came_to_a_students_desk_are_counted(served: Served) -> None:
    admin = {"authorization": f"Bearer {served.tokens['admin']}"}
    text = httpx.get(f"{served.url}/metrics", headers=admin, timeout=20).text
    asked(served)
    later = httpx.get(f"{served.url}/metrics", headers=admin, timeout=20).text

    def accepted(scraped: str) -> float:
        (line,) = [
            one
            for one in scraped.splitlines()
            if one.startswith('stillhouse_student_accepted_total{task="desk"')
        ]
        return float(line.split()[-1])

    assert accepted(later) == accepted(text) + 1
