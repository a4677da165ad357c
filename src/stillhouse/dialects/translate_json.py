"""Reads the JSON that translations take apart, and says which field cannot be translated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import msgspec

from stillhouse.core.errors import CallerError

Body = dict[str, Any]

_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}


def load(body: bytes, what: str) -> Body:
    """Read a JSON object; half of a surrogate pair, which some servers stream, is kept as it is.

    >>> load(b'{"text": "\\\\ud83d"}', "the event")
    {'text': '\\ud83d'}
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            value = json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise CallerError(f"{what} is not JSON; send one JSON object") from None
    except RecursionError:
        raise CallerError(f"{what} is nested too deeply; send flatter JSON") from None
    return an_object(value, what)


def dump(value: object) -> bytes:
    """Write JSON without spaces.

    >>> dump({"text": "\\ud83d"})
    b'{"text":"\\\\ud83d"}'
    """
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def kind(value: object) -> str:
    """Name what JSON a value is, without showing it: it may be a part of a prompt.

    >>> kind(None), kind([1])
    ('null', 'a list')
    """
    return "null" if value is None else _KINDS.get(type(value), "an object")


def an_object(value: object, where: str) -> Body:
    """Take an object, or refuse by its place."""
    if type(value) is not dict:
        raise CallerError(f"{where} is {kind(value)}; it has to be an object")
    return value


def objects(value: object, where: str) -> list[Body]:
    """Take a list of objects, or refuse by its place."""
    if type(value) is not list:
        raise CallerError(f"{where} is {kind(value)}; it has to be a list of objects")
    for at, item in enumerate(value):
        an_object(item, f"{where}[{at}]")
    return value


def text(value: object, where: str) -> str:
    """Take text, or refuse by its place."""
    if type(value) is not str:
        raise CallerError(f"{where} is {kind(value)}; it has to be text")
    return value


def number(value: object, where: str) -> int | float:
    """Take a number, or refuse by its place."""
    if type(value) is not int and type(value) is not float:
        raise CallerError(f"{where} is {kind(value)}; it has to be a number")
    return value


def refuse(where: str, value: object, remedy: str) -> NoReturn:
    """Say that a field cannot be translated: the field, the value if it is short, the way out."""
    seen = f"`{value}`" if type(value) is str and len(value) <= 40 else kind(value)
    if type(value) is bool or type(value) is int:
        seen = str(value).lower()
    raise CallerError(f"{where} is {seen}, which cannot be translated for this model; {remedy}")


class Fields(NamedTuple):
    """What becomes of a request's top-level fields: translated, dropped because, refused unless.

    A field that is null counts as absent, a refused one also where it is empty, false or zero.
    """

    translated: frozenset[str]
    dropped: Mapping[str, str]
    refused: Mapping[str, str]

    def check(self, asked: Body) -> None:
        """Refuse a request with a field that would change its meaning if it were left out."""
        for name, value in asked.items():
            if value is None or name in self.translated or name in self.dropped:
                continue
            if name not in self.refused:
                refuse(name, value, "leave it out, or use a model that speaks this format itself")
            if value:
                refuse(name, value, self.refused[name])


def names(written: str) -> frozenset[str]:
    """Take names apart that are written one after the other."""
    return frozenset(written.split())


def arguments_object(written: str) -> Body:
    """Read a tool call's arguments as the object that Anthropic's format needs.

    Arguments that are no JSON object (a model wrote them) are kept whole under one name.

    >>> arguments_object('{"city": "Oslo"}'), arguments_object(""), arguments_object("[1")
    ({'city': 'Oslo'}, {}, {'unparsed_arguments': '[1'})
    """
    if not written.strip():
        return {}
    try:
        return load(written.encode("utf-8", "surrogatepass"), "the arguments")
    except CallerError:
        return {_UNPARSED: written}


def arguments_text(given: object) -> str:
    """Write a tool call's input as the text that OpenAI's formats need.

    >>> arguments_text({"city": "Oslo"}), arguments_text({"unparsed_arguments": "[1"})
    ('{"city":"Oslo"}', '[1')
    """
    if type(given) is dict and given.keys() == {_UNPARSED} and type(given[_UNPARSED]) is str:
        return str(given[_UNPARSED])
    return dump(given if given is not None else {}).decode()


_UNPARSED = "unparsed_arguments"


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
