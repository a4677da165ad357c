"""Joins the events of a stream to the body that the same call would have given in one piece.

What a dialect adds later passes through by rule: of unknown members, texts are joined, lists with
an `index` are merged by it, everything else is replaced. A stream that broke off gives a partial
body, with no finish reason and no usage; an error event stays in it as `error`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from stillhouse.core.catalogue import Wire
from stillhouse.dialects import sse
from stillhouse.dialects.deltas import Json, merged_usage, objects, payloads

_REPLACED = frozenset({"role", "id", "type", "name", "index", "format", "call_id"})
"""Texts that are said once: an upstream that repeats them does not mean to append."""


def assemble(stream: bytes, wire: Wire) -> bytes:
    r"""Join a stream's events to one body; whatever is no JSON object in it is passed over.

    >>> one = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "He"}}]}\n\n'
    >>> two = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "y"}}]}\n\n'
    >>> json.loads(assemble(one + two, Wire.CHAT))["choices"][0]["message"]
    {'content': 'Hey', 'role': 'assistant'}
    """
    said = payloads(sse.events(stream))
    if wire is Wire.MESSAGES:
        body = _messages(said)
    elif wire is Wire.RESPONSES:
        body = _responses(said)
    else:
        body = _chat(said)
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:  # half a surrogate pair, which has no UTF-8
        return json.dumps(body, separators=(",", ":")).encode("ascii")


def _chat(chunks: Iterator[Json]) -> Json:
    body: Json = {}
    choices: dict[int, Json] = {}
    for chunk in chunks:
        for choice in objects(chunk.pop("choices", None)):
            at = choice.get("index")
            known = choices.setdefault(at if type(at) is int else 0, {})
            deltas = objects([choice.pop("delta", None), choice.pop("message", None)])
            _extend(known.setdefault("message", {}), deltas[0] if deltas else {})
            logprobs = choice.pop("logprobs", None)
            _extend(known, {"logprobs": logprobs})
            known.update((n, v) for n, v in choice.items() if v is not None or n not in known)
        body.update((n, v) for n, v in chunk.items() if v is not None or n not in body)
    if body.get("object") == "chat.completion.chunk":
        body["object"] = "chat.completion"
    body["choices"] = [_chat_choice(choices[at], at) for at in sorted(choices)]
    return body


def _chat_choice(choice: Json, at: int) -> Json:
    message = choice["message"]
    message["role"] = message.get("role") or "assistant"
    message.setdefault("content", None)
    for call in objects(message.get("tool_calls")):
        call.pop("index", None)
    return {"index": at, "finish_reason": None, **choice}


def _extend(known: Json, delta: Json) -> None:
    """Add one delta to what came before it, in place."""
    for name, value in delta.items():
        before = known.get(name)
        if before is None:
            known[name] = _fresh(value)
        elif value is None:
            continue
        elif type(before) is str and type(value) is str:
            known[name] = (value or before) if name in _REPLACED else before + value
        elif type(before) is list and type(value) is list:
            _extend_list(before, value)
        elif type(before) is dict and type(value) is dict:
            _extend(before, value)
        else:
            known[name] = value


def _fresh(value: Any) -> Any:
    if type(value) is list:
        known: list[Any] = []
        _extend_list(known, value)
        return known
    return value


def _extend_list(known: list[Any], more: list[Any]) -> None:
    for item in more:
        at = item.get("index") if type(item) is dict else None
        same = (
            None if at is None else next((k for k in objects(known) if k.get("index") == at), None)
        )
        if same is None:
            known.append(item)
        else:
            _extend(same, item)


def _messages(events: Iterator[Json]) -> Json:
    body: Json = {}
    blocks: dict[int, Json] = {}
    inputs: dict[int, str] = {}
    for event in events:
        kind, at = event.get("type"), event.get("index")
        if kind == "message_start" and type(event.get("message")) is dict:
            body = event["message"]
        elif kind == "content_block_start" and type(event.get("content_block")) is dict:
            blocks[_place(at, blocks)] = event["content_block"]
        elif kind == "content_block_delta" and type(event.get("delta")) is dict:
            place = at if type(at) is int else 0
            _add_to_block(blocks.setdefault(place, {}), event["delta"], inputs, place)
        elif kind == "message_delta":
            delta = event.get("delta")
            body.update(delta if type(delta) is dict else {})
            before = body.get("usage")
            usage = merged_usage(before if type(before) is dict else None, event.get("usage"))
            others = {n: v for n, v in event.items() if n not in ("type", "delta", "usage")}
            body.update(others if usage is None else {**others, "usage": usage})
        elif kind == "error":
            body["error"] = event.get("error")
    for at, text in inputs.items():
        blocks[at]["input"] = _parsed(text)
    if blocks or body.get("content") == []:
        body["content"] = [blocks[at] for at in sorted(blocks)]
    return body


def _place(at: object, taken: dict[int, Json]) -> int:
    return at if type(at) is int else len(taken)


def _add_to_block(block: Json, delta: Json, inputs: dict[int, str], at: int) -> None:
    kind = delta.pop("type", None)
    if kind == "input_json_delta":
        inputs[at] = inputs.get(at, "") + str(delta.get("partial_json") or "")
    elif kind == "citations_delta":
        block["citations"] = [*objects(block.get("citations")), delta.get("citation")]
    else:
        _extend(block, delta)


def _parsed(text: str) -> object:
    """A tool's input; where the stream broke off inside it, the text that came."""
    try:
        return json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return text


_TEXT_DELTAS = {
    "response.output_text.delta": ("content", "content_index", "text"),
    "response.refusal.delta": ("content", "content_index", "refusal"),
    "response.reasoning_text.delta": ("content", "content_index", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", "text"),
}
_ITEM_DELTAS = {
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.code_interpreter_call_code.delta": "code",
}
_PARTS = {
    "response.content_part.added": ("content", "content_index"),
    "response.content_part.done": ("content", "content_index"),
    "response.reasoning_summary_part.added": ("summary", "summary_index"),
    "response.reasoning_summary_part.done": ("summary", "summary_index"),
}


def _responses(events: Iterator[Json]) -> Json:
    """The terminal event holds the whole body; until it comes, items are put together."""
    body: Json = {}
    items: dict[int, Json] = {}
    for event in events:
        kind, at = str(event.get("type")), event.get("output_index")
        if type(event.get("response")) is dict:
            body = event["response"]
        elif kind == "error":
            named = {n: event[n] for n in ("code", "message", "param") if n in event}
            body["error"] = event.get("error") or named
        elif type(at) is int:
            if kind in ("response.output_item.added", "response.output_item.done"):
                if type(event.get("item")) is dict:
                    items[at] = event["item"]
            else:
                _add_to_item(items.setdefault(at, {}), kind, event)
    if items and not body.get("output"):
        body["output"] = [items[at] for at in sorted(items)]
    return body


def _add_to_item(item: Json, kind: str, event: Json) -> None:
    delta = event.get("delta")
    if kind in _PARTS and type(event.get("part")) is dict:
        holder, place = _PARTS[kind]
        part = _part(item, holder, event.get(place))
        part.clear()
        part.update(event["part"])
    elif kind in _TEXT_DELTAS and type(delta) is str:
        holder, place, name = _TEXT_DELTAS[kind]
        _extend(_part(item, holder, event.get(place)), {name: delta})
    elif kind in _ITEM_DELTAS and type(delta) is str:
        _extend(item, {_ITEM_DELTAS[kind]: delta})
    elif kind == "response.output_text.annotation.added":
        part = _part(item, "content", event.get("content_index"))
        part["annotations"] = [*objects(part.get("annotations")), event.get("annotation")]


def _part(item: Json, holder: str, place: object) -> Json:
    parts = item.get(holder)
    if type(parts) is not list:
        parts = item[holder] = []
    at = place if type(place) is int and 0 <= place <= len(parts) else len(parts)
    if at == len(parts):
        parts.append({})
    part = parts[at]
    if type(part) is not dict:
        part = parts[at] = {}
    return part
