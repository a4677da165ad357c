"""Tells a caller in its own dialect what went wrong, and reads what an upstream said of it.

The words for a type of fault are the vendors': OpenAI's error reference, Anthropic's `ErrorType`
and the Open Responses `ErrorPayload`. Decision endpoints follow OpenAI's envelope.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from stillhouse.core.catalogue import Wire

_OPENAI: Mapping[int, str] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        408: "timeout_error",
        409: "conflict_error",
        429: "rate_limit_error",
        503: "service_unavailable_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
_ANTHROPIC: Mapping[int, str] = MappingProxyType(
    {
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        408: "timeout_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
_MESSAGE_CHARACTERS = 300


def error_body(wire: Wire, status: int, kind: str, message: str) -> bytes:
    """Write an error as the vendor of this wire format would.

    The vendor's type follows from the status; `kind` says it more finely, as in `over_budget`, and
    is OpenAI's `code`. Anthropic has no such field, so that there it is left out.

    >>> error_body(Wire.CHAT, 429, "over_budget", "Spent.").decode()
    '{"error":{"message":"Spent.","type":"rate_limit_error","param":null,"code":"over_budget"}}'
    >>> error_body(Wire.MESSAGES, 529, "", "Busy.").decode()
    '{"type":"error","error":{"type":"overloaded_error","message":"Busy."}}'
    """
    return msgspec.json.encode(_envelope(wire, status, kind, message))


def stream_error(
    wire: Wire, status: int, kind: str, message: str, *, sequence_number: int = 0
) -> bytes:
    """Write the event that ends a broken stream, so that no caller takes it for a whole answer.

    No `[DONE]` and no `message_stop` follows. The Responses event has its fields both on top, as
    OpenAI's SDK types them, and under `error`, as Open Responses does.

    >>> stream_error(Wire.CHAT, 502, "truncated", "The upstream broke off.").decode()[:29]
    'data: {"error":{"message":"Th'
    """
    body = _envelope(wire, status, kind, message)
    if wire is Wire.CHAT:
        return b"data: %s\n\n" % msgspec.json.encode(body)
    if wire is Wire.RESPONSES:
        body = {
            "type": "error",
            "sequence_number": sequence_number,
            "code": kind or error_type(wire, status),
            "message": _written(message),
            "param": None,
            "error": body["error"],
        }
    return b"event: error\ndata: %s\n\n" % msgspec.json.encode(body)


def error_type(wire: Wire, status: int) -> str:
    """The vendor's word for what a status means.

    >>> error_type(Wire.CHAT, 500), error_type(Wire.MESSAGES, 500), error_type(Wire.CHAT, 422)
    ('server_error', 'api_error', 'invalid_request_error')
    """
    words = _ANTHROPIC if wire is Wire.MESSAGES else _OPENAI
    if (word := words.get(status)) is not None:
        return word
    if status < 500:
        return "invalid_request_error"
    return "api_error" if wire is Wire.MESSAGES else "server_error"


def _envelope(wire: Wire, status: int, kind: str, message: str) -> dict[str, object]:
    word = error_type(wire, status)
    message = _written(message)
    if wire is Wire.MESSAGES:
        return {"type": "error", "error": {"type": word, "message": message}}
    return {"error": {"message": message, "type": word, "param": None, "code": kind or None}}


def _written(text: str) -> str:
    """A text as UTF-8 has it: half a surrogate pair is no character."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def upstream_message(body: bytes) -> str:
    """What an upstream's error body says, short and harmless; empty where it says nothing.

    One line without control characters, keys and tokens struck out. A page of HTML says nothing.

    >>> upstream_message(b'{"error": {"message": "Incorrect API key: sk-abcdefghijkl."}}')
    'Incorrect API key: [removed].'
    >>> upstream_message(b"<html>502 Bad Gateway</html>")
    ''
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        text = body[:2000].decode("utf-8", "replace").strip()
        return "" if text.startswith(("<", "{", "[")) or "\x00" in text else harmless(text)
    return harmless(_message_in(said))


def _message_in(said: object, depth: int = 0) -> str:
    """Look for the message where vendors put it, and no deeper than they do."""
    if isinstance(said, str):
        return said
    if isinstance(said, list) and said and depth < 4:
        return _message_in(said[0], depth + 1)
    if isinstance(said, dict) and depth < 4:
        for name in ("message", "error", "detail", "errors", "msg", "error_message"):
            if text := _message_in(said.get(name), depth + 1):
                return text
    return ""


_SECRET = re.compile(
    r"(?i:bearer\s+)\S+"
    r"|\b(?:(?:sk|pk|rk|gsk|csk|xai|nvapi|hf|fw|r8)[-_]|AIza|ya29\.|eyJ)[-_.*A-Za-z0-9]*[-_*A-Za-z0-9]"
    r"|\b[A-Za-z0-9]{32,}\b"
)
"""Keys by the prefixes that vendors give them, and what is long enough to be one without."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s\ud800-\udfff]+")


def harmless(text: str) -> str:
    """Make a text fit for a log and a caller: one line, cut short, secrets struck out.

    >>> harmless("bad\\nkey gsk_1234567890")
    'bad key [removed]'
    """
    line = _CONTROL.sub(" ", text[:4000]).strip()
    line = _SECRET.sub("[removed]", line)
    return line if len(line) <= _MESSAGE_CHARACTERS else f"{line[: _MESSAGE_CHARACTERS - 3]}..."
