"""Drift put into recorded traffic, to see whether it would be noticed, and how soon.

Three kinds of shift, for three watches that see different things. `words` mistypes texts: the
inputs change. `labels` has the teacher answer otherwise: only audits can tell. `texts` asks what
the callers of other labels asked, and the answers stay: inputs look as ever and mean another thing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from stillhouse.core.errors import CallerError
from stillhouse.flows.replay import Recorded

MISTYPED = 0.5
"""The chance of each word of a mistyped text to get one wrong letter."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FORMS = "give shift=SHARE, shift=words:SHARE, shift=labels:SHARE or teacher=MODEL, each with @WHEN"


class Kind(StrEnum):
    """What is changed."""

    TEXTS = "texts"
    WORDS = "words"
    LABELS = "labels"
    TEACHER = "teacher"


class Injection(NamedTuple):
    """What changes, in which share of the rows, and from when on.

    `begins` is a row's number, counted from 1, or a share of the traffic where it is a float.
    `model` is the new teacher's name.
    """

    kind: Kind
    share: float = 1.0
    begins: int | float = 0.5
    model: str = ""

    def first_row(self, n_rows: int) -> int:
        """The number of the first row that may be changed; CallerError where there is none."""
        first = self.begins if isinstance(self.begins, int) else int(self.begins * n_rows) + 1
        if not 1 <= first <= n_rows:
            raise CallerError(
                f"{self} would begin at row {first}, and the replay has {n_rows}; "
                "begin earlier, as @0.5"
            )
        return first

    def __str__(self) -> str:
        if self.kind is Kind.TEACHER:
            return f"teacher={self.model}@{self.begins}"
        return f"shift={self.kind.value}:{self.share:g}@{self.begins}"


def read_injection(words: str) -> Injection:
    """What somebody wants injected; CallerError with the forms there are.

    >>> print(read_injection("shift=0.3"), read_injection("teacher=gpt-6@500"))
    shift=texts:0.3@0.5 teacher=gpt-6@500
    """
    what, _, rest = words.partition("=")
    said, _, when = rest.rpartition("@") if "@" in rest else (rest, "", "")
    begins = _begins(words, when) if "@" in rest else 0.5
    if what == "teacher" and said:
        return Injection(Kind.TEACHER, 1.0, begins, said)
    kind, _, share = said.rpartition(":")
    if what != "shift" or kind not in ("", Kind.TEXTS, Kind.WORDS, Kind.LABELS):
        raise CallerError(f"--inject is {words!r}; {_FORMS}")
    return Injection(Kind(kind or Kind.TEXTS), _share(words, share), begins)


def _share(words: str, given: str) -> float:
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise CallerError(
            f"--inject is {words!r}, whose share is {given!r}; give more than 0 and at most 1"
        )
    return share


def _begins(words: str, given: str) -> int | float:
    """A whole number is a row, any other a share of the traffic."""
    if given.isdecimal() and int(given) >= 1:
        return int(given)
    try:
        when = float(given)
    except ValueError:
        when = -1.0
    if not 0 <= when < 1:
        raise CallerError(
            f"--inject is {words!r}, whose WHEN is {given!r}; give a row's number, or a share of "
            "the traffic under 1, as 0.5"
        )
    return when


def inject(
    rows: Sequence[Recorded], injections: Sequence[Injection], seed: int
) -> Iterator[Recorded]:
    """The rows as they would have come; the same for the same seed, whatever else is injected.

    CallerError where the rows do not allow it: too few, or of one label where it needs another.
    """
    firsts = [one.first_row(len(rows)) for one in injections]
    labels = sorted({row.label for row in rows if row.label})
    broken = (Kind.TEXTS, Kind.LABELS)
    if len(labels) < 2 and any(one.kind in broken for one in injections):
        raise CallerError("every row has the same label, so none can be exchanged; inject words")
    return _changed(rows, labels, list(zip(injections, firsts, strict=True)), seed)


def _changed(
    rows: Sequence[Recorded],
    labels: Sequence[str],
    injections: Sequence[tuple[Injection, int]],
    seed: int,
) -> Iterator[Recorded]:
    for number, row in enumerate(rows, start=1):
        new = row
        for one, first in injections:
            chance = random.Random(f"{seed} {one.kind} {row.row_id}")  # noqa: S311
            if number >= first and chance.random() < one.share:
                new = _change(new, one, rows, labels, chance)
        yield new


def _change(
    row: Recorded,
    injection: Injection,
    rows: Sequence[Recorded],
    labels: Sequence[str],
    chance: random.Random,
) -> Recorded:
    match injection.kind:
        case Kind.TEACHER:
            return row._replace(teacher=injection.model)
        case Kind.WORDS:
            return row._replace(text=mistyped(row.text, chance))
        case Kind.LABELS:
            return row._replace(label=chance.choice([one for one in labels if one != row.label]))
        case Kind.TEXTS:
            other = chance.choice(rows)
            while other.label == row.label:
                other = chance.choice(rows)
            return row._replace(text=other.text)


def mistyped(text: str, chance: random.Random) -> str:
    """The text with one wrong letter in about half of its words.

    >>> mistyped("where is my card", random.Random(3))
    'where iu my card'
    """
    words = text.split(" ")
    for place, word in enumerate(words):
        letters = [n for n, sign in enumerate(word) if sign.isalpha()]
        if letters and chance.random() < MISTYPED:
            at = chance.choice(letters)
            words[place] = word[:at] + chance.choice(_LETTERS) + word[at + 1 :]
    return " ".join(words)
