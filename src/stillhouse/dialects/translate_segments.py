"""Reads what a chat answer says, whole or streaming, as segments in the order of their telling.

A segment is one stretch of thinking, text, refusal or one tool call. Anthropic's and Responses'
answers are made of such stretches, one after the other; a chat answer's pieces may come mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from stillhouse.core.errors import CallerError
from stillhouse.dialects.faults import harmless
from stillhouse.dialects.translate_json import Body, an_object, dump, load, objects, text


class Shape(StrEnum):
    """What a segment is."""

    THINKING = "thinking"
    REDACTED = "redacted_thinking"
    TEXT = "text"
    REFUSAL = "refusal"
    TOOL = "tool_use"


@dataclass(slots=True, eq=False)
class Segment:
    """One stretch of an answer: `text` so far (of a tool call its arguments, as JSON text).

    `signature` is a thinking block's own, or a redacted one's data. `unwritten` is what a stream
    has not passed on yet.
    """

    shape: Shape
    text: str = ""
    signature: str = ""
    id: str = ""
    name: str = ""
    unwritten: str = ""
    opened: bool = False
    sealed: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing more is to come, as far as can be seen: arguments have to be JSON."""
        if self.shape is not Shape.TOOL:
            return True
        try:
            load(self.text.encode("utf-8", "surrogatepass"), "the arguments")
        except CallerError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended: `reason` and `usage` as chat says them, the stop sequence if known."""

    reason: str
    stop_sequence: str | None
    usage: object

    @property
    def cut(self) -> bool:
        """Whether the model would have said more."""
        return self.reason in ("length", "content_filter")


class Writer(Protocol):
    """Writes segments as a stream of the caller's dialect; each method returns what to send."""

    def start(self, chunk: Body) -> bytes:
        """Begin the answer; `chunk` is the first of the upstream's."""
        ...

    def begin(self, segment: Segment) -> bytes:
        """Begin a segment."""
        ...

    def write(self, segment: Segment, piece: str) -> bytes:
        """Add to the open segment."""
        ...

    def close(self, segment: Segment, *, cut: bool) -> bytes:
        """End the open segment; `cut` where the answer ended in it before it was whole."""
        ...

    def finish(self, ending: Ending) -> bytes:
        """End the answer."""
        ...

    def fail(self, status: int, kind: str, message: str) -> bytes:
        """End the stream so that nobody takes it for a whole answer."""
        ...


_STATUSES = {"overloaded_error": 529, "rate_limit_error": 429}


def told_error(error: object) -> tuple[int, str, str]:
    """Read an error event's `error`: the status it would have had, its type, what it says.

    >>> told_error({"type": "overloaded_error", "message": "Overloaded"})
    (529, 'overloaded_error', 'Overloaded')
    """
    told = error if type(error) is dict else {"message": error}
    word = told.get("type")
    word = word if type(word) is str and len(word) <= 64 else "upstream_error"
    message = told.get("message")
    said = harmless(message) if type(message) is str else ""
    return _STATUSES.get(word, 502), word, said or "the upstream reported an error"


def first_choice(answer: Body) -> Body:
    """Take the only choice of a chat answer."""
    choices = objects(answer.get("choices"), "choices")
    if not choices:
        raise CallerError("choices is empty; a chat answer has one choice")
    return choices[0]


def segments_of(message: Body, answer_id: str) -> list[Segment]:
    """Read a whole chat message: thinking where it stood, text, refusal, tool calls.

    >>> [s.shape.value for s in segments_of({"reasoning_content": "Hm.", "content": "Hi"}, "c1")]
    ['thinking', 'text']
    """
    said: list[Segment] = []
    for shape, piece in told(message.get("content"), "content"):
        if said and said[-1].shape is shape:
            said[-1].text += piece
        else:
            said.append(Segment(shape, piece))
    if message.get("refusal"):
        said.append(Segment(Shape.REFUSAL, text(message["refusal"], "refusal")))
    calls = objects(message["tool_calls"], "tool_calls") if message.get("tool_calls") else []
    for at, call in enumerate(calls):
        function = an_object(call.get("function"), f"tool_calls[{at}].function")
        name = text(function.get("name"), f"tool_calls[{at}].function.name")
        said.append(
            Segment(
                Shape.TOOL,
                arguments_of(function),
                id=call_id(call, answer_id, at),
                name=name,
            )
        )
    return _with_thinking(message, said)


def arguments_of(function: Body) -> str:
    """The arguments of a chat tool call as JSON text; some servers send the object itself."""
    given = function.get("arguments")
    return given if type(given) is str else "" if given is None else dump(given).decode()


def call_id(call: Body, answer_id: str, at: int) -> str:
    """A tool call's own id, or one made of the answer's where a server gives none."""
    given = call.get("id")
    return given if type(given) is str and given else f"call_{answer_id}_{at}"


def _with_thinking(message: Body, said: list[Segment]) -> list[Segment]:
    blocks = message.get("thinking_blocks")
    kept = objects(blocks, "thinking_blocks") if blocks else []
    for order, block in enumerate(kept):
        index = block.get("index")
        at = index if type(index) is int and index >= order else order
        said.insert(at, kept_segment(block))
    thought = reasoning(message)
    if thought and not kept:
        said.insert(0, Segment(Shape.THINKING, thought))
    return said


def kept_segment(block: Body) -> Segment:
    """Read one of `thinking_blocks`."""
    if block.get("type") == Shape.REDACTED:
        return Segment(Shape.REDACTED, signature=str(block.get("data") or ""), sealed=True)
    signature = str(block.get("signature") or "")
    return Segment(Shape.THINKING, str(block.get("thinking") or ""), signature, sealed=True)


def reasoning(message: Body) -> str:
    """The reasoning in a chat message or delta, by the name that DeepSeek or that others use."""
    for name in ("reasoning_content", "reasoning"):
        if type(message.get(name)) is str and message[name]:
            return str(message[name])
    return ""


def told(content: object, where: str) -> list[tuple[Shape, str]]:
    """The text of a chat message or delta; Mistral's are lists, with the thinking in them.

    >>> told([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
    ...       {"type": "text", "text": "Hi"}], "content")
    [(<Shape.THINKING: 'thinking'>, 'Hm.'), (<Shape.TEXT: 'text'>, 'Hi')]
    """
    if type(content) is not list:
        return [(Shape.TEXT, content)] if type(content) is str and content else []
    said: list[tuple[Shape, str]] = []
    for at, part in enumerate(objects(content, where)):
        if part.get("type") == "thinking" and type(part.get("thinking")) is list:
            inside = told(part["thinking"], f"{where}[{at}].thinking")
            said += [(Shape.THINKING, piece) for _, piece in inside]
        elif type(part.get("text")) is str and part["text"]:
            said.append((Shape.TEXT, part["text"]))
    return said
