"""Reads OpenAI Responses bodies."""

from __future__ import annotations

from typing import Any

from stillhouse.core.traffic import Completion, Message, Request
from stillhouse.logs.content import Body, answer_form, text_of, tool_call, tool_names, tool_tag
from stillhouse.logs.openai_chat import messages_of
from stillhouse.logs.values import RowError, as_text, shown


def request_of(body: Body) -> Request:
    """Read the request body of a response; `instructions` become the first turn.

    >>> request_of({"instructions": "Be brief.", "input": "Hi"}).messages
    (Message(role='system', text='Be brief.'), Message(role='user', text='Hi'))
    """
    given: Any = body.get("input")
    messages: tuple[Message, ...]
    if type(given) is str:
        messages = (Message("user", given),)
    elif type(given) is list and given:
        messages = tuple([turn for item in given for turn in _turns_of(item)])
    else:
        raise RowError(f"the request's input is {shown(given)}, neither text nor items")
    instructions = text_of(body.get("instructions"))
    if instructions:
        messages = (Message("system", instructions), *messages)
    wanted = (body.get("text") or {}).get("format")
    return Request(messages, tool_names(body.get("tools")), answer_form(wanted))


def _turns_of(item: Body) -> tuple[Message, ...]:
    """The turn that an input item stands for; reasoning items stand for none."""
    if "role" in item:
        return messages_of([item])
    kind = as_text(item.get("type"), "the type of an input item")
    if kind == "function_call":
        return (Message("assistant", tool_tag(item.get("name"))),)
    if kind == "function_call_output":
        return (Message("tool", text_of(item.get("output"))),)
    return () if kind == "reasoning" else (Message("assistant", f"[{kind}]"),)


def completion_of(body: Body) -> Completion:
    """Read the output items of a response: text joined, reasoning left out, tool calls apart.

    >>> part = {"type": "output_text", "text": "Yes."}
    >>> completion_of({"output": [{"type": "message", "content": [part]}], "status": "completed"})
    Completion(text='Yes.', tool='', tool_arguments='', finish='completed')
    """
    items: Any = body.get("output")
    if type(items) is not list:
        raise RowError(f"the response's output is {shown(items)}, not a list of items")
    parts = [
        p for item in items if item.get("type") == "message" for p in item.get("content") or ()
    ]
    calls = [(i.get("name"), i.get("arguments")) for i in items if i.get("type") == "function_call"]
    tool, arguments = tool_call(calls) if calls else ("", "")
    return Completion(text_of(parts, ""), tool, arguments, _finish_of(body, parts))


def _finish_of(body: Body, parts: list[Body]) -> str:
    if any(part.get("type") == "refusal" for part in parts):
        return "refusal"
    cut_off = (body.get("incomplete_details") or {}).get("reason")
    return as_text(cut_off or body.get("status"), "status")
