from __future__ import annotations

from typing import Any

import pytest

from stillhouse.core.traffic import Completion, LoggedCall, Message, Tags
from stillhouse.logs import detect


@pytest.mark.parametrize("field", ["messages", "input"])
@pytest.mark.parametrize("paged", [False, True])
def test_a_stored_completion_holds_its_request(
    read_all: Any, chat_request: Any, chat_response: Any, field: str, paged: bool
) -> None:
    turns = chat_request["messages"]
    row = {
        **chat_response,
        "metadata": {"task": "intent"},
        "tools": None,
        "response_format": {"type": "json_object"},
        "request_id": "req_1",
        field: {"object": "list", "data": turns} if paged else turns,
    }
    (call,) = read_all([row])
    assert isinstance(call, LoggedCall)
    assert call.declared_id == "chatcmpl-C8"
    assert call.request.messages[1] == Message("user", "Where is my card?")
    assert call.request.response_format == "json_object"
    assert call.completion == Completion("card arrival", finish="stop")
    assert (call.dialect, call.usage_body) == ("openai", chat_response["usage"])
    assert (call.at_us, call.tags) == (1790427902000000, Tags(task="intent"))


def test_stored_completions_are_recognised(write: Any, pair: Any) -> None:
    found = detect(write([{**pair["response"], "messages": pair["request"]["messages"]}]))
    assert (found.name, found.sentence) == (
        "stored completions",
        "log.jsonl holds OpenAI stored completions",
    )
