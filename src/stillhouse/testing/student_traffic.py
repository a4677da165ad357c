"""Booked traffic of one task with students that say what stands in the text: a stage for watches.

A text is `label score label score #number`: what version 1 says, then what version 2 says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stillhouse.core.books import Charge
from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.learning import AnswerShape, Certificate, Prediction, Target, Task
from stillhouse.core.serving import Answered, Charter, Consultation, InputRange, PolicyEvent
from stillhouse.core.traffic import (
    Attempt,
    AttemptKind,
    Completion,
    Exchange,
    Message,
    Request,
    Tags,
    Usage,
)

TASK = "desk"
PROMPT = "Sort the customer's mail."
MODEL = "m-1"
RECOGNISER = b'{"format":1,"variants":[],"known":{},"tagged":{"desk":[]},"openings":[]}'
"""Knows every request that is tagged with the task."""

PROMPT_DIGEST = "9ef820fec2bdee31"
"""What it says of the prompt."""

LEVELS = tuple(0.75 - step * 0.75 / 75 for step in range(76))
"""The thresholds of a gate for scores that are spread evenly over 0 to 1."""

LiveEntry = tuple[Exchange, tuple[tuple[Started, Ended], ...]]


class Asked(NamedTuple):
    """What a caller asks: what both versions will say of it, and what the teacher thinks."""

    number: int
    text: str
    taught: str


def name(number: int) -> str:
    """An exchange's id."""
    return f"{number:032x}"


def ask(
    number: int, score: float, wrong: bool, other: float = 0.5, other_wrong: bool = False
) -> Asked:
    """A request whose versions are so sure, and wrong or not; the teacher always says `yes`."""
    said = ("yes", "no")
    text = f"{said[wrong]} {score:.9f} {said[other_wrong]} {other:.9f} #{number}"
    return Asked(number, text, "yes")


def said_of(text: str, version: int) -> tuple[str, float]:
    """What a version says of a text."""
    words = text.split()
    return words[2 * version - 2], float(words[2 * version - 1])


class Scripted:
    """The students of the stage; `away` are the digests of those that cannot be asked."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.asked: list[tuple[str, int]] = []

    async def ask(
        self, student: str, text: str, deadline_seconds: float, *, odds: bool = False
    ) -> Answered | None:
        """Never asked one by one."""
        raise NotImplementedError

    async def ask_many(self, student: str, texts: Sequence[str]) -> list[Answered] | None:
        """What stands in the texts."""
        self.asked.append((student, len(texts)))
        if student in self.away:
            return None
        return [Answered(Prediction(*said_of(text, int(student[1:])))) for text in texts]


def a_charter(recogniser: str, version: int = 1, **other: Any) -> Charter:
    """The charter of a version; its student is `s1`, `s2`."""
    facts: dict[str, Any] = {
        "task": TASK,
        "version": version,
        "student": f"s{version}",
        "recipe": "lexical",
        "shape": AnswerShape.LABELS,
        "answers": {"yes": "Yes", "no": "No"},
        "levels": LEVELS,
        "planned_rows": 1000,
        "target": Target(),
        "delta": 0.03,
        "recogniser": recogniser,
        "prompts": (PROMPT_DIGEST,),
        "asked_models": (MODEL,),
        "teachers": (MODEL,),
        "inputs": InputRange(100, ("latin",)),
        "since_us": 1000,
    }
    return Charter(**facts | other)


def a_certificate(threshold: float, version: int = 1) -> Certificate:
    """What a version that has served already was promised by."""
    return Certificate(f"s{version}", threshold, 0.05, 0.95, 0.03, version, 900, 500, 3, "", "")


def open_desk(store: Any, *charters: Mapping[str, Any]) -> list[Charter]:
    """Put the task, its recogniser and charters into a store: by their fields, version 1 first."""
    store.save_tasks([Task(TASK, "sig", AnswerShape.LABELS, PROMPT, tagged=True)], [], RECOGNISER)
    made = [
        a_charter(store.recogniser(), version, **fields)
        for version, fields in enumerate(charters, 1)
    ]
    for charter in made:
        store.put_charter(charter)
    return made


def change(store: Any, event: str, version: int = 1, at_us: int = 0, **detail: Any) -> int:
    """A person's change of the task."""
    made = PolicyEvent(TASK, version, event, "as said", "ana", at_us, detail)
    return int(store.add_policy_event(made))


def taught(
    one: Asked,
    note: Consultation | None = None,
    *,
    at_us: int = 0,
    model: str = MODEL,
    prompt: str = PROMPT,
    about: int = -1,
    ok: bool = True,
    tag: str = TASK,
) -> LiveEntry:
    """An exchange that the teacher answered: a caller's, or an audit of the request `about`."""
    kind = AttemptKind.TEACHER
    if about >= 0:
        kind = AttemptKind.SHADOW
        note = (note or a_note(one, "student"))._replace(about=name(about))
    return _entry(one, note, kind, Completion(one.taught), at_us, model, prompt, ok, tag)


def served(one: Asked, note: Consultation, *, at_us: int = 0, tag: str = TASK) -> LiveEntry:
    """An exchange that a student answered."""
    answer = Completion(said_of(one.text, note.version)[0])
    return _entry(one, note, AttemptKind.STUDENT, answer, at_us, "student", PROMPT, True, tag)


def a_note(
    one: Asked, answerer: str, *, coin: bool = True, version: int = 1, **other: Any
) -> Consultation:
    """A version was asked about a request."""
    label, score = said_of(one.text, version)
    note = Consultation(TASK, version, label, score, 0.5, answerer, coin, "certified")
    return note._replace(**other)


def fold(store: Any, entries: Iterable[LiveEntry]) -> None:
    """Book exchanges in this order."""
    every = list(entries)
    for begin in range(0, len(every), 1000):
        store.add_live(every[begin : begin + 1000], {}, run="r", place=(1, begin))


def _request(text: str, prompt: str) -> Request:
    return Request((Message("system", prompt), Message("user", text)))


def _entry(
    one: Asked,
    note: Consultation | None,
    kind: AttemptKind,
    answer: Completion,
    at_us: int,
    model: str,
    prompt: str,
    ok: bool,
    tag: str,
) -> LiveEntry:
    exchange_id, charges = name(one.number), tuple[Charge, ...]()
    attempt = Attempt(exchange_id, model, at_us or 2000 + one.number, "acme", kind, Usage(), ok=ok)
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": one.text}]})
    started = Started(
        exchange_id,
        attempt,
        "chat",
        "acme",
        Tags(task=tag),
        "k1",
        asked=body,
        asked_bytes=len(body),
        consultation=note,
    )
    ended = Ended(exchange_id, attempt, charges, Fate.OK, 200)
    request = _request(one.text, prompt)
    return Exchange(exchange_id, request, answer, (attempt,), Tags(task=tag)), ((started, ended),)
