"""Reads Anthropic Messages bodies."""

from __future__ import annotations

from typing import Any

from stillhouse.core.traffic import Completion, Message, Request
from stillhouse.logs.content import Body, answer_form, text_of, tool_call, tool_names
from stillhouse.logs.openai_chat import messages_of
from stillhouse.logs.values import RowError, as_text, shown


def request_of(body: Body) -> Request:
    """Read the request body of a message; the system prompt becomes the first turn.

    >>> turns = [{"role": "user", "content": "Hi"}]
    >>> request_of({"system": [{"type": "text", "text": "Be brief."}], "messages": turns}).messages
    (Message(role='system', text='Be brief.'), Message(role='user', text='Hi'))
    """
    messages = messages_of(body.get("messages"))
    system = text_of(body.get("system"))
    if system:
        messages = (Message("system", system), *messages)
    wanted = body.get("output_format") or (body.get("output_config") or {}).get("format")
    return Request(messages, tool_names(body.get("tools")), answer_form(wanted))


def completion_of(body: Body) -> Completion:
    """Read the content blocks of an answer: text joined, thinking left out, tool calls apart.

    >>> block = {"type": "tool_use", "name": "refund", "input": {"order": 7}}
    >>> completion_of({"content": [block], "stop_reason": "tool_use"})
    Completion(text='', tool='refund', tool_arguments='{"order":7}', finish='tool_use')
    """
    blocks: Any = body.get("content")
    if type(blocks) is not list:
        raise RowError(f"the response's content is {shown(blocks)}, not a list of blocks")
    texts = [block for block in blocks if block.get("type") == "text"]
    calls = [(b.get("name"), b.get("input")) for b in blocks if b.get("type") == "tool_use"]
    tool, arguments = tool_call(calls) if calls else ("", "")
    return Completion(
        text_of(texts, ""), tool, arguments, as_text(body.get("stop_reason"), "stop_reason")
    )
