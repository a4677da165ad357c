"""Writes an answer in a caller's format, whole or as a stream: replayed, scripted or a student's.

The bodies hold every member that the vendors' schemas require, so that their SDKs and strict
validators take them for the vendor's own. A stream is the whole body taken apart: joined again by
`assemble` it is the same body.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import Completion, Usage
from stillhouse.dialects.unfold import unfold

Json = dict[str, Any]

_FINISHES: Mapping[str, str] = {
    "stop": "stop",
    "end_turn": "stop",
    "completed": "stop",
    "stop_sequence": "stop",
    "": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool",
    "tool_use": "tool",
    "function_call": "tool",
    "content_filter": "filter",
    "refusal": "refusal",
}
"""What the dialects call the end of an answer, in one word each."""

_CHAT_FINISH = {"length": "length", "tool": "tool_calls", "filter": "content_filter"}
_MESSAGES_STOP = {
    "length": "max_tokens",
    "tool": "tool_use",
    "filter": "refusal",
    "refusal": "refusal",
}


def render_body(
    wire: Wire,
    answer: Completion,
    *,
    answer_id: str,
    model: str,
    usage: Usage | None,
    created_s: int,
    note: Mapping[str, str] | None = None,
) -> bytes:
    """Write a whole answer.

    `usage` None leaves the usage out, as an upstream does that counts nothing. A `note` on who
    answered stands where the format has room for it: under `stillhouse`, or in the metadata. For
    embeddings `answer.text` is a JSON list of vectors, for decisions the JSON of the `answers`.
    Raises CallerError where that text is something else.

    >>> body = render_body(Wire.CHAT, Completion("Yes."), answer_id="1", model="m", usage=None,
    ...                    created_s=0)
    >>> json.loads(body)["choices"][0]["message"]["content"]
    'Yes.'
    """
    body = _BODIES[wire](answer, answer_id, model, usage, created_s)
    return msgspec.json.encode(_noted(body, wire, note))


def render_stream(
    wire: Wire,
    answer: Completion,
    *,
    answer_id: str,
    model: str,
    usage: Usage | None,
    created_s: int,
    note: Mapping[str, str] | None = None,
) -> list[bytes]:
    """Write an answer as a stream, one event per item; text comes in a few pieces.

    Raises CallerError for a format that does not stream.
    """
    body = _BODIES[wire](answer, answer_id, model, usage, created_s)
    return unfold(_noted(body, wire, note), wire)


def _noted(body: Json, wire: Wire, note: Mapping[str, str] | None) -> Json:
    if note is None:
        return body
    if wire is Wire.RESPONSES:  # knows a place for what others add
        return {**body, "metadata": {f"stillhouse_{name}": said for name, said in note.items()}}
    return {**body, "stillhouse": dict(note)}


def usage_body(wire: Wire, usage: Usage) -> Json:
    """Write counts in a format's own usage object; `ledger.usage.decompose` reads them back.

    Only Anthropic tells the lifetimes of cache writes apart; elsewhere they are one count.

    >>> usage_body(Wire.MESSAGES, Usage(input_tokens=5, output_tokens=2))["input_tokens"]
    5
    """
    if wire is Wire.MESSAGES:
        return _usage_messages(usage)
    into, out = usage.total_input_tokens, usage.total_output_tokens
    read = usage.cache_read_tokens + usage.cache_audio_read_tokens
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    given: Json = {"cached_tokens": read, "cache_write_tokens": written}
    audio = usage.input_audio_tokens + usage.cache_audio_read_tokens
    if audio or usage.input_image_tokens:
        given |= {"audio_tokens": audio, "image_tokens": usage.input_image_tokens}
        if read:
            given["cached_tokens_details"] = {"audio_tokens": usage.cache_audio_read_tokens}
    made: Json = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.output_audio_tokens or usage.output_image_tokens:
        made["audio_tokens"] = usage.output_audio_tokens
        made["image_tokens"] = usage.output_image_tokens
    if wire is Wire.EMBEDDINGS:
        return {"prompt_tokens": into, "total_tokens": into}
    if wire is Wire.CHAT:
        return {
            "prompt_tokens": into,
            "completion_tokens": out,
            "total_tokens": into + out,
            "prompt_tokens_details": given,
            "completion_tokens_details": made,
        }
    if wire is Wire.SYSTEMONE:
        return {"input_tokens": into, "output_tokens": out}
    return {
        "input_tokens": into,
        "input_tokens_details": given,
        "output_tokens": out,
        "output_tokens_details": made,
        "total_tokens": into + out,
    }


def _usage_messages(usage: Usage) -> Json:
    searches = usage.web_searches
    return {
        "input_tokens": usage.input_tokens + usage.input_audio_tokens + usage.input_image_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens + usage.cache_audio_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.total_output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        "server_tool_use": (
            {"web_search_requests": searches, "web_fetch_requests": 0} if searches else None
        ),
        "service_tier": "standard",
        "inference_geo": None,
    }


def _calls(answer: Completion) -> list[tuple[str, str]]:
    """Name and arguments of each tool call; several are kept joined, arguments as a JSON list."""
    if not answer.tool:
        return []
    names = answer.tool.split(", ")
    if len(names) > 1:
        try:
            given = json.loads(answer.tool_arguments)
        except ValueError:
            given = None
        if type(given) is list and len(given) == len(names):
            return [(name, _as_json(one)) for name, one in zip(names, given, strict=True)]
    return [(answer.tool, answer.tool_arguments or "{}")]


def _as_json(value: object) -> str:
    return value if type(value) is str else json.dumps(value, ensure_ascii=False)


def _finish(answer: Completion) -> str:
    finish = _FINISHES.get(answer.finish, "stop")
    return "tool" if answer.tool and finish == "stop" else finish


def _prefixed(prefix: str, answer_id: str) -> str:
    return answer_id if answer_id.startswith(prefix) else prefix + answer_id


def _chat(answer: Completion, answer_id: str, model: str, usage: Usage | None, at: int) -> Json:
    finish = _finish(answer)
    refused = finish == "refusal"
    message: Json = {
        "role": "assistant",
        "content": None if refused or (answer.tool and not answer.text) else answer.text,
        "refusal": answer.text if refused else None,
        "annotations": [],
    }
    if answer.tool:
        message["tool_calls"] = [
            {
                "id": f"call_{answer_id}_{number}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for number, (name, arguments) in enumerate(_calls(answer))
        ]
    reason = _CHAT_FINISH.get(finish, "stop")
    body: Json = {
        "id": _prefixed("chatcmpl-", answer_id),
        "object": "chat.completion",
        "created": at,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
    }
    if usage is not None:
        body["usage"] = usage_body(Wire.CHAT, usage)
    return body


def _messages(answer: Completion, answer_id: str, model: str, usage: Usage | None, at: int) -> Json:
    content: list[Json] = []
    if answer.text or not answer.tool:
        content.append({"type": "text", "text": answer.text, "citations": None})
    for number, (name, arguments) in enumerate(_calls(answer)):
        try:
            given = json.loads(arguments)
        except ValueError:
            given = {"arguments": arguments}  # the format has room for an object only
        content.append(
            {
                "type": "tool_use",
                "id": f"toolu_{answer_id}_{number}",
                "name": name,
                "input": given if type(given) is dict else {"arguments": given},
                "caller": {"type": "direct"},
            }
        )
    body: Json = {
        "id": _prefixed("msg_", answer_id),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": _MESSAGES_STOP.get(_finish(answer), "end_turn"),
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }
    if usage is not None:
        body["usage"] = usage_body(Wire.MESSAGES, usage)
    return body


def _responses(
    answer: Completion, answer_id: str, model: str, usage: Usage | None, at: int
) -> Json:
    finish = _finish(answer)
    cut = {"length": "max_output_tokens", "filter": "content_filter"}.get(finish)
    status = "incomplete" if cut else "completed"
    output: list[Json] = []
    if answer.text or not answer.tool:
        part: Json = (
            {"type": "refusal", "refusal": answer.text}
            if finish == "refusal"
            else {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        )
        output.append(
            {
                "type": "message",
                "id": f"msg_{answer_id}",
                "status": status,
                "role": "assistant",
                "content": [part],
            }
        )
    for number, (name, arguments) in enumerate(_calls(answer)):
        output.append(
            {
                "type": "function_call",
                "id": f"fc_{answer_id}_{number}",
                "call_id": f"call_{answer_id}_{number}",
                "name": name,
                "arguments": arguments,
                "status": status,
            }
        )
    return {
        "id": _prefixed("resp_", answer_id),
        "object": "response",
        "created_at": at,
        "status": status,
        "completed_at": None if cut else at,
        "error": None,
        "incomplete_details": {"reason": cut} if cut else None,
        "model": model,
        "output": output,
        "usage": None if usage is None else usage_body(Wire.RESPONSES, usage),
        **_UNSET,
    }


_UNSET: Json = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
"""What a Responses body repeats of its request; the defaults, since the answer alone is known."""


def _embeddings(
    answer: Completion, answer_id: str, model: str, usage: Usage | None, at: int
) -> Json:
    vectors = _given(answer, "a JSON list of vectors")
    if type(vectors) is not list:
        raise CallerError("the recorded embedding is no JSON list of vectors; record whole bodies")
    if vectors and type(vectors[0]) is not list:
        vectors = [vectors]
    body: Json = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
    }
    if usage is not None:
        body["usage"] = usage_body(Wire.EMBEDDINGS, usage)
    return body


def _decisions(
    answer: Completion, answer_id: str, model: str, usage: Usage | None, at: int
) -> Json:
    answers = _given(answer, "the JSON of its answers")
    body: Json = {"model": model, "answers": answers}
    if usage is not None:
        wire = Wire.SYSTEMONE if type(answers) is dict else Wire.DECISIONS
        body["usage"] = usage_body(wire, usage)
    return body


def _given(answer: Completion, wanted: str) -> Any:
    try:
        return json.loads(answer.text)
    except ValueError:
        raise CallerError(f"the recorded answer is not {wanted}; record whole bodies") from None


_BODIES: Mapping[Wire, Callable[[Completion, str, str, Usage | None, int], Json]] = {
    Wire.CHAT: _chat,
    Wire.MESSAGES: _messages,
    Wire.RESPONSES: _responses,
    Wire.EMBEDDINGS: _embeddings,
    Wire.DECISIONS: _decisions,
    Wire.SYSTEMONE: _decisions,
}
