"""Errors in each vendor's words, readable by its own SDK, and free of secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from anthropic.types import ErrorResponse
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseErrorEvent

from stillhouse.core.catalogue import Wire
from stillhouse.dialects.faults import (
    error_body,
    error_type,
    harmless,
    stream_error,
    upstream_message,
)
from stillhouse.dialects.sse import events

Misfits = Callable[[str, str, Any], list[str]]
STATUSES = [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("wire", list(Wire))
def test_an_error_has_its_vendors_envelope(wire: Wire, status: int) -> None:
    said = json.loads(error_body(wire, status, "over_budget", 'The "team" is over.'))
    assert said["error"]["message"] == 'The "team" is over.'
    if wire is Wire.MESSAGES:
        assert set(said["error"]) == {"type", "message"}
        assert set(said) == {"type", "error"}
    else:
        assert set(said["error"]) == {"message", "type", "param", "code"}
        assert said["error"]["code"] == "over_budget"


@pytest.mark.parametrize("status", [status for status in STATUSES if status != 413])
def test_anthropic_knows_every_type_that_it_is_told(status: int) -> None:
    """413 is `request_too_large` in Anthropic's error reference; its SDK's union lacks the word."""
    word = error_type(Wire.MESSAGES, status)
    parsed = ErrorResponse.model_validate(
        {"type": "error", "request_id": None, "error": {"type": word, "message": "m"}}
    )
    assert parsed.error.type == word


def test_a_broken_chat_stream_raises_in_the_sdk_and_has_no_done() -> None:
    (event,) = events(stream_error(Wire.CHAT, 502, "truncated", "It broke off."))
    said = json.loads(event.data)
    assert event.event == ""
    assert said["error"]["message"] == "It broke off."
    error = openai.APIError(said["error"]["message"], request=None, body=said["error"])  # type: ignore[arg-type]
    assert (error.type, error.code) == ("server_error", "truncated")


def test_a_broken_messages_stream_ends_in_an_error_event() -> None:
    (event,) = events(stream_error(Wire.MESSAGES, 529, "x", "Busy."))
    assert event.event == "error"
    said = json.loads(event.data)
    assert said == {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}


def test_a_broken_responses_stream_suits_openai_and_open_responses(misfits: Misfits) -> None:
    sent = stream_error(Wire.RESPONSES, 502, "", "It broke off.", sequence_number=9)
    (event,) = events(sent)
    said = json.loads(event.data)
    assert ResponseErrorEvent.model_validate(said).sequence_number == 9
    assert misfits("openresponses", "ErrorStreamingEvent", said) == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":{"message":"No such model","type":"x"}}', "No such model"),
        (b'{"type":"error","error":{"type":"api_error","message":"Oh"}}', "Oh"),
        (b'{"error":"model not found"}', "model not found"),
        (b'{"detail":[{"loc":["body"],"msg":"field required"}]}', "field required"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'[{"error":{"code":429,"message":"Quota"}}]', "Quota"),
        (b'{"message":"plain"}', "plain"),
        (b"upstream connect error\n\nreset", "upstream connect error reset"),
        (b"<!doctype html><h1>502</h1>", ""),
        (b'{"error":{"mess', ""),
        (b"", ""),
        (b"\x00\x01", ""),
        (b"[[[[[[[[[[" * 5000, ""),
        (b"null", ""),
    ],
)
def test_the_message_of_an_upstream_is_found_wherever_it_stands(body: bytes, text: str) -> None:
    assert upstream_message(body) == text


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abc_DEF-123",
        "sk-ant-api03-xyz",
        "sk-abc***************wxyz",
        "gsk_1234567890abcdef",
        "xai-0123456789",
        "hf_abcdefgh",
        "AIzaSyA-1234567",
        "Bearer abc.def",
        "0123456789abcdef0123456789abcdef",
    ],
)
def test_no_key_is_repeated(secret: str) -> None:
    said = upstream_message(json.dumps({"error": {"message": f"Bad key: {secret}, try"}}).encode())
    assert secret.rsplit(maxsplit=1)[-1] not in said
    assert "Bad key" in said


def test_ordinary_words_are_not_taken_for_keys() -> None:
    text = "api-version 2026-01-01 is no keyboard; request req_011CSHoEeqs5C35K2UUqR7Fy of gpt-6"
    assert harmless(text) == text


@given(st.binary(max_size=200))
def test_any_upstream_body_gives_one_short_line(body: bytes) -> None:
    text = upstream_message(body)
    assert len(text) <= 300
    assert text == " ".join(text.split())
