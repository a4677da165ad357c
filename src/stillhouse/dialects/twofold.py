"""Refuses bodies that two readers may read differently: what is checked must be what is sent.

JSON leaves open which of two members of one name counts, and parsers disagree: most take the last,
some the first, and Go's standard library takes `MODEL` for `model` as well. A request that names
another model to its upstream than to this endpoint would pass every check of the one as the other.
"""

from __future__ import annotations

import json
import re

import msgspec

from stillhouse.core.errors import CallerError

_NAMES = (
    "model",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "background",
)
"""Members that decide on who answers, and on what is reserved for it."""

_KEYS = tuple(b'"%s"' % name.encode() for name in _NAMES)
"""What is looked for first."""

_SPELLED_OUT = re.compile(rb"\\u(?:00[4-7]|017[fF]|212[aA])").search
"""A letter written as an escape, or one that folds to a letter: nobody has to."""
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*").match
_CLOSED = (b"[", b'"')
"""How values begin that say by themselves where they end."""
_FOLDED = (b"\xc5\xbf", b"\xe2\x84\xaa")


def refuse_twofold(body: bytes, shell: bytes = b"") -> bool:
    """Raise CallerError where a JSON object has a member that counts twice, or in other letters.

    `shell` may be what `shell_of` gives for it: what is inside the longest value is no member of
    the object, and need not be looked at. True where the shell looks like no such case at all:
    then no other body with this shell is one.

    >>> refuse_twofold(b'{"model": "m", "messages": [{"model": "x"}]}')
    False
    >>> refuse_twofold(b'{"model": "m", "Model": "dear"}')
    Traceback (most recent call last):
    stillhouse.core.errors.CallerError: the request names model twice, or in other letters \
('Model'); name each member once, in lower case
    """
    if not _is_odd(shell or body):
        return True
    seen: set[str] = set()
    for key in _top_keys(body):
        name = key.casefold()
        if name not in _NAMES:
            continue
        if name in seen or name != key:
            raise CallerError(
                f"the request names {name} twice, or in other letters ({key!r}); name each member "
                "once, in lower case"
            )
        seen.add(name)
    return False


def shell_of(body: bytes, member: bytes, value: bytes | msgspec.Raw) -> bytes:
    """A JSON object with an empty list or text where `member` has a long one; else the body itself.

    `member` comes with its quotes, and `value` is what a decoder read there. It may be a member
    further in whose value is the same: then, too, only bodies that say the same share a shell.

    A quote inside a string has a backslash before it. So where a name stands with its closing quote
    and a colon behind, that is a key and what follows its value; and of two lists or two texts that
    begin at one place, none is longer than the other.

    >>> shell_of(b'{"messages": [1, 2], "n": 1}', b'"messages"', b"[1, 2]")
    b'{"messages": [], "n": 1}'
    """
    at = body.find(member)
    found = _COLON(body, at + len(member)) if at >= 0 else None
    if found is None or not len(value):
        return body
    begin = found.end()
    if not body.startswith(_CLOSED, begin) or not body.startswith(value, begin):
        return body
    return body[: begin + 1] + body[begin + len(value) - 1 :]


def _is_odd(body: bytes) -> bool:
    """Whether a closer look is due: hardly ever, and then it may still be a member further in."""
    lowered = body.lower()
    for key in _KEYS:
        count = lowered.count(key)
        if count and (count > 1 or body.find(key) < 0):
            return True
    if body.rfind(b"\\u") >= 0 and _SPELLED_OUT(body) is not None:
        return True
    return not body.isascii() and any(letter in body for letter in _FOLDED)


def _top_keys(body: bytes) -> list[str]:
    """The names of an object's members in their order, each as often as it stands there."""
    found: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        found[:] = [name for name, _ in pairs]

    try:
        json.loads(body, object_pairs_hook=note)
    except RecursionError:
        raise CallerError("the request body is nested too deeply; send a flatter one") from None
    except ValueError:  # also: a number beyond what is read as one
        raise CallerError("the request body cannot be read as JSON; send plainer JSON") from None
    return found
