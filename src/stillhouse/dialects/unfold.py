"""Takes a whole answer apart into the events of a stream: for recorded and scripted answers.

The opposite of `assemble`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.dialects import sse
from stillhouse.dialects.deltas import Json, objects, texts

_PIECES = 4


def unfold(body: Json, wire: Wire) -> list[bytes]:
    """Write a body as the events of the stream that it would have been, one event per item.

    Raises CallerError for a format that does not stream.

    >>> message = {"role": "assistant", "content": "Hi"}
    >>> events = unfold({"choices": [{"message": message, "finish_reason": "stop"}]}, Wire.CHAT)
    >>> len(events), events[-1]
    (4, b'data: [DONE]\\n\\n')
    """
    if wire is Wire.CHAT:
        events = [sse.encode("", msgspec.json.encode(chunk)) for chunk in _chat(body)]
        return [*events, sse.encode("", b"[DONE]")]
    if wire is Wire.MESSAGES:
        named = _messages(body)
    elif wire is Wire.RESPONSES:
        named = _numbered(_responses(body))
    else:
        raise CallerError(f"{wire.value} answers do not stream; ask without `stream`")
    return [sse.encode(event["type"], msgspec.json.encode(event)) for event in named]


def text_answered(body: bytes, wire: Wire) -> str:
    """The text that a whole answer generated, reasoning and tool arguments included.

    >>> text_answered(b'{"choices": [{"message": {"content": "Hi"}}]}', Wire.CHAT)
    'Hi'
    """
    try:
        events = unfold(json.loads(body), wire)
    except (CallerError, ValueError, TypeError, KeyError, AttributeError):
        return ""
    return "".join(texts(sse.events(b"".join(events)), wire))


def pieces(text: str) -> list[str]:
    """Cut a text into a few pieces, at spaces where it has them; none for an empty one.

    >>> pieces("the quick brown fox jumps")
    ['the quick', ' brown fox', ' jumps']
    """
    found: list[str] = []
    while text:
        size = max(8, -(-len(text) // (_PIECES - len(found))))
        space = text.find(" ", size)
        cut = space if len(found) < _PIECES - 1 and 0 <= space < 2 * size else size
        found.append(text[:cut])
        text = text[cut:]
    return found


def _chat(body: Json) -> Iterator[Json]:
    head = {n: v for n, v in body.items() if n not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"
    usage = body.get("usage")
    # As OpenAI does where the usage is asked for: null in all chunks but the last.
    blank: Json = {} if usage is None else {"usage": None}
    for choice in objects(body.get("choices")):
        at = choice.get("index", 0)
        kept = {n: v for n, v in choice.items() if n not in ("index", "message", "finish_reason")}
        for delta in _chat_deltas(choice.get("message") or {}):
            one = {"index": at, "delta": delta, **kept, "finish_reason": None}
            yield {**head, "choices": [one], **blank}
        last = {"index": at, "delta": {}, **kept, "finish_reason": choice.get("finish_reason")}
        yield {**head, "choices": [last], **blank}
    if usage is not None:
        yield {**head, "choices": [], "usage": usage}


def _chat_deltas(message: Json) -> Iterator[Json]:
    first: Json = {"role": message.get("role", "assistant")}
    rest = {n: v for n, v in message.items() if n not in ("role", "tool_calls")}
    texts = {n: v for n, v in rest.items() if type(v) is str and v}
    yield first | {n: ("" if n in texts else v) for n, v in rest.items()}
    for name, text in texts.items():
        for piece in pieces(text):
            yield {name: piece}
    for at, call in enumerate(objects(message.get("tool_calls"))):
        function = call.get("function") or {}
        opened = {**call, "index": at}
        if function:
            opened["function"] = {**function, "arguments": ""}
        yield {"tool_calls": [opened]}
        for piece in pieces(str(function.get("arguments") or "")):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}


def _messages(body: Json) -> Iterator[Json]:
    ending = ("stop_reason", "stop_sequence", "stop_details", "container")
    usage = body.get("usage")
    start: Json = {**body, "content": [], **{n: None for n in ending if n in body}}
    if type(usage) is dict:
        begun = {n: count for n, count in usage.items() if n != "output_tokens_details"}
        start["usage"] = {**begun, "output_tokens": 1 if usage.get("output_tokens") else 0}
    yield {"type": "message_start", "message": start}
    for at, block in enumerate(objects(body.get("content"))):
        empty, deltas = _block(block)
        yield {"type": "content_block_start", "index": at, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": at, "delta": delta}
        yield {"type": "content_block_stop", "index": at}
    last: Json = {"type": "message_delta", "delta": {n: body[n] for n in ending if n in body}}
    if type(usage) is dict:
        counted = {n: usage[n] for n in _CUMULATIVE if n in usage}
        last["usage"] = {"output_tokens": 0, **counted}
    yield last
    yield {"type": "message_stop"}


_CUMULATIVE = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
)


def _block(block: Json) -> tuple[Json, list[Json]]:
    """A content block as it begins, and the deltas that fill it."""
    kind = block.get("type")
    if kind == "text":
        said = [{"type": "text_delta", "text": p} for p in pieces(str(block.get("text") or ""))]
        return {**block, "text": ""}, said
    if kind == "thinking":
        thought = [
            {"type": "thinking_delta", "thinking": p}
            for p in pieces(str(block.get("thinking") or ""))
        ]
        signed = {"type": "signature_delta", "signature": block.get("signature") or ""}
        return {**block, "thinking": "", "signature": ""}, [*thought, signed]
    if "input" in block:
        text = json.dumps(block["input"], ensure_ascii=False)
        given = [{"type": "input_json_delta", "partial_json": p} for p in ["", *pieces(text)]]
        return {**block, "input": {}}, given
    return block, []


def _numbered(events: Iterator[Json]) -> Iterator[Json]:
    for number, event in enumerate(events):
        yield {"type": event["type"], "sequence_number": number, **event}


def _responses(body: Json) -> Iterator[Json]:
    begun = {**body, "status": "in_progress", "output": [], "usage": None}
    begun |= {n: None for n in ("completed_at", "incomplete_details", "error") if n in body}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for at, item in enumerate(objects(body.get("output"))):
        yield from _item(item, at)
    status = body.get("status")
    end = status if status in ("incomplete", "failed") else "completed"
    yield {"type": f"response.{end}", "response": body}


def _item(item: Json, at: int) -> Iterator[Json]:
    opened: Json = {**item, "status": "in_progress"} if "status" in item else dict(item)
    place: Json = {"item_id": item.get("id", ""), "output_index": at}
    if item.get("type") == "message":
        opened["content"] = []
    elif item.get("type") == "function_call":
        opened["arguments"] = ""
    yield {"type": "response.output_item.added", "output_index": at, "item": opened}
    if item.get("type") == "message":
        for number, part in enumerate(objects(item.get("content"))):
            yield from _content(part, {**place, "content_index": number})
    elif item.get("type") == "function_call":
        text, kind = str(item.get("arguments") or ""), "response.function_call_arguments"
        for piece in pieces(text):
            yield {"type": f"{kind}.delta", **place, "delta": piece}
        yield {"type": f"{kind}.done", **place, "name": item.get("name", ""), "arguments": text}
    yield {"type": "response.output_item.done", "output_index": at, "item": item}


def _content(part: Json, place: Json) -> Iterator[Json]:
    name = "refusal" if part.get("type") == "refusal" else "text"
    kind = "response.refusal" if name == "refusal" else "response.output_text"
    text = str(part.get(name) or "")
    extra: dict[str, Any] = {} if name == "refusal" else {"logprobs": []}
    yield {"type": "response.content_part.added", **place, "part": {**part, name: ""}}
    for piece in pieces(text):
        yield {"type": f"{kind}.delta", **place, "delta": piece, **extra}
    yield {"type": f"{kind}.done", **place, name: text, **extra}
    yield {"type": "response.content_part.done", **place, "part": part}
