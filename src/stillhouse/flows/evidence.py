"""What booked exchanges say of a version: which of them are evidence, and which void it.

A row is evidence only where nothing but chance, or nothing at all, chose it: the student's own
certainty must have no say in which of its answers are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stillhouse.core.learning import AnswerShape
from stillhouse.core.serving import (
    Change,
    Charter,
    Consultation,
    Evidence,
    PolicyEvent,
    Standing,
    Terms,
    Watched,
)
from stillhouse.core.traffic import AttemptKind, Exchange
from stillhouse.distillation.answers import normalise_label, read_answer
from stillhouse.distillation.recognition import Found, Recogniser
from stillhouse.flows.judging import other_teacher
from stillhouse.routing import lifecycle
from stillhouse.routing.admission import OTHER_MODEL, OTHER_PROMPT
from stillhouse.routing.contract import in_range

MOST_CHARACTERS = 100_000
"""Longer texts cannot be put to a student (students.frames)."""

_NOT_THE_TEACHER = (AttemptKind.STUDENT, AttemptKind.CACHE, AttemptKind.FALLBACK)
"""A fallback to another model is an outage, and no change of the teacher."""

_STILL_SERVING = (Change.PROMOTED, Change.RAISED, Change.RESUMED)
_PAUSES = (Change.PAUSED,)
_FOR_EVER_US = 2**63 - 1
_IMAGE = "[image"

Version = tuple[str, int]
Span = tuple[int, int]
Said = tuple[str, float]


class Posted(NamedTuple):
    """A version that gathers evidence: its charter and how it stands."""

    charter: Charter
    standing: Standing
    terms: Terms

    @property
    def version(self) -> Version:
        """Task and number."""
        return self.charter.task, self.charter.version


class History(NamedTuple):
    """A task's events as they were read, when it was served, and its versions that gather."""

    events: tuple[PolicyEvent, ...]
    served: tuple[Span, ...]
    posted: tuple[Posted, ...]

    @property
    def number(self) -> int:
        """The newest event: what a change is decided on."""
        return self.events[-1].number if self.events else 0


class Seen(NamedTuple):
    """An exchange, where it belongs by each recogniser, and the model that answered as teacher.

    `asked_us` is when the caller asked, also where the exchange is an audit of that. `teacher` is
    empty where no teacher answered.
    """

    row: Watched
    found: Mapping[str, Found]
    teacher: str
    asked_us: int

    @property
    def exchange_id(self) -> str:
        """Its id."""
        return self.row.exchange.exchange_id


def see(row: Watched, recognisers: Mapping[str, Recogniser]) -> Seen:
    """Look at an exchange."""
    exchange, found = row.exchange, {}
    if exchange.request.messages:
        for digest, recogniser in recognisers.items():
            hit = recogniser.find(exchange.request, exchange.tags.task)
            if hit is not None:
                found[digest] = hit
    return Seen(row, found, teacher_of(exchange), row.about_us or exchange.at_us or 0)


def teacher_of(exchange: Exchange) -> str:
    """The model that answered as teacher; empty where a student, a cache or nobody did."""
    for attempt in reversed(exchange.attempts):
        if attempt.ok:
            return "" if attempt.kind in _NOT_THE_TEACHER else attempt.model
    return ""


def served_spans(events: Sequence[PolicyEvent]) -> tuple[Span, ...]:
    """When a student of the task answered: from an instant on, until another.

    >>> said = PolicyEvent("desk", 1, "promoted", "w", "ana", 5, {"threshold": 0.8})
    >>> served_spans([said, said._replace(event="paused", at_us=9)])
    ((5, 9),)
    """
    spans: list[Span] = []
    began: int | None = None
    for last, event in enumerate(events, 1):
        serving = lifecycle.serving(events[:last]) is not None
        if serving and began is None:
            began = event.at_us
        elif not serving and began is not None:
            spans.append((began, event.at_us))
            began = None
    return tuple(spans) if began is None else (*spans, (began, _FOR_EVER_US))


def serving_since(events: Sequence[PolicyEvent], version: int) -> int:
    """From when on a version's answers are watched anew: its promotion, or the last raise since.

    A pause is none, nor is a threshold that the watch itself widens: what was seen still counts.
    """
    since_us, serving = 0, False
    for event in events:
        wider = serving and event.who == lifecycle.MONITOR
        if event.version != version:
            serving = serving and event.event != Change.PROMOTED
        elif event.event == Change.RAISED or (event.event == Change.PROMOTED and not wider):
            since_us = event.at_us
        if event.version == version:
            serving = event.event in _STILL_SERVING or (serving and event.event in _PAUSES)
    return since_us


def audits(one: Seen, served: Sequence[Span]) -> str:
    """The exchange that a row is evidence of; empty where it may be evidence of nothing.

    Where no student had a part the teacher answered everything, so nothing was chosen. Where one
    had, only the coin may choose; a row that passed a serving student by is like no other.
    """
    note = one.row.consultation
    if not one.teacher:
        return ""
    if note is None:
        passed_by = any(began <= one.asked_us < ended for began, ended in served)
        return "" if passed_by else one.exchange_id
    if note.about:
        return note.about
    return one.exchange_id if note.coin else ""


def found_by(charter: Charter, one: Seen) -> Found | None:
    """Where a charter's own recogniser puts a row; None where that is another task."""
    found = one.found.get(charter.recogniser)
    return found if found is not None and found.task == charter.task else None


def another(charter: Charter, one: Seen) -> str:
    """Why a row shows another teacher than a charter speaks of; empty where it does not."""
    found, note = found_by(charter, one), one.row.consultation
    if one.asked_us < charter.since_us:
        return ""
    if note is not None and note.voids and is_of(note, charter):
        return note.voids
    if found is None:
        return ""
    if why := other_teacher(charter, one.teacher):
        return why
    if charter.prompts and found.prompt not in charter.prompts:
        return f"the prompt has changed (digest {found.prompt})"
    return ""


def voiding(posted: Posted, one: Seen) -> str:
    """Why a row voids a version; empty where it does not.

    Where the terms leave other teachers' requests be, only another model behind the same request
    does: what a caller asks for is then the caller's affair.
    """
    if posted.terms.other_teacher != "defer":
        return another(posted.charter, one)
    note = one.row.consultation
    if note is None or note.reason in (OTHER_MODEL, OTHER_PROMPT):
        return ""
    known = found_by(posted.charter, one) is not None and one.asked_us >= posted.charter.since_us
    return other_teacher(posted.charter, one.teacher) if known else ""


def judgeable(charter: Charter, one: Seen) -> str:
    """The text of a row that is of the traffic a certificate speaks of; empty for all others."""
    found = found_by(charter, one)
    if found is None or one.asked_us < charter.since_us or another(charter, one):
        return ""
    request = one.row.exchange.request
    images = any(_IMAGE in message.text for message in request.messages)
    if in_range(charter.inputs, found.text, images, bool(request.tools)):
        return ""
    return found.text if _can_be_put(found.text) else ""


def _can_be_put(text: str) -> bool:
    """Whether a text can be put to a student at all: half a surrogate pair is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return len(text) <= MOST_CHARACTERS


def taught_as(shape: AnswerShape, exchange: Exchange) -> str:
    """The teacher's answer as it is compared.

    Where tools are chosen, words, and tools with arguments, are like nothing that a student says.
    """
    said = exchange.completion
    bare = said.tool and "".join(said.tool_arguments.split()) in ("", "{}", "null")
    if shape is AnswerShape.TOOL and not bare:
        return f"no bare tool: {exchange.exchange_id}"
    return normalise_label(read_answer(said).value)


def said_already(charter: Charter, one: Seen) -> Said | None:
    """What the version itself said when the request came, if it was asked then."""
    note = one.row.consultation
    if note is None or not is_of(note, charter) or not note.label:
        return None
    return note.label, note.score


def is_of(note: Consultation, charter: Charter) -> bool:
    """Whether a version was asked, and not another one."""
    return (note.task, note.version) == (charter.task, charter.version)


def evidence_of(charter: Charter, one: Seen, about: str, said: Said) -> Evidence:
    """A row of evidence: what the version said, beside what the teacher said."""
    note = one.row.consultation
    label, score = said
    return Evidence(
        exchange_id=about,
        at_us=one.asked_us,
        score=score,
        label=label,
        taught=taught_as(charter.shape, one.row.exchange),
        served=note is not None and bool(note.about) and is_of(note, charter),
    )


def asked_live(charter: Charter, seen: Sequence[Seen]) -> list[tuple[int, str, str, float]]:
    """The callers' own requests that a version was asked about: when, ids, texts and scores."""
    found = []
    for one in seen:
        note, hit = one.row.consultation, found_by(charter, one)
        if note is None or hit is None or not is_of(note, charter):
            continue
        if note.label and not note.about:
            found.append((one.asked_us, one.exchange_id, hit.text, note.score))
    return found
