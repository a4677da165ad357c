"""Keeps reasoning in Responses items, with Claude's signed blocks as the encrypted content."""

from __future__ import annotations

from stillhouse.core.errors import CallerError
from stillhouse.dialects.translate_json import Body, dump, load, objects, text

_MARK = "thinking_blocks:"
"""Begins an encrypted content that holds blocks as a chat message has them, and nobody else's."""


def encrypted(blocks: list[Body]) -> str:
    """Write thinking blocks as the text that a caller hands back unread.

    >>> encrypted([{"type": "redacted_thinking", "data": "x"}])
    'thinking_blocks:{"blocks":[{"type":"redacted_thinking","data":"x"}]}'
    """
    return _MARK + dump({"blocks": blocks}).decode()


def of_item(item: Body, where: str) -> Body:
    """Read a reasoning item: the fields to add to a chat message.

    >>> of_item({"summary": [{"type": "summary_text", "text": "Hm."}]}, "input[0]")
    {'reasoning_content': 'Hm.'}
    """
    said: Body = {}
    parts = item.get("content") or item.get("summary") or []
    told = [text(part.get("text"), f"{where}.text") for part in objects(parts, f"{where}.content")]
    if any(told):
        said["reasoning_content"] = "".join(told)
    kept = item.get("encrypted_content")
    if type(kept) is str and kept.startswith(_MARK):
        try:
            held = load(kept[len(_MARK) :].encode("utf-8", "surrogatepass"), "it")
        except CallerError:
            raise CallerError(
                f"{where}.encrypted_content is not as it was given; send it back unchanged"
            ) from None
        said["thinking_blocks"] = objects(held.get("blocks"), f"{where}.encrypted_content")
    return said
