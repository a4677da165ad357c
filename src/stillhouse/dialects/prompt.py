"""All the text of a request, joined: what its input is estimated by when nobody counted it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from stillhouse.core.catalogue import Wire

_ASKED: dict[Wire, tuple[str, ...]] = {
    Wire.CHAT: ("messages", "tools", "functions", "response_format"),
    Wire.MESSAGES: ("system", "messages", "tools", "output_config", "output_format"),
    Wire.RESPONSES: ("instructions", "input", "tools", "text"),
    Wire.EMBEDDINGS: ("input",),
    Wire.DECISIONS: ("input", "questions"),
    Wire.SYSTEMONE: ("state", "questions"),
}
_NOT_TEXT = frozenset(
    {"type", "role", "id", "call_id", "tool_call_id", "tool_use_id", "cache_control"}
)
_BINARY = frozenset({"image_url", "input_audio", "file_data", "encrypted_content", "signature"})
"""Members whose strings are no prompt text: pictures, sound and sealed reasoning."""


def text_asked(body: bytes, wire: Wire) -> str:
    """Join what a model reads of a request: turns, instructions, tools and the wanted form.

    Schemas count by their names and words, as models are shown them. Pictures and sound are left
    out. Empty where the body cannot be read: an estimate must not fail a call that has ended.

    >>> text_asked(b'{"messages": [{"role": "user", "content": "Hi"}]}', Wire.CHAT)
    'Hi'
    """
    try:
        said = json.loads(body)
        if type(said) is not dict:
            return ""
        return "\n".join(text for name in _ASKED[wire] for text in _texts(said.get(name), name))
    except (ValueError, RecursionError):
        return ""


def _texts(value: object, name: str) -> Iterator[str]:
    if type(value) is str:
        if name not in _NOT_TEXT and not value.startswith("data:"):
            yield value
    elif type(value) is list:
        for item in value:
            yield from _texts(item, "" if name in _SCHEMAS else name)
    elif type(value) is dict:
        yield from _texts_of_object(value, name)


def _texts_of_object(value: dict[str, object], name: str) -> Iterator[str]:
    if value.get("type") == "base64" and "data" in value:
        return
    named = name in _SCHEMAS
    for member, inner in value.items():
        if member in _BINARY:
            continue
        if named:
            yield member
        yield from _texts(inner, member)


_SCHEMAS = frozenset({"properties", "criteria", "questions", "input", "arguments", "$defs"})
"""Objects whose keys a model reads as well: schemas, questions and their options, tool calls."""
