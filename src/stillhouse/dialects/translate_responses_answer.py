"""Says a chat answer, whole or streaming, as an OpenAI Responses answer."""

from __future__ import annotations

from stillhouse.core.catalogue import Wire
from stillhouse.dialects.faults import stream_error
from stillhouse.dialects.sse import encode
from stillhouse.dialects.translate_chat_stream import ended_by
from stillhouse.dialects.translate_json import Body, an_object, dump, load
from stillhouse.dialects.translate_reasoning import encrypted
from stillhouse.dialects.translate_segments import (
    Ending,
    Segment,
    Shape,
    first_choice,
    segments_of,
)
from stillhouse.dialects.translate_thinking import kept_block
from stillhouse.dialects.translate_usage import as_responses

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def answer(body: bytes, model: str, asked: bytes = b"", created: int = 0) -> bytes:
    """Translate a whole chat answer; what the caller `asked` is given back in it, as OpenAI does.

    >>> said = answer(b'{"id": "chatcmpl-1", "choices": [{"message": {"content": "Hi"}}]}', "m")
    >>> load(said, "it")["output"][0]["content"]
    [{'type': 'output_text', 'text': 'Hi', 'annotations': [], 'logprobs': []}]
    """
    given = load(body, "the upstream's answer")
    choice = first_choice(given)
    message = an_object(choice.get("message"), "choices[0].message")
    said = _response(given, model, asked, created)
    segments = segments_of(message, str(given.get("id") or "")) or [Segment(Shape.TEXT)]
    called = any(segment.shape is Shape.TOOL for segment in segments)
    reason = ended_by(choice.get("finish_reason"), called=called)
    said["output"] = [
        _item(segment, said["id"], at, "completed") for at, segment in enumerate(segments)
    ]
    _end(said, Ending(reason, None, given.get("usage")))
    return dump(said)


def _end(said: Body, ending: Ending) -> None:
    """Fill in how a response ended; its last item is as incomplete as it is."""
    said["usage"] = as_responses(ending.usage)
    said["status"] = "incomplete" if ending.cut else "completed"
    if ending.cut:
        said["incomplete_details"] = {"reason": _INCOMPLETE[ending.reason]}
        if "status" in said["output"][-1]:
            said["output"][-1]["status"] = "incomplete"


def _response(given: Body, model: str, asked: bytes, created: int) -> Body:
    """The response without its output: every field that Open Responses requires."""
    wish = load(asked, "the request") if asked else {}
    at = given.get("created")
    tools, form, effort = wish.get("tools"), wish.get("text"), wish.get("reasoning")
    return {
        "id": f"resp_{_base(given)}",
        "object": "response",
        "created_at": at if type(at) is int and at > 0 else created,
        "completed_at": None,
        "status": "in_progress",
        "incomplete_details": None,
        "error": None,
        "model": str(given.get("model") or model),
        "output": [],
        "instructions": wish.get("instructions"),
        "tools": [_tool(t) for t in tools if type(t) is dict] if type(tools) is list else [],
        "tool_choice": _or(wish, "tool_choice", "auto"),
        "parallel_tool_calls": _or(wish, "parallel_tool_calls", True),
        "text": {"format": {"type": "text"}} | (form if type(form) is dict else {}),
        "reasoning": {"effort": None, "summary": None} | (effort if type(effort) is dict else {}),
        "temperature": _or(wish, "temperature", 1),
        "top_p": _or(wish, "top_p", 1),
        "presence_penalty": _or(wish, "presence_penalty", 0),
        "frequency_penalty": _or(wish, "frequency_penalty", 0),
        "top_logprobs": 0,
        "max_output_tokens": wish.get("max_output_tokens"),
        "max_tool_calls": wish.get("max_tool_calls"),
        "previous_response_id": None,
        "store": False,
        "background": False,
        "truncation": _or(wish, "truncation", "disabled"),
        "service_tier": str(given.get("service_tier") or "default"),
        "metadata": _or(wish, "metadata", {}),
        "safety_identifier": wish.get("safety_identifier"),
        "prompt_cache_key": wish.get("prompt_cache_key"),
        "usage": None,
    }


def _or(wish: Body, name: str, otherwise: object) -> object:
    value = wish.get(name)
    return otherwise if value is None else value


def _base(given: Body) -> str:
    return str(given.get("id") or "unnamed").removeprefix("chatcmpl-")


def _tool(tool: Body) -> Body:
    """A function tool with every field there, null where the caller left it out."""
    return {"description": None, "parameters": None, "strict": None} | tool


def _item(segment: Segment, response_id: str, at: int, status: str) -> Body:
    base = response_id.removeprefix("resp_")
    if segment.shape is Shape.TOOL:
        return {
            "id": f"fc_{base}_{at}",
            "type": "function_call",
            "status": status,
            "call_id": segment.id,
            "name": segment.name,
            "arguments": segment.text,
        }
    if segment.shape in (Shape.THINKING, Shape.REDACTED):
        return _reasoning(segment, f"rs_{base}_{at}", at)
    return {
        "id": f"msg_{base}_{at}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [_part(segment)],
    }


def _reasoning(segment: Segment, item_id: str, at: int) -> Body:
    said: Body = {"id": item_id, "type": "reasoning", "summary": [], "content": []}
    if segment.text:
        said["content"] = [_part(segment)]
    if segment.signature:
        block: Body = {"type": str(segment.shape)}
        if segment.shape is Shape.THINKING:
            block |= {"thinking": segment.text, "signature": segment.signature}
        else:
            block["data"] = segment.signature
        said["encrypted_content"] = encrypted([kept_block(block, at)])
    return said


def _part(segment: Segment) -> Body:
    if segment.shape is Shape.REFUSAL:
        return {"type": "refusal", "refusal": segment.text}
    if segment.shape is Shape.THINKING:
        return {"type": "reasoning_text", "text": segment.text}
    return {"type": "output_text", "text": segment.text, "annotations": [], "logprobs": []}


class ResponsesWriter:
    """Writes an answer as the events of Responses, each with the next `sequence_number`."""

    def __init__(self, model: str, asked: bytes, created: int) -> None:
        self._model = model
        self._asked = asked
        self._created = created
        self._response: Body = {}
        self._item_id = ""
        self._number = 0

    def start(self, chunk: Body) -> bytes:
        """Send `response.created` and `response.in_progress`."""
        self._response = _response(chunk, self._model, self._asked, self._created)
        return self._snapshot("created") + self._snapshot("in_progress")

    def begin(self, segment: Segment) -> bytes:
        """Send the item without its content, and the empty part that deltas will fill."""
        empty = Segment(segment.shape, id=segment.id, name=segment.name)
        item = self._item_of(empty, "in_progress")
        self._item_id = item["id"]
        if "content" in item:
            item["content"] = []
        said = self._item_event("added", item)
        if segment.shape in _DELTAS:
            said += self._part_event("response.content_part.added", part=_part(empty))
        return said

    def write(self, segment: Segment, piece: str) -> bytes:
        """Send a delta."""
        if segment.shape is Shape.TOOL:
            return self._on_item("response.function_call_arguments.delta", delta=piece)
        name, _ = _DELTAS[segment.shape]
        return self._part_event(f"{name}.delta", delta=piece, **_logprobs(segment))

    def close(self, segment: Segment, *, cut: bool) -> bytes:
        """Send the whole of a segment, as part and as item."""
        said = b""
        if segment.shape is Shape.TOOL:
            said = self._on_item(
                "response.function_call_arguments.done",
                arguments=segment.text,
            )
        elif segment.shape in _DELTAS:
            name, field = _DELTAS[segment.shape]
            whole = {field: segment.text}
            said = self._part_event(f"{name}.done", **whole, **_logprobs(segment))
            said += self._part_event("response.content_part.done", part=_part(segment))
        item = self._item_of(segment, "incomplete" if cut else "completed")
        said += self._item_event("done", item)
        self._response["output"].append(item)
        return said

    def finish(self, ending: Ending) -> bytes:
        """Send the whole response, and `[DONE]`."""
        said = b""
        if not self._response["output"]:
            said = self.begin(nothing := Segment(Shape.TEXT)) + self.close(nothing, cut=ending.cut)
        _end(self._response, ending)
        return said + self._snapshot(self._response["status"]) + encode("", b"[DONE]")

    def fail(self, status: int, kind: str, message: str) -> bytes:
        """Send an error event; no terminal event follows."""
        return stream_error(Wire.RESPONSES, status, kind, message, sequence_number=self._number)

    def _item_of(self, segment: Segment, status: str) -> Body:
        return _item(segment, self._response["id"], len(self._response["output"]), status)

    def _snapshot(self, state: str) -> bytes:
        return self._event(f"response.{state}", response=self._response)

    def _item_event(self, state: str, item: Body) -> bytes:
        at = len(self._response["output"])
        return self._event(f"response.output_item.{state}", output_index=at, item=item)

    def _part_event(self, name: str, /, **fields: object) -> bytes:
        return self._on_item(name, content_index=0, **fields)

    def _on_item(self, name: str, /, **fields: object) -> bytes:
        at = len(self._response["output"])
        return self._event(name, item_id=self._item_id, output_index=at, **fields)

    def _event(self, name: str, /, **fields: object) -> bytes:
        said = {"type": name, "sequence_number": self._number, **fields}
        self._number += 1
        return encode(name, dump(said))


def _logprobs(segment: Segment) -> Body:
    return {"logprobs": []} if segment.shape is Shape.TEXT else {}


_DELTAS = {
    Shape.TEXT: ("response.output_text", "text"),
    Shape.REFUSAL: ("response.refusal", "refusal"),
    Shape.THINKING: ("response.reasoning_text", "text"),
}
"""The events that tell a part piece by piece, and the field that tells it whole."""
