"""Translated requests: what is carried over, how, and what is refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from llm_comply.schema import _SPECS_DIR, SpecLoader

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.dialects import (
    translate_chat_messages,
    translate_messages_chat,
    translate_responses_chat,
)
from stillhouse.dialects.translate import translation
from stillhouse.dialects.translate_json import Fields
from stillhouse.dialects.translate_models import DEFAULT_MAX_TOKENS

Json = dict[str, Any]

HI = [{"role": "user", "content": "Hi"}]
PNG = "iVBORw0KGgo="
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "Does f.", "parameters": SCHEMA, "strict": True},
}
TOOL = {"name": "f", "description": "Does f.", "input_schema": SCHEMA, "strict": True}


def _sent(caller: Wire, upstream: Wire, asked: Json, model: str = "up") -> Json:
    known = translation(caller, upstream)
    assert known is not None
    said: Json = json.loads(known.request(json.dumps({"model": "alias", **asked}).encode(), model))
    assert said["model"] == model
    return said


def _to_messages(model: str = "claude-opus-4-5", **asked: Any) -> Json:
    return _sent(Wire.CHAT, Wire.MESSAGES, {"messages": HI, **asked}, model)


def _to_chat(model: str = "gpt-6-luna", **asked: Any) -> Json:
    body = {"messages": HI, "max_tokens": 100, **asked}
    return _sent(Wire.MESSAGES, Wire.CHAT, body, model)


def _from_responses(**asked: Any) -> Json:
    return _sent(Wire.RESPONSES, Wire.CHAT, {"input": "Hi", **asked})


# Chat to Messages


def test_system_and_developer_messages_become_system_in_order() -> None:
    said = _to_messages(
        messages=[
            {"role": "system", "content": "One."},
            {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
            *HI,
        ]
    )
    assert [block["text"] for block in said["system"]] == ["One.", "Two."]
    assert said["messages"] == HI


def test_several_tool_messages_become_one_turn_with_their_results_in_order() -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        for name in ("c1", "c2")
    ]
    said = _to_messages(
        messages=[
            *HI,
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
            {"role": "user", "content": "Go on."},
        ],
        tools=[CHAT_TOOL],
    )
    assert [turn["role"] for turn in said["messages"]] == ["user", "assistant", "user", "user"]
    assert [(b["type"], b["id"], b["input"]) for b in said["messages"][1]["content"]] == [
        ("tool_use", "c1", {"a": 1}),
        ("tool_use", "c2", {"a": 1}),
    ]
    assert said["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
        {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "two"}]},
    ]


def test_images_and_documents_become_blocks() -> None:
    parts = [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
        },
    ]
    said = _to_messages(messages=[{"role": "user", "content": parts}])
    assert said["messages"][0]["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        },
    ]


@pytest.mark.parametrize(
    ("chat", "messages"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_tool_choice_is_said_in_both_formats(chat: object, messages: Json) -> None:
    there = _to_messages(tools=[CHAT_TOOL], tool_choice=chat)
    assert (there["tools"], there["tool_choice"]) == ([TOOL], messages)
    back = _to_chat(tools=[TOOL], tool_choice=messages)
    assert (back["tools"], back["tool_choice"]) == ([CHAT_TOOL], chat)


def test_parallel_calls_are_forbidden_in_both_formats() -> None:
    there = _to_messages(tools=[CHAT_TOOL], parallel_tool_calls=False)
    assert there["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    back = _to_chat(tools=[TOOL], tool_choice=there["tool_choice"])
    assert (back["tool_choice"], back["parallel_tool_calls"]) == ("auto", False)


def test_of_allowed_tools_only_those_are_offered() -> None:
    other = {"type": "function", "function": {"name": "g"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    said = _to_messages(
        tools=[CHAT_TOOL, other],
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
    )
    assert [tool["name"] for tool in said["tools"]] == ["g"]
    assert said["tool_choice"] == {"type": "any"}
    assert said["tools"][0]["input_schema"] == {"type": "object"}


def test_a_json_schema_is_the_wanted_form_in_both_formats() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    there = _to_messages(response_format=form)
    assert there["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    form["json_schema"]["strict"] = True  # type: ignore[index]
    assert _to_chat(output_config=there["output_config"])["response_format"] == form


def test_a_schema_with_optional_members_is_not_called_strict() -> None:
    loose = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}
    nested = {**SCHEMA, "properties": {"city": {"anyOf": [loose]}}}
    for schema in (loose, nested, {"type": "object"}):
        said = _to_chat(output_config={"format": {"type": "json_schema", "schema": schema}})
        assert "strict" not in said["response_format"]["json_schema"]


def test_limits_and_stops_are_carried() -> None:
    said = _to_messages(max_tokens=7, stop="END", temperature=0.5, top_p=0.9, user="u-1")
    assert (said["max_tokens"], said["stop_sequences"]) == (7, ["END"])
    assert (said["temperature"], said["top_p"]) == (0.5, 0.9)
    assert said["metadata"] == {"user_id": "u-1"}
    assert _to_messages()["max_tokens"] == DEFAULT_MAX_TOKENS
    assert _to_messages(max_tokens=5, max_completion_tokens=7)["max_tokens"] == 7
    back = _to_chat(stop_sequences=["END"], temperature=0.5, metadata={"user_id": "u-1"})
    assert (back["stop"], back["temperature"], back["user"]) == (["END"], 0.5, "u-1")


@pytest.mark.parametrize(("given", "sent"), [(0, 0), (0.3, 0.3), (1, 1), (1.7, 1), (2, 1)])
def test_temperature_above_one_is_one_at_anthropic(given: float, sent: float) -> None:
    assert _to_messages(temperature=given)["temperature"] == sent


@pytest.mark.parametrize("model", ["claude-opus-4-7", "claude-opus-5-5", "claude-fable-5"])
def test_sampling_is_not_sent_to_models_that_answer_400_to_it(model: str) -> None:
    said = _to_messages(model, temperature=0, top_p=0.5, top_k=3)
    assert said.keys().isdisjoint({"temperature", "top_p", "top_k"})


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "config"),
    [
        ("claude-opus-5", "high", {"type": "adaptive"}, {"effort": "high"}),
        ("claude-sonnet-4-6", "minimal", {"type": "adaptive"}, {"effort": "low"}),
        ("claude-haiku-4-5", "low", {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-haiku-4-5", "high", {"type": "enabled", "budget_tokens": 8192}, None),
        ("kimi-k3", "medium", {"type": "enabled", "budget_tokens": 8192}, None),
        ("claude-opus-5", "none", {"type": "disabled"}, None),
    ],
)
def test_reasoning_effort_is_said_as_the_model_takes_it(
    model: str, effort: str, thinking: Json, config: Json | None
) -> None:
    said = _to_messages(model, reasoning_effort=effort, temperature=0.5)
    assert (said["thinking"], said.get("output_config")) == (thinking, config)
    assert thinking["type"] == "disabled" or "temperature" not in said


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens": 1500},
        {"tools": [CHAT_TOOL], "tool_choice": "required"},
        {
            "messages": [
                *HI,
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "c", "function": {"name": "f", "arguments": "{}"}},
                    ],
                },
                {"role": "tool", "tool_call_id": "c", "content": "7"},
            ]
        },
    ],
)
def test_thinking_by_budget_is_left_out_where_anthropic_would_answer_400(more: Json) -> None:
    assert "thinking" not in _to_messages(reasoning_effort="high", **more)


def test_a_callers_own_thinking_and_cache_marks_reach_anthropic() -> None:
    mark = {"type": "ephemeral"}
    said = _to_messages(
        messages=[
            {
                "role": "system",
                "content": [{"type": "text", "text": "Long.", "cache_control": mark}],
            },
            *HI,
        ],
        thinking={"type": "enabled", "budget_tokens": 2000},
        tools=[{**CHAT_TOOL, "cache_control": mark}],
    )
    assert said["system"] == [{"type": "text", "text": "Long.", "cache_control": mark}]
    assert said["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert said["tools"][0]["cache_control"] == mark


def test_unsigned_reasoning_is_not_sent_to_anthropic() -> None:
    said = {"role": "assistant", "content": "Hello.", "reasoning_content": "Hm."}
    assert _to_messages(messages=[*HI, said, *HI])["messages"][1] == {
        "role": "assistant",
        "content": "Hello.",
    }


def test_ids_with_letters_that_anthropic_refuses_still_match() -> None:
    call = {"id": "functions.f:0", "function": {"name": "f", "arguments": "{}"}}
    turns = _to_messages(
        messages=[
            *HI,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "functions.f:0", "content": "7"},
        ]
    )["messages"]
    assert turns[1]["content"][0]["id"] == turns[2]["content"][0]["tool_use_id"]
    assert turns[1]["content"][0]["id"].replace("_", "").isalnum()


# Messages to chat


def test_system_text_and_system_turns_become_system_messages() -> None:
    said = _to_chat(system="Be brief.", messages=[*HI, {"role": "system", "content": "Now."}])
    assert said["messages"] == [
        {"role": "system", "content": "Be brief."},
        *HI,
        {"role": "system", "content": "Now."},
    ]


def test_tool_results_become_tool_messages_before_the_rest_of_the_turn() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
    content = [
        {"type": "tool_result", "tool_use_id": "a", "content": "one", "is_error": True},
        {"type": "tool_result", "tool_use_id": "b", "content": [image]},
        {"type": "tool_result", "tool_use_id": "c"},
        {"type": "text", "text": "Go on."},
    ]
    said = _to_chat(messages=[*HI, {"role": "user", "content": content}])["messages"][1:]
    assert [m["role"] for m in said] == ["tool", "tool", "tool", "user"]
    assert [m["tool_call_id"] for m in said[:3]] == ["a", "b", "c"]
    assert (said[0]["content"], said[2]["content"]) == ("one", "")
    assert "next message" in said[1]["content"]
    assert [part["type"] for part in said[3]["content"]] == ["image_url", "text"]


def test_an_assistants_turn_keeps_text_thinking_and_calls() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "See:"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
    ]
    said = _to_chat(messages=[*HI, {"role": "assistant", "content": content}])["messages"][1]
    assert said == {
        "role": "assistant",
        "content": "See:",
        "reasoning_content": "Hm.",
        "thinking_blocks": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s", "index": 0},
        ],
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        ],
    }


@pytest.mark.parametrize(
    ("asked", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 60_000}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, "xhigh"),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, None),
    ],
)
def test_thinking_becomes_reasoning_effort(asked: Json, effort: str | None) -> None:
    assert _to_chat(**asked).get("reasoning_effort") == effort


def test_a_limit_is_called_as_the_model_knows_it() -> None:
    assert _to_chat("gpt-6-luna")["max_completion_tokens"] == 100
    assert _to_chat("mistral-large")["max_tokens"] == 100


def test_a_stream_is_asked_for_its_usage() -> None:
    assert _to_chat(stream=True)["stream_options"] == {"include_usage": True}
    assert _from_responses(stream=True)["stream_options"] == {"include_usage": True}
    assert _to_messages(stream=True)["stream"] is True


def test_a_user_id_that_openai_would_refuse_is_left_out() -> None:
    assert "user" not in _to_chat(metadata={"user_id": "u" * 65})


# Responses to chat


def test_items_become_messages_and_a_models_items_one_turn() -> None:
    said = _from_responses(
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Rules."},
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Let me see."}],
            },
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
            {
                "type": "function_call_output",
                "call_id": "b",
                "output": [{"type": "input_text", "text": "2"}],
            },
        ],
    )["messages"]
    assert [turn["role"] for turn in said] == [
        "system", "system", "user", "assistant", "tool", "tool",
    ]  # fmt: skip
    assert said[3]["content"] == "Let me see."
    assert said[3]["reasoning_content"] == "Hm."
    assert [call["id"] for call in said[3]["tool_calls"]] == ["a", "b"]
    assert [(turn["tool_call_id"], turn["content"]) for turn in said[4:]] == [
        ("a", "1"),
        ("b", "2"),
    ]


def test_responses_tools_choices_and_forms_are_nested_as_chat_has_them() -> None:
    said = _from_responses(
        tools=[{"type": "function", "name": "f", "parameters": SCHEMA, "strict": None}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
        reasoning={"effort": "low", "summary": "auto"},
        max_output_tokens=5,
    )
    assert said["tools"] == [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
    assert said["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert said["parallel_tool_calls"] is False
    assert said["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
    }
    assert (said["reasoning_effort"], said["max_tokens"]) == ("low", 5)


def test_images_and_files_of_responses_become_chat_parts() -> None:
    parts = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JV"},
    ]
    said = _from_responses(input=[{"role": "user", "content": parts}])["messages"][0]["content"]
    assert said == [
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"},
        },
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JV"},
        },
    ]


# Refusals


@pytest.mark.parametrize(
    ("caller", "asked", "names"),
    [
        (Wire.CHAT, {"n": 2}, "n is 2"),
        (Wire.CHAT, {"logprobs": True}, "logprobs is true"),
        (Wire.CHAT, {"response_format": {"type": "json_object"}}, "json_object"),
        (Wire.CHAT, {"functions": [{"name": "f"}]}, "functions is a list"),
        (Wire.CHAT, {"min_p": 0.1}, "min_p is a number"),
        (Wire.CHAT, {"reasoning_effort": "huge"}, "`huge`"),
        (Wire.CHAT, {"tools": [{"type": "custom", "custom": {}}]}, r"tools\[0\].type is `custom`"),
        (Wire.CHAT, {"messages": [{"role": "function", "content": ""}]}, r"messages\[0\].role"),
        (Wire.CHAT, {"messages": [{"role": "user", "content": ""}]}, r"messages\[0\].content"),
        (
            Wire.CHAT,
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            r"messages\[0\].content\[0\].type is `input_audio`",
        ),
        (
            Wire.CHAT,
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,Q"}}
                        ],
                    }
                ]
            },
            "image/bmp",
        ),
        (Wire.MESSAGES, {"tools": [{"type": "web_search_20260318", "name": "w"}]}, "web_search"),
        (Wire.MESSAGES, {"container": "c1"}, "container is `c1`"),
        (Wire.MESSAGES, {"inference_geo": "eu"}, "inference_geo is `eu`"),
        (Wire.MESSAGES, {"max_tokens": None}, "max_tokens is null"),
        (
            Wire.MESSAGES,
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "server_tool_use",
        ),
        (Wire.RESPONSES, {"previous_response_id": "resp_1"}, "whole conversation"),
        (Wire.RESPONSES, {"conversation": "conv_1"}, "whole conversation"),
        (Wire.RESPONSES, {"background": True}, "background is true"),
        (Wire.RESPONSES, {"prompt": {"id": "p"}}, "prompt is an object"),
        (Wire.RESPONSES, {"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        (Wire.RESPONSES, {"tools": [{"type": "web_search"}]}, "web_search"),
        (Wire.RESPONSES, {"include": ["message.output_text.logprobs"]}, "include"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_name(caller: Wire, asked: Json, names: str) -> None:
    send = {Wire.CHAT: _to_messages, Wire.MESSAGES: _to_chat, Wire.RESPONSES: _from_responses}
    with pytest.raises(CallerError, match=names) as refused:
        send[caller](**asked)
    assert "; " in str(refused.value)  # and a remedy follows


@pytest.mark.parametrize(
    "asked",
    [
        {"store": True, "previous_response_id": None, "background": False},
        {"store": False, "truncation": "auto", "metadata": {"a": "b"}, "top_logprobs": 0},
    ],
)
def test_what_changes_nothing_is_not_refused(asked: Json) -> None:
    assert _from_responses(**asked).keys() == {"model", "messages"}


def test_a_request_nested_beyond_reading_is_refused() -> None:
    known = translation(Wire.MESSAGES, Wire.CHAT)
    assert known is not None
    for depth in (300, 500, 900, 50_000):
        schema = '{"anyOf":[' * depth + "{}" + "]}" * depth
        form = '{"format":{"type":"json_schema","schema":' + schema + "}}"
        body = '{"max_tokens":9,"messages":[],"output_config":' + form + "}"
        with suppress(CallerError):
            known.request(body.encode(), "m")
    with pytest.raises(CallerError, match="nested too deeply"):
        known.request(body.encode(), "m")


def test_no_refusal_shows_what_was_said() -> None:
    secret = "my secret prompt, which is long enough to be cut " * 3
    for content in ([secret], {"type": secret}, [{"type": secret}]):
        with pytest.raises(CallerError) as refused:
            _to_messages(messages=[{"role": "user", "content": content}])
        assert "secret" not in str(refused.value)


# The vendors' own specifications


@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")
def test_a_translated_request_is_valid_by_anthropics_specification() -> None:
    said = _to_messages(
        messages=[
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "See"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            },
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "7"},
        ],
        model="claude-opus-5",
        tools=[CHAT_TOOL],
        tool_choice="auto",
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        reasoning_effort="high",
        stop=["END"],
        user="u",
        service_tier="default",
    )
    spec = SpecLoader(str(_SPECS_DIR / "anthropic.json"))
    assert spec.validate(said, "CreateMessageParams") == []


@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")
def test_a_translated_request_is_valid_by_openais_specification() -> None:
    said = _to_chat(
        system="Be brief.",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "See"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c", "content": "7"}],
            },
        ],
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}},
        stop_sequences=["END"],
        stream=True,
    )
    # The specification's `nullable` is lost on its way to a JSON schema.
    assert said["messages"][2].pop("content") is None
    spec = SpecLoader(str(_SPECS_DIR / "openai_chat.json"))
    assert spec.validate(said, "CreateChatCompletionRequest") == []


# The reference


@pytest.mark.parametrize(
    "fields",
    [
        translate_chat_messages.FIELDS,
        translate_messages_chat.FIELDS,
        translate_responses_chat.FIELDS,
    ],
)
def test_the_reference_names_every_field_that_is_dropped_or_refused(fields: Fields) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "translation.md"
    told = page.read_text(encoding="utf-8")
    for name in (*fields.translated, *fields.dropped, *fields.refused):
        assert f"`{name}`" in told
