"""Reads OpenAI stored completions: each line a stored chat completion with its messages."""

from __future__ import annotations

from stillhouse.core.traffic import LoggedCall
from stillhouse.logs.bodies import call_of
from stillhouse.logs.content import Body


def is_stored(row: Body) -> bool:
    """Whether a row is a stored completion, request and answer in one object."""
    return "choices" in row and ("messages" in row or "input" in row)


def read_stored(row: Body, line: int) -> LoggedCall:
    """Read one stored completion; its turns stand in `messages` or `input`, as a list or a page.

    >>> turns = {"object": "list", "data": [{"role": "user", "content": "2+2"}]}
    >>> answer = [{"message": {"content": "4"}, "finish_reason": "stop"}]
    >>> call = read_stored({"id": "chatcmpl-1", "messages": turns, "choices": answer}, 1)
    >>> call.declared_id, call.request.messages[0].text
    ('chatcmpl-1', '2+2')
    """
    turns = row.get("messages") or row.get("input")
    if type(turns) is dict:
        turns = turns.get("data")
    return call_of(line, row, {**row, "messages": turns}, row, failed=False)
