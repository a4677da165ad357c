"""Reads what the three dialects share: content parts, tools on offer, tool calls, answer forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from stillhouse.logs.values import RowError, as_text, shown

Body = dict[str, Any]
"""A JSON object as orjson reads it."""

_TAGS = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "input_file": "file",
    "document": "file",
}


def text_of(content: object, glue: str = "\n") -> str:
    """Read a message's content: text as it is, parts joined, other parts as a short tag.

    >>> text_of([{"type": "text", "text": "What is this?"}, {"type": "image_url"}])
    'What is this?\\n[image]'
    """
    if type(content) is str:
        return content
    if content is None:
        return ""
    if type(content) is not list:
        raise RowError(f"a message's content is {shown(content)}, neither text nor parts")
    return glue.join([_part_text(part) for part in content])


def _part_text(part: Any) -> str:
    if type(part) is str:
        return part
    kind = as_text(part.get("type"), "the type of a content part")
    if type(part.get("text")) is str:
        return str(part["text"])
    if kind == "refusal":
        return as_text(part.get("refusal"), "refusal")
    if kind == "tool_use":
        return tool_tag(part.get("name"))
    if kind == "tool_result":
        return text_of(part.get("content"))
    return f"[{_TAGS.get(kind, kind)}]"


def tool_tag(name: object) -> str:
    """The short tag that stands for a tool call inside a conversation.

    >>> tool_tag("get_weather")
    '[tool get_weather]'
    """
    return f"[tool {as_text(name, 'the name of a tool')}]"


def tool_names(tools: object) -> tuple[str, ...]:
    """Names of the tools on offer, in order; built-in tools go by their type.

    >>> tool_names([{"type": "function", "function": {"name": "refund"}}, {"type": "web_search"}])
    ('refund', 'web_search')
    """
    if not tools:
        return ()
    if type(tools) is not list:
        raise RowError(f"tools is {shown(tools)}, not a list")
    named = [tool.get("function") or tool.get("custom") or tool for tool in tools]
    return tuple([as_text(t.get("name") or t.get("type"), "the name of a tool") for t in named])


def tool_call(calls: Sequence[tuple[object, object]]) -> tuple[str, str]:
    """Tool name and arguments as JSON text, of the (name, arguments) that an answer chose.

    Several calls in one answer become one: names joined, arguments as a JSON list.

    >>> tool_call([("a", {"x": 1}), ("b", "{}")])
    ('a, b', '[{"x":1}, {}]')
    """
    names = [as_text(name, "the name of a tool") for name, _ in calls]
    arguments = [
        given if type(given) is str else "" if given is None else orjson.dumps(given).decode()
        for _, given in calls
    ]
    if len(calls) == 1:
        return names[0], arguments[0]
    return ", ".join(names), f"[{', '.join(arguments)}]"


def answer_form(wanted: Body | None) -> str:
    """The answer form that was asked for; empty for plain text.

    >>> answer_form({"type": "json_schema", "json_schema": {"name": "invoice", "schema": {}}})
    'json_schema:invoice'
    """
    if not wanted:
        return ""
    kind = as_text(wanted.get("type"), "the type of response_format")
    if kind == "text":
        return ""
    name = (wanted.get("json_schema") or wanted).get("name")
    return f"{kind}:{as_text(name, 'the name of a schema')}" if name else kind
