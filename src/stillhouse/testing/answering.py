"""What a faulty upstream answers when it is well: lawful, and the same to the same request."""

from __future__ import annotations

import json
import zlib
from typing import Any, NamedTuple

import orjson

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import Completion, Usage
from stillhouse.dialects.decisions import inquiry, render_answers
from stillhouse.dialects.paths import STREAMED
from stillhouse.dialects.render import render_body, render_stream, usage_body

CREATED_S = 1_750_000_000
_DIMENSION = 8
_WORDS = ("sun", "moon", "rain", "wind", "stone", "river", "ash", "pine")
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class Answered(NamedTuple):
    """An answer: its events, or its body as the only part; what it used; whether it says so."""

    parts: list[bytes]
    usage: Usage
    text: str
    counted: bool
    stream: bool = False


def answered(wire: Wire, said: dict[str, Any], body: bytes, number: int, counted: bool) -> Answered:
    """Answer a request: a tool is called where one is offered, a schema filled where one is set.

    `counted` False leaves the usage out. Raises CallerError where the request cannot be answered.
    """
    model = str(said.get("model", ""))
    toss = zlib.crc32(body)
    into = max(1, len(body) // 4)
    read = into // 3 if toss % 2 else 0
    if wire in (Wire.DECISIONS, Wire.SYSTEMONE):
        asked = inquiry(body)
        usage = Usage(input_tokens=into, output_tokens=len(asked.questions))
        odds = [_odds(toss, len(question.options)) for question in asked.questions]
        counts = usage_body(Wire.SYSTEMONE if asked.keyed else wire, usage) if counted else None
        body = render_answers(asked, odds, model=model, usage=counts)
        return Answered([body], usage, "", counted)
    if wire is Wire.EMBEDDINGS:
        usage = Usage(input_tokens=into)
        answer = Completion(json.dumps(_vectors(said.get("input"))))
    else:
        answer, words = _completion(said, toss)
        usage = Usage(
            input_tokens=into - read,
            cache_read_tokens=read,
            output_tokens=words,
            reasoning_tokens=toss % 5,
        )
    stream = said.get("stream") is True and wire in STREAMED
    if stream and wire is Wire.CHAT:
        counted = counted and bool((said.get("stream_options") or {}).get("include_usage"))
    parts = (render_stream if stream else _whole)(
        wire,
        answer,
        answer_id=f"f{number}",
        model=model,
        usage=usage if counted else None,
        created_s=CREATED_S,
    )
    return Answered(parts, usage, answer.text + answer.tool_arguments, counted, stream)


def _whole(wire: Wire, answer: Completion, **facts: Any) -> list[bytes]:
    return [render_body(wire, answer, **facts)]


def contradict(part: bytes) -> bytes:
    """Let the usage in a body or an event say what cannot be: more parts than the whole has."""
    for name, count in (
        (b"cached_tokens", b"987654321"),
        (b"ephemeral_5m_input_tokens", b"987654321"),
        (b"prompt_tokens", b"-1"),
        (b"input_tokens", b"-1"),
    ):
        before, found, after = part.partition(b'"%s":' % name)
        if found:
            return before + found + count + after.lstrip(b"0123456789")
    return part


def _completion(said: dict[str, Any], toss: int) -> tuple[Completion, int]:
    """The answer, and how many tokens it counts for."""
    tool = _tool(said)
    if tool is not None:
        name, schema = tool
        arguments = json.dumps(_filled(schema, schema))
        return Completion("", name, arguments, "tool_calls"), 8 + len(arguments) // 4
    form = _schema(said)
    if form is not None:
        text = json.dumps(_filled(form, form))
        return Completion(text, finish="stop"), 4 + len(text) // 4
    count = 5 + toss % 40
    limit = next((said[name] for name in _LIMITS if type(said.get(name)) is int), count)
    words = [_WORDS[(toss >> place) % 8] for place in range(min(count, max(limit, 0)))]
    return Completion(" ".join(words), finish="stop" if limit >= count else "length"), len(words)


def _tool(said: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The first tool that a request offers, unless it was called already or is not wanted."""
    choice = said.get("tool_choice")
    if choice == "none" or (type(choice) is dict and choice.get("type") == "none"):
        return None
    turns = said.get("messages") or said.get("input")
    last = turns[-1] if type(turns) is list and turns and type(turns[-1]) is dict else {}
    content = last.get("content")
    blocks = content if type(content) is list else []
    if (
        last.get("role") == "tool"
        or last.get("type") == "function_call_output"
        or any(type(block) is dict and block.get("type") == "tool_result" for block in blocks)
    ):
        return None
    for offered in said.get("tools") or ():
        tool = offered.get("function", offered)
        if type(tool.get("name")) is str:
            return tool["name"], tool.get("parameters") or tool.get("input_schema") or {}
    return None


def _schema(said: dict[str, Any]) -> dict[str, Any] | None:
    """The form that an answer is wanted in, wherever the dialect has it."""
    wanted = (
        said.get("response_format")
        or (said.get("text") or {}).get("format")
        or (said.get("output_config") or {}).get("format")
        or {}
    )
    if wanted.get("type") == "json_object":
        return {"type": "object"}
    found = (wanted.get("json_schema") or {}).get("schema") or wanted.get("schema")
    return found if type(found) is dict else None


def _filled(schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """The plainest value that a JSON schema allows."""
    if type(schema) is not dict or depth > 8:
        return None
    reference = schema.get("$ref", "")
    if reference.startswith("#/"):
        found: Any = root
        for step in reference[2:].split("/"):
            found = found.get(step, {})
        return _filled(found, root, depth + 1)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return _filled(schema[name][0], root, depth + 1)
    kind = schema.get("type")
    kind = kind[0] if type(kind) is list else kind
    if kind == "array":
        least = max(schema.get("minItems", 1), 1)
        return [_filled(schema.get("items", {}), root, depth + 1) for _ in range(least)]
    if kind == "object" or "properties" in schema:
        parts = schema.get("properties", {})
        return {name: _filled(part, root, depth + 1) for name, part in parts.items()}
    least = schema.get("minimum", 1)
    plain = {"string": "sun", "integer": int(least), "number": float(least), "boolean": True}
    return plain.get(str(kind))


def _vectors(given: object) -> list[list[float]]:
    texts = given if type(given) is list else [given]
    if texts and type(texts[0]) is int:
        texts = [texts]
    return [_vector(orjson.dumps(text)) for text in texts]


def _vector(text: bytes) -> list[float]:
    return [zlib.crc32(text, place) % 2000 / 1000 - 1 for place in range(_DIMENSION)]


def _odds(toss: int, options: int) -> list[float]:
    weights = [1 + (toss >> place) % 7 for place in range(options)]
    return [weight / sum(weights) for weight in weights]


def read_said(body: bytes) -> dict[str, Any]:
    """The request as an object; CallerError where it is none."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CallerError(f"the body is no JSON ({error}); send an object") from error
    if type(said) is not dict:
        raise CallerError("the body is no JSON object; send one")
    return said
