"""Decision requests read as conversations, so that their tasks are found and distilled as others.

A request with one question is a prompt (the question and its options) and a user's text (the
state); its answer is the likeliest option. One with several questions has a JSON object for an
answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import fsum, inf
from typing import Any

from stillhouse.core.errors import CallerError
from stillhouse.core.serving import Answered
from stillhouse.core.traffic import Completion, Message, Request
from stillhouse.dialects.decisions import Inquiry, Kind, Question, inquiry


def conversation(body: bytes) -> Request:
    """A decision request as a conversation; CallerError where it cannot be understood.

    >>> conversation(b'{"input": "Charged twice.", "questions": [{"type": "choice", "name": "t", '
    ...     b'"instructions": "Which team?", "choices": [{"value": "cards"}, {"value": "loans"}]}]}'
    ... ).messages[0].text
    'Which team?\\n- cards\\n- loans'
    """
    asked = inquiry(body)
    prompt = "\n\n".join(map(_prompt, asked.questions))
    return Request((Message("system", prompt), Message("user", asked.state)))


def _prompt(question: Question) -> str:
    options = [
        f"- {_literal(option)}: {told}" if told else f"- {_literal(option)}"
        for option, told in zip(question.options, question.criteria, strict=True)
    ]
    return "\n".join([question.instructions, *options])


def chosen(asked: bytes, answered: bytes) -> Completion:
    """What was decided: the likeliest option, or an object of them where several were asked for.

    Raises CallerError, ValueError, KeyError or TypeError where the answer is none to the question.
    """
    question = inquiry(asked)
    answers = json.loads(answered)["answers"]
    said = [_answer(one, given) for one, given in zip(*_paired(question, answers), strict=True)]
    if len(said) == 1:
        return Completion(said[0])
    names = [one.name or str(at) for at, one in enumerate(question.questions)]
    return Completion(json.dumps(dict(zip(names, said, strict=True)), ensure_ascii=False))


def _paired(asked: Inquiry, answers: Any) -> tuple[Sequence[Question], Sequence[Any]]:
    if asked.keyed:
        return asked.questions, [answers[one.name or ""] for one in asked.questions]
    return asked.questions, answers


def _answer(question: Question, given: Mapping[str, Any]) -> str:
    if given.get("type") == "refusal":
        raise CallerError("the question was declined")
    if question.kind is Kind.PREDICATE:
        sure = given["noul"] if "noul" in given else given["probability"]
        return _literal(sure >= 0.5)
    if question.kind is Kind.CHOICE:
        return _literal(given["choice"])
    spread = given["probabilities"]
    levels = spread.values() if isinstance(spread, dict) else [one["probability"] for one in spread]
    odds = list(levels)
    return _literal(question.options[odds.index(max(odds))])


def odds_of(question: Question, answers: Mapping[str, str], said: Answered) -> list[float]:
    """A student's odds as those of a question's options; `answers` writes a label as an option.

    CallerError where they would say something else than the student did: where the options are
    not those that it knows, or another one is the likeliest.
    """
    if len(said.labels) != len(said.odds) or not all(p >= 0 for p in said.odds):
        raise CallerError("the student gave no probabilities")
    given: dict[str, float] = {}
    for label, p in zip(said.labels, said.odds, strict=True):
        literal = answers.get(label, label)
        given[literal] = given.get(literal, 0.0) + p
    found = [given.get(_literal(option), 0.0) for option in question.options]
    total = fsum(found)
    likeliest = question.options[found.index(max(found))]
    own = said.prediction.label
    if not 0 < total < inf or _literal(likeliest) != answers.get(own, own):
        raise CallerError("the question's options are not those that the student knows")
    return [p / total for p in found]


def _literal(option: object) -> str:
    """An option as text: `true` for True, as JSON writes it."""
    return option if type(option) is str else json.dumps(option)
