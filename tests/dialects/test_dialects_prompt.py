"""The text of a request, for estimates; and its key, for the exact response cache."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.catalogue import Wire
from stillhouse.dialects.canonical import IGNORED, cache_key
from stillhouse.dialects.prompt import text_asked

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def asked(wire: Wire, **said: Any) -> str:
    return text_asked(json.dumps({"model": "m", "temperature": 0, **said}).encode(), wire)


def test_chat_text_has_turns_tools_and_calls_but_no_pictures() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ]
    text = asked(Wire.CHAT, messages=messages, tools=[TOOL])
    assert text.split("\n") == [
        *("Be brief.", "What is this?", "f", '{"a":1}', "42"),
        *("get_weather", "Weather of a city.", "city"),
    ]


def test_messages_text_has_the_system_prompt_and_tool_results() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "x", "data": "AAAA"}}
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "ok"}],
    }
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    turns = [{"role": "user", "content": [image, result, {"type": "text", "text": "Go on"}]}]
    assert asked(Wire.MESSAGES, system=system, messages=turns) == "Be brief.\nok\nGo on"


@pytest.mark.parametrize(
    ("wire", "said", "text"),
    [
        (Wire.RESPONSES, {"instructions": "Be brief.", "input": "Hi"}, "Be brief.\nHi"),
        (Wire.EMBEDDINGS, {"input": ["one", "two"]}, "one\ntwo"),
        (Wire.EMBEDDINGS, {"input": [[1, 2]]}, ""),
        (Wire.DECISIONS, {"input": "x", "questions": [{"type": "a", "instructions": "y"}]}, "x\ny"),
        (Wire.SYSTEMONE, {"state": ["x"], "questions": {"q": {"instructions": "y"}}}, "x\nq\ny"),
    ],
)
def test_each_formats_text_is_found(wire: Wire, said: dict[str, Any], text: str) -> None:
    assert asked(wire, **said) == text


@given(st.binary(max_size=50), st.sampled_from(list(Wire)))
def test_what_cannot_be_read_is_no_text(body: bytes, wire: Wire) -> None:
    assert text_asked(body, wire) == ""


@pytest.mark.parametrize("body", [b"[" * 9999, b'{"messages":' + b"[" * 9999, b'"x"'])
def test_deep_and_foreign_bodies_are_no_text(body: bytes) -> None:
    assert text_asked(body, Wire.CHAT) == ""


SAID = st.dictionaries(
    st.sampled_from(["model", "messages", "temperature", "tools", *IGNORED]),
    st.one_of(
        st.integers(-9, 9), st.text(max_size=5), st.booleans(), st.lists(st.text(max_size=3))
    ),
)


@given(SAID, st.randoms(use_true_random=False), st.sampled_from([None, 1]))
def test_order_space_and_attribution_make_no_difference(
    said: dict[str, Any], order: Any, indent: int | None
) -> None:
    names = list(said)
    order.shuffle(names)
    one = json.dumps({name: said[name] for name in names}, indent=indent, ensure_ascii=False)
    two = json.dumps({name: value for name, value in said.items() if name not in IGNORED})
    key = cache_key(one.encode("utf-8", "surrogatepass"), Wire.CHAT, "t")
    assert key == cache_key(two.encode(), Wire.CHAT, "t")


@given(SAID, SAID)
def test_different_questions_have_different_keys(one: dict[str, Any], two: dict[str, Any]) -> None:
    kept = [
        json.dumps({n: v for n, v in said.items() if n not in IGNORED}, sort_keys=True)
        for said in (one, two)
    ]
    keys = [cache_key(json.dumps(said).encode(), Wire.CHAT, "t") for said in (one, two)]
    assert (keys[0] == keys[1]) is (kept[0] == kept[1])


def test_tenants_and_formats_share_no_answers() -> None:
    body = b'{"model":"m"}'
    keys = {cache_key(body, wire, tenant) for wire in Wire for tenant in ("", "a", "b")}
    assert len(keys) == 3 * len(Wire)
    assert {len(key) for key in keys} == {32}


def test_nested_members_of_those_names_do_count() -> None:
    one = b'{"messages":[{"user":"a"}]}'
    assert cache_key(one, Wire.CHAT, "") != cache_key(one.replace(b'"a"', b'"b"'), Wire.CHAT, "")


def test_a_body_that_cannot_be_read_is_digested_as_it_is() -> None:
    assert cache_key(b"{", Wire.CHAT, "") != cache_key(b"[", Wire.CHAT, "")
