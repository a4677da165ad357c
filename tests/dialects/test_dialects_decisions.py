"""Decision requests read, and their answers written, in both formats."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Decision

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import Completion, Usage
from stillhouse.dialects.decisions import (
    Inquiry,
    Kind,
    Question,
    answers,
    confidence,
    inquiry,
    render_answers,
)
from stillhouse.dialects.paths import USAGE_DIALECT
from stillhouse.dialects.render import render_body, usage_body
from stillhouse.dialects.seen import read_body
from stillhouse.ledger.usage import decompose

LISTED = {
    "model": "gpt-6-luna",
    "input": [
        {"role": "system", "content": "Tickets of a bank."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "I was charged twice."},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                {"type": "input_json", "data": {"plan": "pro"}},
            ],
        },
        {"type": "function_call_output", "call_id": "c", "output": "2 charges"},
    ],
    "questions": [
        {"type": "predicate", "name": "refund", "instructions": "The customer wants money back."},
        {
            "type": "choice",
            "instructions": [{"type": "input_text", "text": "Which team?"}],
            "choices": [
                {"value": "billing", "description": "Payments"},
                {"value": True},
                {"value": "True"},
            ],
        },
        {
            "type": "score",
            "name": "anger",
            "instructions": "How angry?",
            "levels": [{"label": "calm"}, {"label": "cross"}, {"label": "furious"}],
        },
    ],
}
KEYED = {
    "model": "jev-latest",
    "state": {"ticket": "I was charged twice."},
    "questions": {
        "refund": {
            "type": "noul",
            "instructions": "Does the customer want money back?",
            "criteria": {"true": "asks for it"},
        },
        "team": {
            "type": "choice",
            "instructions": "Which team?",
            "criteria": {"billing": "Payments", "other": None},
        },
        "anger": {"type": "score", "instructions": "How angry?", "criteria": ["calm", "cross"]},
    },
}


def read(said: Any) -> Inquiry:
    return inquiry(json.dumps(said).encode())


def test_openais_format_is_read() -> None:
    asked = read(LISTED)
    assert asked.state == 'Tickets of a bank.\nI was charged twice.\n{"plan": "pro"}\n2 charges'
    assert not asked.keyed
    assert asked.questions == (
        Question(
            "refund", Kind.PREDICATE, "The customer wants money back.", (True, False), ("", "")
        ),
        Question(None, Kind.CHOICE, "Which team?", ("billing", True, "True"), ("Payments", "", "")),
        Question("anger", Kind.SCORE, "How angry?", ("calm", "cross", "furious"), ("", "", "")),
    )


def test_system_one_is_read() -> None:
    asked = read(KEYED)
    assert asked.state == '{"ticket": "I was charged twice."}'
    assert asked.keyed
    assert asked.questions == (
        Question(
            "refund",
            Kind.PREDICATE,
            "Does the customer want money back?",
            (True, False),
            ("asks for it", ""),
        ),
        Question("team", Kind.CHOICE, "Which team?", ("billing", "other"), ("Payments", "")),
        Question("anger", Kind.SCORE, "How angry?", ("calm", "cross"), ("", "")),
    )


def test_answers_suit_the_openai_sdk() -> None:
    odds = [(0.9, 0.1), (0.2, 0.7, 0.1), (0.0, 0.25, 0.75)]
    usage = usage_body(Wire.DECISIONS, Usage(input_tokens=40, cache_read_tokens=10))
    body = render_answers(read(LISTED), odds, model="gpt-6-luna", usage=usage)
    said = Decision.model_validate_json(body)
    first, second, third = said.answers
    assert (first.type, first.name) == ("predicate", "refund")
    assert second.type == "choice"
    assert second.choice is True
    assert [type(p.value) for p in second.probabilities] == [str, bool, str]
    assert third.type == "score"
    assert third.score == 1.75
    assert [(p.value, p.label) for p in third.probabilities] == [
        (0, "calm"),
        (1, "cross"),
        (2, "furious"),
    ]
    seen = read_body(body, Wire.DECISIONS)
    assert seen.usage_body is not None
    assert decompose(seen.usage_body, USAGE_DIALECT[Wire.DECISIONS]).cache_read_tokens == 10


def test_answers_of_system_one_stand_under_their_questions() -> None:
    odds = [(0.998, 0.002), (0.75, 0.25), (0.5, 0.5)]
    usage = usage_body(Wire.SYSTEMONE, Usage(input_tokens=45))
    body = render_answers(read(KEYED), odds, model="jev-1.13.0", usage=usage)
    assert json.loads(body) == {
        "model": "jev-1.13.0",
        "answers": {
            "refund": {"type": "noul", "noul": 0.998},
            "team": {
                "type": "choice",
                "choice": "billing",
                "probabilities": {"billing": 0.75, "other": 0.25},
                "confidence": 0.5,
            },
            "anger": {
                "type": "score",
                "score": 0.5,
                "probabilities": {"0": 0.5, "1": 0.5},
                "legend": {"0": "calm", "1": "cross"},
                "confidence": 0.0,
            },
        },
        "usage": {"input_tokens": 45, "output_tokens": 0},
    }
    seen = read_body(body, Wire.SYSTEMONE)
    assert seen.usage_body is not None
    assert decompose(seen.usage_body, USAGE_DIALECT[Wire.SYSTEMONE]).input_tokens == 45


def test_a_question_that_is_declined_is_a_refusal_or_left_out() -> None:
    refused: Any = answers(read(LISTED), [None, None, None])
    assert refused[0] == {"type": "refusal", "name": "refund"}
    assert list(answers(read(KEYED), [None, (0.5, 0.5), None])) == ["team"]


def test_recorded_answers_are_given_again() -> None:
    body = render_answers(read(KEYED), [(1.0, 0.0), None, None], model="m", usage=None)
    recorded = Completion(json.dumps(json.loads(body)["answers"]))
    again = render_body(Wire.SYSTEMONE, recorded, answer_id="", model="m", usage=None, created_s=0)
    assert again == body


@pytest.mark.parametrize(
    "odds", [[(0.5, 0.5, 0.0)] * 3, [(0.9, 0.2)] * 3, [(1.1, -0.1)] * 3, [(0.5, 0.5)]]
)
def test_odds_that_are_no_distribution_are_the_adapters_fault(odds: Any) -> None:
    with pytest.raises(ValueError, match=r"options|shorter"):
        answers(read(KEYED), odds)


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=9))
def test_confidence_lies_between_chance_and_certainty(weights: list[float]) -> None:
    total = sum(weights)
    odds = [weight / total for weight in weights]
    assert 0 <= confidence(odds) <= 1
    assert confidence([1.0, *[0.0] * len(odds)]) == 1


def _with(question: Any) -> dict[str, Any]:
    return {"model": "m", "input": "x", "questions": [question]}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"model": "m", "input": "x"}, "asks no questions"),
        ({"model": "m", "input": "x", "questions": []}, "asks no questions"),
        (_with(1), "question 1 is no object"),
        (_with({"type": "box"}), "type 'box'; use one of predicate, choice, score"),
        (_with({"type": "choice"}), "no choices"),
        (_with({"type": "choice", "choices": ["a"]}), "no choices"),
        (_with({"type": "choice", "choices": [{"value": "a"}]}), "1 options"),
        (_with({"type": "choice", "choices": [{"value": "a"}] * 2}), "twice"),
        (_with({"type": "score", "levels": [{"label": "a"}]}), "1 options"),
        ({"questions": {"q": {"type": "predicate"}}}, "use one of noul, choice, score"),
        ({"questions": {"q": {"type": "choice", "criteria": ["a", "b"]}}}, "map of criteria"),
        ({"questions": {"q": {"type": "score", "criteria": {}}}}, "list of criteria"),
    ],
)
def test_a_question_that_cannot_be_understood_is_named(said: Any, sentence: str) -> None:
    with pytest.raises(CallerError, match=sentence):
        read(said)
