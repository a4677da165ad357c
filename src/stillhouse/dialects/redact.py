"""Takes what identifies people and what opens doors out of bodies, and keeps their structure.

Found by form and checksum alone: addresses, numbers, keys. Names and stories are not found.

>>> redact("Write to ada@example.com or bob@example.com, not to ada@example.com.")
'Write to <EMAIL_1> or <EMAIL_2>, not to <EMAIL_1>.'
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from stillhouse.dialects.detecting import found, worth

_LITERAL = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|(?<![\w.+-])\d{13,19}(?![\w.])', re.DOTALL
)
"""A JSON string, closed or cut off, or a bare number that is long enough for a card."""

_COLON = re.compile(r"\s*:")
_INDEX = re.compile(r'"(?:index|output_index|content_index|summary_index|item_id)"\s*:\s*("?\w+)')
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]")

_OPAQUE = """
call_id created created_at encrypted_content event_id id item_id model object previous_response_id
response_id role signature system_fingerprint tool_call_id tool_use_id type
"""
OPAQUE = frozenset(_OPAQUE.split())
"""Fields that name things rather than say them: digits that look like a number do so by chance."""

BLOBS = frozenset(("b64_json", "data", "file_data"))
"""Fields of files: what cannot be read is taken out whole."""

_STREAMED = "arguments content delta partial_json reasoning reasoning_content refusal text thinking"
STREAMED = frozenset(_STREAMED.split())
"""Fields whose text a stream spreads over many events."""

_BLOB, _NAME = "\0blob", "\0name"


class Redactor:
    """Redacts the parts of one exchange: the same value gets the same placeholder throughout."""

    def __init__(self) -> None:
        self._placeholders: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def text(self, text: str) -> str:
        """Redact a text."""
        return self.texts([text])[0]

    def texts(self, fragments: list[str], *, numeric: bool = True) -> list[str]:
        """Redact a text that comes in fragments: what spans several stands where it begins."""
        whole = "".join(fragments)
        spans = found(whole, numeric=numeric)
        if not spans:
            return fragments
        redacted, start, place = [], 0, 0
        for fragment in fragments:
            at, end, parts = start, start + len(fragment), []
            while place < len(spans) and spans[place][0] < end:
                left, right, kind = spans[place]
                if left >= start:
                    parts += [whole[at:left], self.placeholder(kind, whole[left:right])]
                at = min(right, end)
                if right > end:
                    break
                place += 1
            redacted.append("".join([*parts, whole[at:end]]))
            start = end
        return redacted

    def placeholder(self, kind: str, value: str) -> str:
        """What stands for a value: `<EMAIL_1>`, and the same wherever the value stands."""
        known = self._placeholders.get((kind, value))
        if known is None:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            known = self._placeholders[kind, value] = f"<{kind}_{number}>"
        return known

    def body(self, body: bytes) -> bytes:
        """Redact a body: JSON, a stream of events, or text; everything else in it stays as it is.

        Only string values change (and numbers that are cards), so that keys, order, spacing and
        what is broken stay byte for byte. Strings in a stream are read across its events.
        """
        text = body.decode("utf-8", "surrogateescape")
        begins = text.lstrip("\ufeff \t\r\n")[:1]
        streamed = _is_stream(text)
        redacted = self._literals(text, streamed) if streamed or begins in ("{", "[", '"') else None
        if redacted is None:
            redacted = self.text(text)
        return redacted.encode("utf-8", "surrogateescape")

    def _literals(self, text: str, streamed: bool) -> str:
        values = list(_values(text, streamed))
        groups: dict[str, list[int]] = {}
        for place, value in enumerate(values):
            alone = not value.group or value.group in (_BLOB, _NAME)
            groups.setdefault(f"\0{place}" if alone else value.group, []).append(place)
        changed: dict[int, str] = {}
        for places in groups.values():
            said = [values[place].said for place in places]
            for place, after in zip(places, self._said(said, values[places[0]].group), strict=True):
                if after != values[place].said:
                    changed[place] = after
        parts, at = [], 0
        for place in sorted(changed):
            value = values[place]
            before = text[value.start : value.end]
            parts += [text[at : value.start], _quoted(changed[place], before)]
            at = value.end
        return "".join([*parts, text[at:]])

    def _said(self, fragments: list[str], group: str) -> list[str]:
        if group == _BLOB:
            return [self.placeholder("DATA", fragment) for fragment in fragments]
        return self.texts(fragments, numeric=group != _NAME)


class _Value(NamedTuple):
    """A string of a body; those of one group are fragments of one text, no group stands alone."""

    start: int
    end: int
    group: str
    said: str


def redact(text: str) -> str:
    """Put placeholders in the place of addresses, numbers and keys in a text."""
    return Redactor().text(text)


def redact_body(body: bytes) -> bytes:
    r"""Redact a request, an answer or a stream of events, and keep its structure.

    >>> redact_body(b'{"messages": [{"role": "user", "content": "I am a@b.example"}]}')
    b'{"messages": [{"role": "user", "content": "I am <EMAIL_1>"}]}'
    """
    return Redactor().body(body)


def hashed(body: bytes, key: bytes) -> str:
    """A fingerprint of a body that says nothing of it to whoever lacks the key: 64 hex digits.

    Without a key short prompts could be found by trying, so an empty one raises ValueError.

    >>> hashed(b"hello", b"key") == hashed(b"hello", b"key") != hashed(b"hello", b"other key")
    True
    """
    if not key:
        raise ValueError("the key of a fingerprint is empty; whoever guesses a body could check it")
    if len(key) > 64:
        key = blake2b(key, digest_size=64).digest()
    return blake2b(body, key=key, digest_size=32).hexdigest()


def _is_stream(text: str) -> bool:
    return text.lstrip("\ufeff\r\n").startswith(("data:", "event:", "id:", "retry:", ":"))


def _values(text: str, streamed: bool) -> Iterator[_Value]:
    """The strings of a body that something may be found in, its keys among them."""
    events = _events(text) if streamed else iter(())
    key, index, event_end = "", "", 0
    for literal in _LITERAL.finditer(text):
        start, end = literal.span()
        if streamed and start >= event_end:
            event_end, index = next((event for event in events if event[0] > start), (end, ""))
        raw = literal[0]
        if raw[0] != '"':
            yield _Value(start, end, "", raw)
            continue
        said = _unquoted(raw)
        if _COLON.match(text, end):
            key = said
            if worth(said):
                yield _Value(start, end, _NAME, said)
        elif _DATA_URL.match(said) or (key in BLOBS and len(said) > 64 and " " not in said):
            yield _Value(start, end, _BLOB, said)
        elif streamed and key in STREAMED:
            yield _Value(start, end, f"{key} {index}", said)
        elif worth(said):
            yield _Value(start, end, _NAME if key in OPAQUE else "", said)


def _events(text: str) -> Iterator[tuple[int, str]]:
    """Where each line of a stream ends, and which of several texts it belongs to."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end + 1
        yield end, " ".join(_INDEX.findall(text, start, end))
        start = end


def _unquoted(raw: str) -> str:
    if "\\" not in raw and len(raw) > 1 and raw[-1] == '"':
        return raw[1:-1]
    try:
        said = json.loads(raw, strict=False)
    except ValueError:  # cut off, or an escape that is none: as it stands
        return raw[1:]
    return str(said)


def _quoted(said: str, before: str) -> str:
    """A JSON string as the one before was written: non-ASCII letters escaped or not, cut or not."""
    if _is_cut(before):
        return '"' + said
    return json.dumps(said, ensure_ascii="\\u" in before)


def _is_cut(raw: str) -> bool:
    try:
        json.loads(raw, strict=False)
    except ValueError:
        return True
    return False
