"""Says a call in another wire format: requests one way, answers, streams and errors the other.

What each translation carries, drops and refuses stands in docs/reference/translation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError, ProviderError
from stillhouse.dialects import (
    translate_chat_answer,
    translate_chat_messages,
    translate_messages_answer,
    translate_messages_chat,
    translate_responses_answer,
    translate_responses_chat,
)
from stillhouse.dialects.faults import error_body, upstream_message
from stillhouse.dialects.translate_chat_answer import MessagesStream
from stillhouse.dialects.translate_chat_stream import ChatStream
from stillhouse.dialects.translate_json import load
from stillhouse.dialects.translate_messages_answer import MessagesWriter
from stillhouse.dialects.translate_responses_answer import ResponsesWriter

__all__ = ["StreamTranslator", "Translation", "translation"]


class StreamTranslator(Protocol):
    """Translates one stream; the bytes may come cut anywhere, and some calls return none."""

    def feed(self, chunk: bytes) -> bytes:
        """Take the upstream's next bytes; return the caller's."""
        ...

    def end(self) -> bytes:
        """Say that the upstream has ended; return the caller's last bytes.

        Where the upstream broke off before its last event, they are an error event of the
        caller's dialect. Once an error event was returned nothing more is.
        """
        ...


class _Answer(Protocol):
    def __call__(self, body: bytes, model: str, asked: bytes, created: int) -> bytes: ...


class _Stream(Protocol):
    def __call__(self, model: str, asked: bytes, created: int) -> StreamTranslator: ...


@dataclass(frozen=True, slots=True)
class Translation:
    """One way of serving a caller of one format by an upstream of another.

    `asked` is the caller's own request: Responses give it back in the answer, and it says whether
    a chat caller wants the usage of a stream (taken for yes without it). `created` is the time in
    seconds since 1970, for answers whose upstream gives none.
    """

    caller: Wire
    upstream: Wire
    _request: Callable[[bytes, str], bytes]
    _answer: _Answer
    _stream: _Stream

    def request(self, body: bytes, model: str) -> bytes:
        """Write the request for the upstream; CallerError names what cannot be said there."""
        try:
            return self._request(body, model)
        except RecursionError:
            raise CallerError("the request is nested too deeply; send flatter JSON") from None

    def answer(self, body: bytes, model: str, *, asked: bytes = b"", created: int = 0) -> bytes:
        """Write a whole answer for the caller; ProviderError where the upstream's is none.

        `model` is named where the upstream's answer names no model.
        """
        try:
            return self._answer(body, model, asked, created)
        except CallerError as fault:
            raise ProviderError(
                f"the upstream's answer cannot be read as one of {self.upstream}: {fault}"
            ) from None
        except RecursionError:
            raise ProviderError("the upstream's answer is nested too deeply to be read") from None

    def stream(self, model: str, *, asked: bytes = b"", created: int = 0) -> StreamTranslator:
        """Begin to translate a stream."""
        return self._stream(model, asked, created)

    def error(self, status: int, body: bytes) -> bytes:
        """Write an upstream's error in the caller's dialect; the status stays the same.

        >>> translation(Wire.CHAT, Wire.MESSAGES).error(529, b'{"type": "error", "error": '
        ...     b'{"type": "overloaded_error", "message": "Overloaded"}}').decode()[:36]
        '{"error":{"message":"Overloaded","ty'
        """
        told = upstream_message(body) or f"the upstream answered with status {status}"
        return error_body(self.caller, status, _code(body), told)


def translation(caller: Wire, upstream: Wire) -> Translation | None:
    """Find the translation between two formats; None where there is none, or none is needed.

    >>> translation(Wire.CHAT, Wire.CHAT), translation(Wire.CHAT, Wire.RESPONSES)
    (None, None)
    >>> translation(Wire.RESPONSES, Wire.CHAT).request(b'{"model": "a", "input": "Hi"}', "b")
    b'{"model":"b","messages":[{"role":"user","content":"Hi"}]}'
    """
    return _KNOWN.get((caller, upstream))


def _code(body: bytes) -> str:
    """An OpenAI error's `code`, or Anthropic's type of error, which is as fine."""
    try:
        error = load(body, "the error").get("error")
    except CallerError:
        return ""
    code = (error.get("code") or error.get("type")) if type(error) is dict else None
    return code if type(code) is str and len(code) <= _LONGEST_CODE else ""


_LONGEST_CODE = 64


def _chat_answer(body: bytes, model: str, asked: bytes, created: int) -> bytes:
    return translate_chat_answer.answer(body, model, created)


def _chat_stream(model: str, asked: bytes, created: int) -> StreamTranslator:
    return MessagesStream(model, wants_usage=_wants_usage(asked), created=created)


def _wants_usage(asked: bytes) -> bool:
    if not asked:
        return True
    options = load(asked, "the request").get("stream_options")
    return type(options) is dict and options.get("include_usage") is True


def _messages_answer(body: bytes, model: str, asked: bytes, created: int) -> bytes:
    return translate_messages_answer.answer(body, model)


def _messages_stream(model: str, asked: bytes, created: int) -> StreamTranslator:
    return ChatStream(MessagesWriter(model))


def _responses_stream(model: str, asked: bytes, created: int) -> StreamTranslator:
    return ChatStream(ResponsesWriter(model, asked, created))


def _responses_by_messages(body: bytes, model: str) -> bytes:
    return translate_chat_messages.request(translate_responses_chat.request(body, model), model)


def _messages_to_responses(body: bytes, model: str, asked: bytes, created: int) -> bytes:
    chat = translate_chat_answer.answer(body, model, created)
    return translate_responses_answer.answer(chat, model, asked, created)


class _Chained:
    """Two translators, the second fed with what the first says."""

    def __init__(self, first: StreamTranslator, second: StreamTranslator) -> None:
        self._first = first
        self._second = second

    def feed(self, chunk: bytes) -> bytes:
        return self._second.feed(self._first.feed(chunk))

    def end(self) -> bytes:
        return self._second.feed(self._first.end()) + self._second.end()


def _messages_responses_stream(model: str, asked: bytes, created: int) -> StreamTranslator:
    return _Chained(
        MessagesStream(model, wants_usage=True, created=created),
        ChatStream(ResponsesWriter(model, asked, created)),
    )


_KNOWN = {
    (known.caller, known.upstream): known
    for known in (
        Translation(
            Wire.CHAT,
            Wire.MESSAGES,
            translate_chat_messages.request,
            _chat_answer,
            _chat_stream,
        ),
        Translation(
            Wire.MESSAGES,
            Wire.CHAT,
            translate_messages_chat.request,
            _messages_answer,
            _messages_stream,
        ),
        Translation(
            Wire.RESPONSES,
            Wire.CHAT,
            translate_responses_chat.request,
            translate_responses_answer.answer,
            _responses_stream,
        ),
        Translation(
            Wire.RESPONSES,
            Wire.MESSAGES,
            _responses_by_messages,
            _messages_to_responses,
            _messages_responses_stream,
        ),
    )
}
