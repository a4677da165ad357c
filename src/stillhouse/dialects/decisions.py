"""Decision requests: a state, typed questions about it, and a calibrated probability per option.

Two formats ask the same three things. OpenAI's Decisions API (`POST /v1/decisions`, public beta of
October 2026; types in the openai SDK, `types/decision.py` and `types/decision_create_params.py`)
has `input` and a list of `predicate`, `choice` and `score` questions. TypeSafe's System One
(`POST /v1/systemone`, docs.typesafe.ai/api; also docs.fireworks.ai/api-reference/post-systemone,
docs.bespokelabs.ai/nimble/questions, docs.litellm.ai/docs/decisions) has `state` and a map of
`noul`, `choice` and `score` questions; its `noul` is OpenAI's `predicate`.

Where the sources disagree:

- OpenRouter and Gumloop serve System One's shape under `/v1/decisions`. So the shape of `questions`
  says which format it is, a list or a map, and the path does not.
- A score's levels count from 0 in System One. OpenAI's types call the number `value` and do not say
  where it starts; Fireworks, which serves both, documents the index, and so it is from 0 here.
- `confidence` is 1 where one option has all probability and 0 where all are equal, in every
  source, and nobody's chance of being right. Which curve lies between they leave open, or use
  entropy (Laya). Here it is (max - 1/k) / (1 - 1/k), what reimplementations found Jev to return for
  a choice. A yes/no answer has none: its probability says it all.
- A question that a model declines is a `refusal` at OpenAI, and left out of a System One answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import fsum, isclose
from typing import Any, NamedTuple

import msgspec

from stillhouse.core.errors import CallerError
from stillhouse.dialects.peek import read_object


class Kind(StrEnum):
    """What a question asks for, by OpenAI's names."""

    PREDICATE = "predicate"
    CHOICE = "choice"
    SCORE = "score"


class Question(NamedTuple):
    """One question: `options` are the values of a choice or the levels of a score, lowest first.

    A choice's value may be a boolean, which differs from the string of the same text. A predicate
    has the options True and False. `criteria` says of each option what it means, empty where nobody
    did. `name` is None where the question has none.
    """

    name: str | None
    kind: Kind
    instructions: str
    options: tuple[str | bool, ...]
    criteria: tuple[str, ...]


class Inquiry(NamedTuple):
    """A state and the questions about it; `keyed`: in System One's shape."""

    state: str
    questions: tuple[Question, ...]
    keyed: bool


Odds = Sequence[float] | None
"""The probability of each option of a question in order; None where the model declines it."""


def inquiry(body: bytes) -> Inquiry:
    """Read a decision request of either format.

    Structured states and instructions become JSON text, and pictures are left out. Raises
    CallerError where the questions cannot be understood.

    >>> asked = inquiry(b'{"state": "I was charged twice.", "questions": {"refund": '
    ...                 b'{"type": "noul", "instructions": "Does the customer want money back?"}}}')
    >>> asked.questions[0].kind.value, asked.questions[0].options, asked.keyed
    ('predicate', (True, False), True)
    """
    said = read_object(body)
    questions = said.get("questions")
    if type(questions) is dict and questions:
        asked = [_keyed_question(name, one) for name, one in questions.items()]
        return Inquiry(_text(said.get("state")), tuple(asked), keyed=True)
    if type(questions) is list and questions:
        asked = [_listed_question(at, one) for at, one in enumerate(questions)]
        return Inquiry(_input_text(said.get("input")), tuple(asked), keyed=False)
    raise CallerError("the request asks no questions; send `questions` as a list or as a map")


def _keyed_question(name: str, said: object) -> Question:
    where = f"question {name!r}"
    kind, said = _kind_of(
        where, said, {"noul": Kind.PREDICATE, "choice": Kind.CHOICE, "score": Kind.SCORE}
    )
    criteria = said.get("criteria")
    told: list[str]
    options: list[str | bool]
    if kind is Kind.PREDICATE:
        meant = criteria if type(criteria) is dict else {}
        options, told = [True, False], [_text(meant.get("true")), _text(meant.get("false"))]
    elif kind is Kind.CHOICE:
        options, told = _pairs(where, criteria)
    elif type(criteria) is list:
        options, told = [_text(level) for level in criteria], [""] * len(criteria)
    else:
        raise CallerError(f"{where} has no list of criteria; name its levels, lowest first")
    return _checked(
        where, Question(name, kind, _text(said.get("instructions")), tuple(options), tuple(told))
    )


def _pairs(where: str, criteria: object) -> tuple[list[str | bool], list[str]]:
    if type(criteria) is not dict:
        raise CallerError(f"{where} has no map of criteria; name each option and what it means")
    return list(criteria), [_text(told) for told in criteria.values()]


def _listed_question(at: int, said: object) -> Question:
    where = f"question {at + 1}"
    kind, said = _kind_of(where, said, {kind.value: kind for kind in Kind})
    name = said.get("name")
    options: list[str | bool] = [True, False]
    told = ["", ""]
    if kind is not Kind.PREDICATE:
        member, value = ("choices", "value") if kind is Kind.CHOICE else ("levels", "label")
        given = said.get(member)
        if type(given) is not list or not all(
            type(one) is dict and type(one.get(value)) in (str, bool) for one in given
        ):
            raise CallerError(f"{where} has no {member}; send a list of objects with a `{value}`")
        options = [one[value] for one in given]
        told = [_text(one.get("description")) for one in given]
    asked = _input_text(said.get("instructions"))
    return _checked(
        where,
        Question(name if type(name) is str else None, kind, asked, tuple(options), tuple(told)),
    )


def _kind_of(where: str, said: object, kinds: Mapping[str, Kind]) -> tuple[Kind, dict[str, Any]]:
    if type(said) is not dict:
        raise CallerError(f"{where} is no object; send its type and instructions")
    kind = kinds.get(str(said.get("type")))
    if kind is None:
        raise CallerError(
            f"{where} has the type {said.get('type')!r}; use one of {', '.join(kinds)}"
        )
    return kind, said


def _checked(where: str, question: Question) -> Question:
    if len(question.options) < 2:
        raise CallerError(f"{where} has {len(question.options)} options; give it two or more")
    typed = {(type(option), option) for option in question.options}
    if question.kind is Kind.CHOICE and len(typed) < len(question.options):
        raise CallerError(f"{where} has an option twice; each must be unique")
    return question


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if type(value) is str else json.dumps(value, ensure_ascii=False)


def _input_text(value: object) -> str:
    """The text of an OpenAI `input` or `instructions`: a string, parts, or turns of parts."""
    if type(value) is not list:
        return _text(value)
    found = []
    for item in value:
        if type(item) is not dict:
            continue
        for name in ("content", "text", "refusal", "data", "arguments", "output", "input"):
            if item.get(name) is not None:
                inner = item[name]
                text = (
                    _input_text(inner) if type(inner) is list and name != "data" else _text(inner)
                )
                found.append(text)
    return "\n".join(found)


def confidence(odds: Sequence[float]) -> float:
    """How far the top probability stands above chance: 1 for certain, 0 for all alike.

    >>> confidence([0.5, 0.5]), confidence([1.0, 0.0, 0.0]), round(confidence([0.88, 0.12, 0.0]), 2)
    (0.0, 1.0, 0.82)
    """
    chance = 1 / len(odds)
    return min(1.0, max(0.0, (max(odds) - chance) / (1 - chance)))


def answers(asked: Inquiry, odds: Sequence[Odds]) -> list[Any] | dict[str, Any]:
    """Answer each question by its probabilities, in the shape of the request.

    A predicate's odds are (true, false). Raises ValueError where they are no distribution over the
    question's options: that is a fault of the model's adapter, not of the caller.

    >>> asked = inquiry(b'{"input": "Hi", "questions": [{"type": "predicate", "name": "polite", '
    ...                 b'"instructions": "It is polite."}]}')
    >>> answers(asked, [(0.75, 0.25)])
    [{'type': 'predicate', 'name': 'polite', 'probability': 0.75}]
    """
    pairs = list(zip(asked.questions, odds, strict=True))
    for question, given in pairs:
        _check_odds(question, given)
    if asked.keyed:
        return {q.name or "": _keyed_answer(q, p) for q, p in pairs if p is not None}
    return [_listed_answer(question, given) for question, given in pairs]


def _check_odds(question: Question, odds: Odds) -> None:
    if odds is None:
        return
    total = fsum(odds)
    if len(odds) != len(question.options) or not isclose(total, 1.0, abs_tol=1e-3) or min(odds) < 0:
        raise ValueError(
            f"question {question.name!r} has {len(question.options)} options, and probabilities "
            f"{list(odds)} that sum to {total}"
        )


def _keyed_answer(question: Question, odds: Sequence[float]) -> dict[str, Any]:
    if question.kind is Kind.PREDICATE:
        return {"type": "noul", "noul": odds[0]}
    if question.kind is Kind.CHOICE:
        return {
            "type": "choice",
            "choice": _likeliest(question, odds),
            "probabilities": dict(zip(map(str, question.options), odds, strict=True)),
            "confidence": confidence(odds),
        }
    return {
        "type": "score",
        "score": _expected(odds),
        "probabilities": {str(level): p for level, p in enumerate(odds)},
        "legend": {str(level): told for level, told in enumerate(question.options)},
        "confidence": confidence(odds),
    }


def _listed_answer(question: Question, odds: Odds) -> dict[str, Any]:
    if odds is None:
        return {"type": "refusal", "name": question.name}
    head: dict[str, Any] = {"type": question.kind.value, "name": question.name}
    if question.kind is Kind.PREDICATE:
        return {**head, "probability": odds[0]}
    if question.kind is Kind.CHOICE:
        chosen: dict[str, Any] = {"choice": _likeliest(question, odds)}
        spread: list[dict[str, Any]] = [
            {"value": option, "probability": p}
            for option, p in zip(question.options, odds, strict=True)
        ]
    else:
        chosen = {"score": _expected(odds)}
        spread = [
            {"value": level, "label": label, "probability": p}
            for level, (label, p) in enumerate(zip(question.options, odds, strict=True))
        ]
    return {**head, **chosen, "probabilities": spread, "confidence": confidence(odds)}


def _likeliest(question: Question, odds: Sequence[float]) -> str | bool:
    return question.options[max(range(len(odds)), key=odds.__getitem__)]


def _expected(odds: Sequence[float]) -> float:
    return fsum(level * p for level, p in enumerate(odds))


def render_answers(
    asked: Inquiry,
    odds: Sequence[Odds],
    *,
    model: str,
    usage: Mapping[str, Any] | None,
    note: Mapping[str, str] | None = None,
) -> bytes:
    """Write the whole answer to a decision request; `usage` is the usage object in its format.

    A `note` on who answered stands under `stillhouse`.
    """
    body: dict[str, Any] = {"model": model, "answers": answers(asked, odds)}
    if usage is not None:
        body["usage"] = usage
    if note is not None:
        body["stillhouse"] = note
    return msgspec.json.encode(body)
