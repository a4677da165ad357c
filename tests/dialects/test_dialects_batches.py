from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import Wire
from stillhouse.dialects.batches import Lines, read_result, with_results_here

USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


def line(body: object, status: int = 200, **more: Any) -> bytes:
    response = {"status_code": status, "request_id": "r", "body": body}
    said = {"id": "batch_req_1", "custom_id": "a", "response": response, "error": None, **more}
    return json.dumps(said).encode() + b"\n"


def ending(**result: Any) -> bytes:
    return json.dumps({"custom_id": "a", "result": result}).encode()


@pytest.mark.parametrize(
    ("body", "wire", "at_s"),
    [
        ({"object": "chat.completion", "created": 7, "usage": USAGE}, Wire.CHAT, 7),
        ({"object": "response", "created_at": 8, "usage": {"input_tokens": 1}}, Wire.RESPONSES, 8),
        ({"object": "list", "usage": {"prompt_tokens": 5, "total_tokens": 5}}, Wire.EMBEDDINGS, 0),
        ({"object": "text_completion", "created": 1.5, "usage": USAGE}, Wire.CHAT, 0),
        ({"created": True, "usage": {"input_tokens": 3, "output_tokens": 1}}, Wire.RESPONSES, 0),
        ({"object": "response", "usage": None}, Wire.RESPONSES, 0),
        ("no object", Wire.CHAT, 0),
    ],
)
def test_an_answer_counts_by_the_rules_of_its_own_kind(body: object, wire: Wire, at_s: int) -> None:
    result = read_result(line(body))
    assert result is not None
    assert (result.wire, result.at_s, result.own_id, result.ok) == (wire, at_s, "batch_req_1", True)
    usage = body.get("usage") if isinstance(body, dict) else None
    assert result.seen.usage_body == usage


@pytest.mark.parametrize(
    ("said", "fate", "status", "error"),
    [
        (line({"error": {"message": "No."}}, 400), Fate.STATUS, 400, "No."),
        (line({"error": {"message": "Ouch."}}, 500), Fate.STATUS, 500, "Ouch."),
        (
            line(None, response=None, error={"code": "batch_expired", "message": "Late."}),
            Fate.TOTAL_TIMEOUT,
            0,
            "Late.",
        ),
        (
            line(None, response=None, error={"code": "batch_cancelled"}),
            Fate.CALLER_GONE,
            0,
            "it was cancelled",
        ),
        (line(None, response=None, error=None), Fate.STATUS, 0, ""),
        (line(None, response=None, error="?"), Fate.STATUS, 0, "?"),
        (ending(type="errored", error={"error": {"message": "No."}}), Fate.STATUS, 0, "No."),
        (ending(type="canceled"), Fate.CALLER_GONE, 0, "it was cancelled"),
        (ending(type="expired"), Fate.TOTAL_TIMEOUT, 0, "the batch ran out of time"),
        (ending(type="new kind"), Fate.STATUS, 0, ""),
    ],
)
def test_a_call_that_failed_says_how(said: bytes, fate: Fate, status: int, error: str) -> None:
    result = read_result(said)
    assert result is not None
    assert (result.fate, result.status, result.error, result.ok) == (fate, status, error, False)
    assert result.seen.usage_body is None


def test_a_message_of_a_batch_has_no_tier_but_being_one() -> None:
    usage = {"input_tokens": 3, "output_tokens": 1, "service_tier": "batch"}
    result = read_result(ending(type="succeeded", message={"model": "claude", "usage": usage}))
    assert result is not None
    assert (result.own_id, result.wire, result.ok) == ("a", Wire.MESSAGES, True)
    assert (result.seen.model, result.seen.service_tier) == ("claude", "")
    assert result.seen.usage_body == usage


def test_half_a_pair_of_surrogates_hides_no_call() -> None:
    body = {"object": "response", "created_at": 4, "model": "m", "usage": {"input_tokens": 2}}
    for said in (
        line({**body, "output": "\ud800"}),
        line({**body, "output": "\ud800"}, custom_id="\udc00"),
    ):
        result = read_result(said)
        assert result is not None
        assert (result.wire, result.at_s, result.seen.model) == (Wire.RESPONSES, 4, "m")
    assert read_result(line(None, response=None, custom_id="\ud800x", id=None)).own_id == (  # type: ignore[union-attr]
        "\\ud800x"
    )
    message = {"model": "m", "content": "\ud800", "usage": {"input_tokens": 2}}
    spoken = read_result(ending(type="succeeded", message=message))
    assert spoken is not None
    assert spoken.seen.usage_body == {"input_tokens": 2}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\n",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"custom_id": "a"}',
        b'{"custom_id": 5, "response": null}',
        b'{"custom_id": "a", "method": "POST", "url": "/v1/x", "body": {}}',
        b'{"custom_id": "a", "response": {"body": {}}',
        b'{"messages": [{"role": "user", "content": "response custom_id"}]}',
        b'{"a": ' * 5_000,
    ],
)
def test_what_is_no_line_of_results_is_none(said: bytes) -> None:
    assert read_result(said) is None


@given(body=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_lines_lose_and_change_no_byte_however_they_arrive(body: bytes, cuts: list[int]) -> None:
    body = body.replace(b"\x0b", b"\n")
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    lines = Lines()
    found: list[bytes] = []
    for start, end in pairwise(edges):
        found += lines.feed(body[start:end])
        assert lines.held == end - len(b"".join(found))
    assert all(one.endswith(b"\n") and one.count(b"\n") == 1 for one in found)
    rest = lines.rest()
    assert b"\n" not in rest
    assert b"".join([*found, rest]) == body


def test_only_the_address_of_results_is_changed() -> None:
    body = (
        rb'{"id": "b1", "note": "\"results_url\": \"https://x/messages/batches/b1/results\"",'
        rb' "results_url" :  "https://a.com/v1/messages/batches/b1/results", "x": "\u00e9"}'
    )
    made = with_results_here(body, b"https://here:1/v1")
    there, here = b"https://a.com/v1/messages", b"https://here:1/v1/messages"
    assert made == body.replace(there, here)
    for other in (b'{"results_url": null}', b'{"results_url": "https://a.com/elsewhere"}', b"<p>"):
        assert with_results_here(other, b"https://here:1/v1") == other
