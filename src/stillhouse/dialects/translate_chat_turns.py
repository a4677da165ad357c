"""Says a chat conversation as Anthropic turns: system apart, tool results inside user turns."""

from __future__ import annotations

import re

from stillhouse.dialects.translate_content import blocks
from stillhouse.dialects.translate_json import (
    Body,
    an_object,
    arguments_object,
    objects,
    refuse,
    text,
)
from stillhouse.dialects.translate_thinking import with_thinking

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")


def system_and_turns(messages: object) -> tuple[str | list[Body], list[Body]]:
    """Take a conversation apart into Anthropic's `system` and its `messages`.

    All system and developer messages become `system`, in order, wherever they stood. Tool messages
    that follow each other become one user turn with a tool_result each.

    >>> system_and_turns([{"role": "developer", "content": "Be brief."},
    ...                   {"role": "user", "content": "Hi"}])
    ('Be brief.', [{'role': 'user', 'content': 'Hi'}])
    """
    system: list[Body] = []
    turns: list[Body] = []
    results: list[Body] | None = None
    for at, message in enumerate(objects(messages, "messages")):
        where = f"messages[{at}]"
        role = message.get("role")
        if role == "tool":
            if results is None:
                results = []
                turns.append({"role": "user", "content": results})
            results.append(_result(message, where))
            continue
        if role in ("system", "developer"):
            system.extend(blocks(message.get("content"), f"{where}.content"))
            continue
        results = None
        if role == "user":
            turns.append({"role": "user", "content": _said_by_user(message, where)})
        elif role == "assistant":
            if said := _said_by_assistant(message, where):
                turns.append({"role": "assistant", "content": said})
        else:
            refuse(f"{where}.role", role, "use system, developer, user, assistant or tool")
    return _plain(system), turns


def in_tool_loop_without_thinking(turns: list[Body]) -> bool:
    """Whether the model is amid tool calls that it made without thinking.

    Claude up to 4.5 answers 400 if it is to think from there on.
    """
    for turn in reversed(turns):
        content = turn["content"]
        inside = content if type(content) is list else []
        if turn["role"] == "assistant":
            shapes = {block["type"] for block in inside}
            return "tool_use" in shapes and shapes.isdisjoint({"thinking", "redacted_thinking"})
        if any(block["type"] != "tool_result" for block in inside) or not inside:
            return False
    return False


def _said_by_user(message: Body, where: str) -> str | list[Body]:
    content = message.get("content")
    said = blocks(content, f"{where}.content")
    if not said:
        refuse(f"{where}.content", content, "send text, or leave the message out")
    return str(content) if type(content) is str else said


def _said_by_assistant(message: Body, where: str) -> str | list[Body]:
    """Text, refusal, tool calls, and thinking where it stood; empty where nothing was said."""
    if message.get("function_call"):
        refuse(f"{where}.function_call", message["function_call"], "send it as `tool_calls`")
    content = message.get("content")
    said = blocks(content, f"{where}.content")
    if message.get("refusal"):
        said.append({"type": "text", "text": text(message["refusal"], f"{where}.refusal")})
    calls = (
        objects(message["tool_calls"], f"{where}.tool_calls") if message.get("tool_calls") else []
    )
    for at, call in enumerate(calls):
        said.append(_tool_use(call, f"{where}.tool_calls[{at}]"))
    if message.get("thinking_blocks"):
        kept = objects(message["thinking_blocks"], f"{where}.thinking_blocks")
        return with_thinking(said, kept)
    if type(content) is str and len(said) == 1 and said[0]["type"] == "text":
        return content or said
    return said


def _tool_use(call: Body, where: str) -> Body:
    if call.get("type", "function") != "function":
        refuse(f"{where}.type", call["type"], "send function calls")
    function = an_object(call.get("function"), f"{where}.function")
    return {
        "type": "tool_use",
        "id": tool_id(text(call.get("id"), f"{where}.id")),
        "name": text(function.get("name"), f"{where}.function.name"),
        "input": arguments_object(
            text(function.get("arguments") or "", f"{where}.function.arguments")
        ),
    }


def _result(message: Body, where: str) -> Body:
    content = message.get("content")
    said = blocks(content, f"{where}.content")
    return {
        "type": "tool_result",
        "tool_use_id": tool_id(text(message.get("tool_call_id"), f"{where}.tool_call_id")),
        "content": content if type(content) is str else said,
    }


def tool_id(given: str) -> str:
    """Write the letters of a tool call's id that Anthropic refuses as their numbers; keep the rest.

    >>> tool_id("call_7Yb"), tool_id("functions.get_weather:0")
    ('call_7Yb', 'functions_x2e_get_weather_x3a_0')
    """
    return _FOREIGN.sub(lambda letter: f"_x{ord(letter[0]):x}_", given)


def _plain(system: list[Body]) -> str | list[Body]:
    if len(system) == 1 and system[0].keys() == {"type", "text"}:
        return str(system[0]["text"])
    return system
