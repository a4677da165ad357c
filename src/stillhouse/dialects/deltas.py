"""The pieces that a streaming answer comes in: parsed payloads, and the text in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from stillhouse.core.catalogue import Wire
from stillhouse.dialects.sse import Event

Json = dict[str, Any]

CHAT_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
"""The members of a chat delta that hold generated text, whichever vendor's."""

_MESSAGES_TEXTS = ("text", "thinking", "partial_json")


def payloads(events: Iterable[Event]) -> Iterator[Json]:
    """The JSON objects that the events carry; what is none is passed over.

    >>> list(payloads([Event("", b'{"a": 1}'), Event("", b"[DONE]")]))
    [{'a': 1}]
    """
    for event in events:
        try:
            said = json.loads(event.data)
        except (ValueError, RecursionError):
            continue
        if type(said) is dict:
            yield said


def objects(value: object) -> list[Json]:
    """The objects of a list; empty for whatever else stands where a list should.

    >>> objects([{"a": 1}, None]), objects(None)
    ([{'a': 1}], [])
    """
    return [item for item in value if type(item) is dict] if type(value) is list else []


def texts(events: Iterable[Event], wire: Wire) -> Iterator[str]:
    """The text that a stream generated, piece by piece, reasoning and tool arguments included.

    >>> chunk = b'{"choices": [{"delta": {"content": "Hi", "role": "assistant"}}]}'
    >>> list(texts([Event("", chunk)], Wire.CHAT))
    ['Hi']
    """
    said = payloads(events)
    if wire is Wire.RESPONSES:
        # Each delta comes once as `....delta` and again, joined, in `....done` and at the end.
        found = (
            event.get("delta") for event in said if str(event.get("type", "")).endswith(".delta")
        )
    elif wire is Wire.MESSAGES:
        found = (piece for event in said for piece in _in_block(event))
    else:
        found = (
            piece
            for event in said
            for choice in objects(event.get("choices"))
            for piece in in_delta(choice.get("delta"))
        )
    return (piece for piece in found if type(piece) is str)


def in_delta(delta: object) -> Iterator[object]:
    """What one chat delta, or a whole chat message, holds of generated text."""
    if type(delta) is not dict:
        return
    for name in CHAT_TEXTS:
        yield delta.get(name)
    for call in (*objects(delta.get("tool_calls")), {"function": delta.get("function_call")}):
        chosen = call.get("function") or call.get("custom")
        if type(chosen) is dict:
            yield chosen.get("name")
            yield chosen.get("arguments", chosen.get("input"))


def _in_block(event: Json) -> Iterator[object]:
    begun = event.get("content_block")
    if type(begun) is dict:
        yield begun.get("name")
        yield begun.get("text")
    delta = event.get("delta")
    if type(delta) is dict:
        for name in _MESSAGES_TEXTS:
            yield delta.get(name)


def merged_usage(usage: Json | None, later: object) -> Json | None:
    """Counts of a `message_delta` are cumulative: each replaces what `message_start` said.

    A later 0 does not take away input that was already counted: some upstreams send the field
    without having counted again.

    >>> merged_usage({"input_tokens": 9}, {"input_tokens": 0, "output_tokens": 5})
    {'input_tokens': 9, 'output_tokens': 5}
    """
    if type(later) is not dict:
        return usage
    if usage is None:
        return dict(later)
    for name, value in later.items():
        if value is None or (value == 0 and name != "output_tokens" and usage.get(name)):
            continue
        usage[name] = value
    return usage
