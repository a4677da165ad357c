"""A request reaches a student only if its certificate speaks of such requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.learning import AnswerShape, Policy, Target
from stillhouse.core.serving import Charter, InputRange, Mode, Serving, Standing
from stillhouse.routing.admission import Candidate, admit
from stillhouse.routing.lifecycle import in_canary

CHARTER = Charter(
    "desk", 2, "digest", "lexical", AnswerShape.LABELS, {"refund": "Refund"}, (0.9, 0.8), 500,
    Target(), 0.01, "recogniser", ("p1", "p2"), ("support", "gpt"), ("gpt",),
    InputRange(40, ("latin",)),
)  # fmt: skip
SERVING = Serving(CHARTER, Standing("desk", 2, Mode.SERVING, 0.8))
ASKED = Candidate("e1", "support", "key-a", False, "p1", "Where is it?", False, False)
KEY = b"canary"
POLICY = Policy("desk", "digest", 0.8, 2)


def standing(**facts: Any) -> Serving:
    return replace(SERVING, standing=replace(SERVING.standing, **facts))


def test_a_request_like_those_learnt_from_gets_the_policy() -> None:
    assert admit(SERVING, ASKED, KEY) == (POLICY, "", "")


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.SERVING])
def test_a_version_that_does_not_serve_is_not_asked(mode: Mode) -> None:
    assert admit(standing(mode=mode), ASKED, KEY) == (None, f"the version is {mode.value}", "")


def test_a_version_without_a_threshold_is_not_asked() -> None:
    assert admit(standing(threshold=None), ASKED, KEY)[0] is None


def test_another_model_voids_and_names_both() -> None:
    policy, reason, voids = admit(SERVING, ASKED._replace(model="o9"), KEY)
    assert (policy, reason) == (None, "another model was asked for")
    assert voids == "asked of o9, and the certificate speaks of support, gpt"


def test_another_prompt_voids() -> None:
    policy, reason, voids = admit(SERVING, ASKED._replace(prompt="p9"), KEY)
    assert (policy, reason) == (None, "another prompt")
    assert voids == "the prompt is another one (p9), and the certificate speaks of p1, p2"


@pytest.mark.parametrize(
    "facts", [{"text": "x" * 41}, {"text": "Где?"}, {"images": True}, {"tools": True}]
)
def test_an_input_unlike_those_learnt_from_is_the_teachers_and_voids_nothing(
    facts: dict[str, Any],
) -> None:
    policy, reason, voids = admit(SERVING, ASKED._replace(**facts), KEY)
    assert (policy, voids) == (None, "")
    assert reason


@pytest.mark.parametrize("shown", [{"model": "o9"}, {"prompt": "p9"}])
def test_a_caller_that_wants_no_student_or_is_in_no_canary_voids_nothing(
    shown: dict[str, Any],
) -> None:
    other = ASKED._replace(**shown)
    assert admit(SERVING, other._replace(forbidden=True), KEY) == (
        None, "the caller wants no student", "",
    )  # fmt: skip
    assert admit(standing(keys=("key-b",)), other, KEY) == (None, "not in the canary", "")
    assert admit(standing(mode=Mode.PAUSED), other, KEY)[2] == ""


def test_a_canary_by_key_serves_those_keys_alone() -> None:
    canary = standing(keys=("key-a", "key-c"), share=0.001)
    assert admit(canary, ASKED, KEY)[0] == POLICY
    assert admit(canary, ASKED._replace(key_id="key-b"), KEY)[0] is None


@given(st.text(max_size=40), st.floats(0.01, 1))
def test_a_canary_by_share_serves_whom_the_draw_picks(exchange_id: str, share: float) -> None:
    exchange_id = exchange_id.encode("utf-8", "ignore").decode()
    policy, _, _ = admit(standing(share=share), ASKED._replace(exchange_id=exchange_id), KEY)
    assert (policy is not None) == in_canary(exchange_id, KEY, share)
