"""Keeps Claude's thinking in chat messages, where it has to come back unchanged and in order.

A chat message carries the text as `reasoning_content`, for people, and the signed blocks as
`thinking_blocks`, as LiteLLM has them, each with the `index` at which it stood in the turn.
"""

from __future__ import annotations

from stillhouse.dialects.translate_json import Body

THINKING = ("thinking", "redacted_thinking")


def thinking_of(content: list[Body]) -> Body:
    """Take the thinking out of Anthropic blocks: the fields to add to a chat message.

    Blocks without a signature came from no Claude, and nobody asks for them back.

    >>> thinking_of([{"type": "thinking", "thinking": "Hm.", "signature": "s"}])
    {'reasoning_content': 'Hm.', 'thinking_blocks':
     [{'type': 'thinking', 'thinking': 'Hm.', 'signature': 's', 'index': 0}]}
    """
    said: Body = {}
    texts = [block["thinking"] for block in content if type(block.get("thinking")) is str]
    if any(texts):
        said["reasoning_content"] = "".join(texts)
    kept = [
        kept_block(block, at)
        for at, block in enumerate(content)
        if block.get("type") in THINKING and (block.get("signature") or block.get("data"))
    ]
    if kept:
        said["thinking_blocks"] = kept
    return said


def kept_block(block: Body, index: int) -> Body:
    """Write one thinking block as a chat message keeps it."""
    names = ("type", "thinking", "signature", "data")
    return {name: block[name] for name in names if name in block} | {"index": index}


def with_thinking(said: list[Body], kept: list[Body]) -> list[Body]:
    """Put kept thinking blocks back where they stood; those without an index lead the turn.

    Thinking without a signature is left out, since Anthropic would refuse it.

    >>> with_thinking([{"type": "tool_use", "id": "a"}, {"type": "tool_use", "id": "b"}],
    ...     [{"type": "redacted_thinking", "data": "1", "index": 0},
    ...      {"type": "redacted_thinking", "data": "2", "index": 2}])
    [{'type': 'redacted_thinking', 'data': '1'}, {'type': 'tool_use', 'id': 'a'},
     {'type': 'redacted_thinking', 'data': '2'}, {'type': 'tool_use', 'id': 'b'}]
    """
    whole = list(said)
    for order, block in enumerate(kept):
        if block.get("type") not in THINKING or not (block.get("signature") or block.get("data")):
            continue
        index = block.get("index")
        at = index if type(index) is int and index >= order else order
        whole.insert(at, {name: value for name, value in block.items() if name != "index"})
    return whole
