"""Splits English-cased-away text into the word pieces that MiniLM knows.

The rules are BERT's: clean, lower, strip accents, split at space and punctuation, then take the
longest known piece first. Written out here because the library that does it needs a client of a
model hub; tests/students/test_students_wordpiece.py compares both on odd text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

LONGEST_WORD = 100
_CJK = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    """A vocabulary of word pieces and the rules to cut text into them."""

    def __init__(self, pieces: Sequence[str], max_tokens: int = 256) -> None:
        """Take the pieces in order of their numbers; longer texts are cut at `max_tokens`."""
        self._number = {piece: number for number, piece in enumerate(pieces)}
        self._max = max_tokens
        self._start, self._end = self._number["[CLS]"], self._number["[SEP]"]
        self._unknown = self._number["[UNK]"]
        self._word = lru_cache(maxsize=50_000)(self._cut)

    @classmethod
    def read(cls, vocabulary: Path, max_tokens: int = 256) -> WordPiece:
        """Read a vocabulary file: one piece a line."""
        return cls(vocabulary.read_text(encoding="utf-8").splitlines(), max_tokens)

    def numbers(self, text: str) -> list[int]:
        """The numbers of the pieces of a text, between start and end marks."""
        found: list[int] = []
        room = self._max - 2
        for word in _words(text):
            found += self._word(word)
            if len(found) >= room:
                del found[room:]
                break
        return [self._start, *found, self._end]

    def _cut(self, word: str) -> tuple[int, ...]:
        if len(word) > LONGEST_WORD:
            return (self._unknown,)
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                number = self._number.get(piece)
                if number is not None:
                    found.append(number)
                    break
            else:
                return (self._unknown,)
            start = end
        return tuple(found)


def _words(text: str) -> list[str]:
    if text.isascii():
        letters = text.lower()
    else:
        cleaned = "".join(map(_clean, text))
        letters = "".join(
            c for c in unicodedata.normalize("NFD", cleaned) if unicodedata.category(c) != "Mn"
        )
    return "".join(map(_spaced, letters)).split()


@lru_cache(maxsize=10_000)
def _clean(c: str) -> str:
    """Drop control characters, set CJK signs apart, lower the rest letter by letter.

    Code points that this Python does not know yet stay, so that a new one changes no answer.
    """
    code = ord(c)
    control = unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs") and c not in "\t\n\r"
    if control or code == 0xFFFD:
        return ""
    return f" {c} " if any(low <= code <= high for low, high in _CJK) else c.lower()


@lru_cache(maxsize=10_000)
def _spaced(c: str) -> str:
    """Set punctuation apart, turn every kind of space into one, drop control characters."""
    code = ord(c)
    ascii_sign = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    category = unicodedata.category(c)
    if c in "\t\n\r" or category.startswith("Z"):
        return " "
    if ascii_sign or category.startswith("P"):
        return f" {c} "
    return "" if category == "Cc" else c
