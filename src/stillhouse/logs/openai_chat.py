"""Reads OpenAI chat bodies: also what most other providers and gateways speak."""

from __future__ import annotations

from typing import Any

from stillhouse.core.traffic import Completion, Message, Request
from stillhouse.logs.content import Body, answer_form, text_of, tool_call, tool_names, tool_tag
from stillhouse.logs.values import RowError, as_text, shown


def request_of(body: Body) -> Request:
    """Read the request body of a chat completion.

    >>> request_of({"messages": [{"role": "user", "content": "Hi"}]}).messages
    (Message(role='user', text='Hi'),)
    """
    return Request(
        messages=messages_of(body.get("messages")),
        tools=tool_names(body.get("tools") or body.get("functions")),
        response_format=answer_form(body.get("response_format")),
    )


def messages_of(turns: Any) -> tuple[Message, ...]:
    """Read the turns of a conversation; `developer` is today's word for `system`."""
    if type(turns) is not list or not turns:
        raise RowError(f"the request's messages are {shown(turns)}, not a list of turns")
    return tuple([_message_of(turn) for turn in turns])


def _message_of(turn: Body) -> Message:
    role = turn.get("role")
    if type(role) is not str:
        raise RowError(f"a message has the role {shown(role)}; it needs one, as user or system")
    text = text_of(turn.get("content"))
    calls = _calls_of(turn) if role == "assistant" else ()
    if calls:
        text = "\n".join(filter(None, (text, *(tool_tag(name) for name, _ in calls))))
    return Message("system" if role == "developer" else role, text)


def _calls_of(message: Body) -> list[tuple[object, object]]:
    """Name and arguments of each tool call of a turn, older `function_call` included."""
    calls = message.get("tool_calls")
    if not calls:
        older = message.get("function_call")
        return [(older.get("name"), older.get("arguments"))] if older else []
    chosen = [call.get("function") or call["custom"] for call in calls]
    return [(tool.get("name"), tool.get("arguments", tool.get("input"))) for tool in chosen]


def completion_of(body: Body) -> Completion:
    """Read the first choice of a chat completion; a refusal has `finish` set to `refusal`.

    >>> completion_of({"choices": [{"message": {"content": "No."}, "finish_reason": "stop"}]})
    Completion(text='No.', tool='', tool_arguments='', finish='stop')
    """
    choices = body.get("choices")
    if type(choices) is not list or not choices:
        raise RowError(f"the response's choices are {shown(choices)}; it needs one")
    choice = choices[0]
    message = choice.get("message")
    if type(message) is not dict:
        raise RowError("the response has no message; log whole answers, not streamed chunks")
    refusal = message.get("refusal")
    if refusal:
        return Completion(text=as_text(refusal, "refusal"), finish="refusal")
    text = text_of(message.get("content"), "")
    calls = _calls_of(message)
    tool, arguments = tool_call(calls) if calls else ("", "")
    return Completion(text, tool, arguments, as_text(choice.get("finish_reason"), "finish_reason"))
