"""Changes one member of a request's body and leaves every other byte as the caller sent it."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from stillhouse.core.errors import CallerError

_MODEL_MEMBER = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")')
_KEY = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*')
_NEXT = re.compile(rb"[ \t\r\n]*([,}])")
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_SPELLED_OUT = re.compile(rb"\\u00[567]").search
"""A letter written as an escape: nobody has to, so that a key may be hidden by it."""
_USAGE = b'{"include_usage":true}'


def with_model(body: bytes, model: str) -> bytes:
    """Name another model in a request's body.

    The body must be one that `peek` has read. Should it name `model` twice, which parsers read
    differently, it is written anew with one.

    >>> with_model(b'{"model": "fast", "messages": []}', "gpt-6-luna")
    b'{"model": "gpt-6-luna", "messages": []}'
    """
    name = msgspec.json.encode(model)
    at = body.find(b'"model"')
    # Inside a string a quote has a backslash before it, so that a plain `"model"` found only once
    # must be the key that peek has seen; unless that one is spelled with escapes (`\\u006d`).
    if (
        at > 0
        and body.rfind(b'"model"') == at
        and body.rfind(b"\\u006") < 0
        and (found := _MODEL_MEMBER.match(body, at)) is not None
        and body[at - 1] != 0x5C
    ):
        return body[: found.start(1)] + name + body[found.end(1) :]
    return _with_member(body, "model", name)


def with_usage(body: bytes) -> bytes:
    """Ask for the usage event in a streaming chat request, beside the options that it has.

    >>> with_usage(b'{"model": "m", "messages": [], "stream": true}')
    b'{"model": "m", "messages": [], "stream": true,"stream_options":{"include_usage":true}}'
    """
    # From behind: the search then goes by the quote or backslash, which is rare in a text.
    if body.rfind(b'"stream_options"') < 0 and (body.rfind(b"\\u00") < 0 or not _SPELLED_OUT(body)):
        return _with_added(body, b',"stream_options":' + _USAGE)
    span = _span(body, "stream_options")
    value = b"null" if span is None else body[span[0] : span[1]]
    if value == b"null":
        return _with_member(body, "stream_options", _USAGE)
    options = _read(value)
    if type(options) is not dict or options.get("include_usage") is True:
        return body
    options["include_usage"] = True
    return _with_member(body, "stream_options", _dumped(options))


def without_member(body: bytes, name: str) -> bytes:
    """Leave one top-level member out of a request's body; all others keep their bytes' meaning."""
    said = _read(body)
    if name not in said:
        return body
    del said[name]
    return _dumped(said)


def _with_member(body: bytes, name: str, value: bytes) -> bytes:
    span = _span(body, name)
    if span is not None:
        return body[: span[0]] + value + body[span[1] :]
    said = _read(body)
    if name not in said:
        return _with_added(body, b",%s:%s" % (_dumped(name), value))
    said[name] = json.loads(value)
    return _dumped(said)


def _with_added(body: bytes, member: bytes) -> bytes:
    end = body.rindex(b"}")
    return body[:end] + member + body[end:]


def _span(body: bytes, name: str) -> tuple[int, int] | None:
    """Where the value of a top-level member stands; None where absent or named more than once.

    The fast decoder says how long each value is, so that only the keys have to be walked.
    """
    try:
        members = _decode_members(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if name not in members:
        return None
    at = body.index(b"{") + 1
    found = after = None
    for key, raw in members.items():
        met = _KEY.match(body, at)
        if met is None or json.loads(met[1]) != key:
            return None
        value = bytes(raw)
        at = met.end() + len(value)
        if body[met.end() : at] != value:
            return None
        after = _NEXT.match(body, at)
        if after is None:
            return None
        if key == name:
            found = met.end(), at
        at = after.end()
    return found if after is not None and after[1] == b"}" else None


def _read(body: bytes) -> Any:
    """Parse what has to be written anew; CallerError where a peek let pass what cannot be."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # no UTF-8, too deep, or a number without end
        raise CallerError(
            "the request body is not UTF-8 text, or nested too deeply; send flatter JSON in UTF-8"
        ) from None


def _dumped(said: object) -> bytes:
    return json.dumps(said, ensure_ascii=True, separators=(",", ":")).encode("ascii")
