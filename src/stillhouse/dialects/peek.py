"""Looks into a request's body without reading it whole: model, stream, limits.

Only the members named here are decoded; all others are checked for syntax and skipped, so that
bytes a gateway does not understand still pass through it.

What one application asks for differs in the conversation, and hardly in what stands around it. That
shell of a body says the whole `Ask`, but for the images; so what was read of a shell is remembered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

import msgspec

from stillhouse.core.calls import Ask
from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.dialects.splicing import with_model, with_usage, without_member
from stillhouse.dialects.twofold import refuse_twofold, shell_of

__all__ = ["peek", "read_object", "with_model", "with_usage", "without_member"]

LONGEST_NAME = 512
"""Characters of a model's name: it is kept in memories, on labels and in every row."""

_SHELLS = 1024
_LONGEST_SHELL = 4096
"""How many shells of a wire are remembered, and of how many bytes: 4 MiB of them at most."""

_BEYOND = float("inf")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Chat(msgspec.Struct, gc=False):
    model: str
    conversation: msgspec.Raw = msgspec.field(name="messages")
    stream: object = False
    max_tokens: object = None
    max_completion_tokens: object = None
    n: object = None
    temperature: object = None
    stream_options: object = None
    service_tier: object = None
    metadata: object = None


class _Messages(msgspec.Struct, gc=False):
    model: str
    conversation: msgspec.Raw = msgspec.field(name="messages")
    stream: object = False
    max_tokens: object = None
    temperature: object = None
    service_tier: object = None
    metadata: object = None


class _Responses(msgspec.Struct, gc=False):
    model: str
    conversation: msgspec.Raw = msgspec.field(name="input", default=msgspec.Raw())
    stream: object = False
    background: object = False
    max_output_tokens: object = None
    temperature: object = None
    service_tier: object = None
    metadata: object = None


class _Plain(msgspec.Struct, gc=False):
    model: str
    conversation: msgspec.Raw = msgspec.field(name="input", default=msgspec.Raw())
    service_tier: object = None
    metadata: object = None


_CHAT_WIRE = Wire.CHAT  # a member of an enumeration is dear to look up


def peek(body: bytes, wire: Wire) -> Ask:
    """Say what a request asks for: its model, whether it streams, what limits it sets.

    Members of a wrong type count as absent, because the upstream is the judge of those; only what
    routing cannot do without is insisted on. Raises CallerError where the body is no JSON object,
    `model` is no name, a conversation has no list of `messages`, or another reader may read it
    otherwise (see `twofold`).

    >>> ask = peek(b'{"model": "gpt-6", "messages": [], "max_tokens": 9}', Wire.CHAT)
    >>> ask.model, ask.max_output_tokens, ask.stream
    ('gpt-6', 9, False)
    """
    reader = _READERS[wire]
    try:
        said = reader.decode(body)
        shell = shell_of(body, reader.key, said.conversation)
        ask = reader.known.get(shell) if len(shell) <= _LONGEST_SHELL else None
        if ask is None:
            ask = reader.ask(said, wire)
            if refuse_twofold(body, shell) and shell is not body and len(shell) <= _LONGEST_SHELL:
                if len(reader.known) >= _SHELLS:
                    reader.known.clear()
                reader.known[shell] = ask
    except _UNREADABLE:
        ask = reader.ask(_read_slowly(body, wire), wire)
        refuse_twofold(body)
    # Looked for from behind: the search then goes by the quote, and that is rare in a text.
    if body.rfind(reader.image) >= 0:
        return ask._replace(images=_images(body, wire))
    return ask


def _ask_chat(said: _Chat, wire: Wire) -> Ask:
    _check_turns(said.model, said.conversation)
    options, limit = said.stream_options, _count(said.max_tokens)
    if said.max_completion_tokens is not None:
        limit = _larger(_count(said.max_completion_tokens), limit)
    return Ask(
        wire,
        said.model,
        said.stream is True,
        limit,
        1 if said.n is None else _count(said.n) or 1,
        type(options) is dict and options.get("include_usage") is True,
        said.temperature == 0 and type(said.temperature) is not bool,
        _text(said.service_tier),
        metadata=_object(said.metadata),
    )


def _ask_messages(said: _Messages, wire: Wire) -> Ask:
    _check_turns(said.model, said.conversation)
    return Ask(
        wire,
        said.model,
        said.stream is True,
        _count(said.max_tokens),
        deterministic=said.temperature == 0 and type(said.temperature) is not bool,
        service_tier=_text(said.service_tier),
        metadata=_object(said.metadata),
    )


def _ask_responses(said: _Responses, wire: Wire) -> Ask:
    _check_model(said.model)
    if said.background not in (False, None):
        raise CallerError(
            "the request has background set, and what an answer costs that is fetched later could "
            "not be booked; leave background out"
        )
    return Ask(
        wire,
        said.model,
        said.stream is True,
        _count(said.max_output_tokens),
        deterministic=said.temperature == 0 and type(said.temperature) is not bool,
        service_tier=_text(said.service_tier),
        metadata=_object(said.metadata),
    )


def _ask_plain(said: _Plain, wire: Wire) -> Ask:
    """Embeddings and decisions: nothing is written, so the same question has the same answer."""
    _check_model(said.model)
    return Ask(
        wire,
        said.model,
        deterministic=True,
        service_tier=_text(said.service_tier),
        metadata=_object(said.metadata),
    )


class _Reader(NamedTuple):
    """How the bodies of one wire are read, and what was read of their shells."""

    kind: type[msgspec.Struct]
    decode: Callable[[bytes], Any]
    key: bytes
    """The member that the conversation is, with its quotes."""
    ask: Callable[[Any, Wire], Ask]
    image: bytes
    """What a body with an image has in it."""
    known: dict[bytes, Ask]


_EMPTY = msgspec.Raw(b"[]")
_IMAGE_BLOCK = re.compile(rb'"type"\s*:\s*"image"')


def _reader(kind: type[msgspec.Struct], ask: Callable[[Any, Wire], Ask], image: bytes) -> _Reader:
    key = kind.__struct_encode_fields__[kind.__struct_fields__.index("conversation")]
    return _Reader(kind, msgspec.json.Decoder(kind).decode, b'"%s"' % key.encode(), ask, image, {})


_READERS: dict[Wire, _Reader] = {
    Wire.CHAT: _reader(_Chat, _ask_chat, b'"image_url"'),
    Wire.MESSAGES: _reader(_Messages, _ask_messages, b'"image"'),
    Wire.RESPONSES: _reader(_Responses, _ask_responses, b'"input_image"'),
    Wire.EMBEDDINGS: _reader(_Plain, _ask_plain, b'"input_image"'),
    Wire.DECISIONS: _reader(_Plain, _ask_plain, b'"input_image"'),
    Wire.SYSTEMONE: _reader(_Plain, _ask_plain, b'"input_image"'),
}


def _images(body: bytes, wire: Wire) -> int:
    if wire is _CHAT_WIRE:
        return body.count(b'"image_url"') // 2
    if wire is Wire.MESSAGES:
        return len(_IMAGE_BLOCK.findall(body))
    return body.count(b'"input_image"')


def _check_turns(model: str, conversation: msgspec.Raw) -> None:
    _check_model(model)
    turns = bytes(conversation)
    if turns[:1] != b"[":
        raise _no_turns(json.loads(turns, parse_int=float))  # an int has no more than 4,300 digits


def _check_model(model: str) -> None:
    if not model:
        raise CallerError('the request\'s model is ""; name a model that this endpoint serves')
    odd = not model.isprintable() or model != model.strip() or ".." in model.split("/")
    if odd or len(model) > LONGEST_NAME:
        raise CallerError(
            f"the request's model is no name: it has {len(model)} characters, or some that names "
            "do not have; name a model that this endpoint serves"
        )


def _count(value: object) -> int | None:
    """A number from 0 up, or None for anything else: True is an int, and no count.

    Many an upstream takes `1000.0` and `"1000"` for 1000: what it may heed is what is reserved.
    """
    if type(value) is str and value.strip().isdecimal() and len(value) <= 40:
        return int(value)
    if type(value) is float and 0 <= value < _BEYOND:
        return ceil(value)
    return value if type(value) is int and value >= 0 else None


def _larger(one: int | None, other: int | None) -> int | None:
    """The larger of two limits: a reservation has to cover whichever the upstream heeds."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _text(value: object) -> str:
    return value if type(value) is str and len(value) <= 64 and value.isprintable() else ""


def _object(value: object) -> dict[str, object] | None:
    return value if type(value) is dict else None


def _read_slowly(body: bytes, wire: Wire) -> Any:
    """Read what the fast decoder refused: either say why, or go by the more patient parser.

    Half a surrogate pair in a text is such a case: no character, yet the grammar allows it.
    """
    said = read_object(body)
    model = said.get("model")
    if type(model) is not str:
        found = "no model" if model is None else f"the model {_shown(model)}"
        raise CallerError(f"the request has {found}; name the model as a string")
    if wire in (Wire.CHAT, Wire.MESSAGES) and type(said.get("messages")) is not list:
        raise _no_turns(said.get("messages"))
    kind = _READERS[wire].kind
    names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
    known = {field: said[name] for field, name in names if name in said}
    return kind(**{**known, "conversation": _EMPTY})


def read_object(body: bytes) -> dict[str, Any]:
    """Parse a request's body in full, or say in a sentence why it is no JSON object.

    >>> read_object(b'[1]')
    Traceback (most recent call last):
    stillhouse.core.errors.CallerError: the request body is a JSON list; send a JSON object
    """
    try:
        said = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except RecursionError:
        raise CallerError("the request body is nested too deeply; send a flatter one") from None
    except UnicodeDecodeError:
        raise CallerError("the request body is not UTF-8 text; send JSON in UTF-8") from None
    except json.JSONDecodeError as fault:
        raise CallerError(
            f"the request body is not JSON ({fault.msg} at character {fault.pos}); "
            "send a JSON object"
        ) from None
    except ValueError as fault:
        raise CallerError(f"the request body is not JSON ({fault}); send a JSON object") from None
    if type(said) is not dict:
        raise CallerError(f"the request body is a JSON {_kind(said)}; send a JSON object")
    return said


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {list: "list", str: "string", bool: "boolean", dict: "object"}
    return names.get(type(value), "number")


def _no_turns(value: object) -> CallerError:
    found = "no messages" if value is None else f"a JSON {_kind(value)} as messages"
    return CallerError(f"the request has {found}; send messages as a list of turns")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
