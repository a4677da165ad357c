"""The constant part of a prompt and the slots in it, found by comparing many texts."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

_MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*\.?"
_NUMBER = r"[^\W\d]*\d\w*(?:[-./:,][^\W\d]*\d\w*){0,15}"  # one way to match, and it ends soon
_DATE = rf"(?i:\d{{1,2}}(?:st|nd|rd|th)?\s+{_MONTH}\s+\d{{4}}|{_MONTH}\s+\d{{1,2}},?\s+\d{{4}})"
_VARYING = rf"(?:{_DATE}|{_NUMBER})"
_BREAK = r"(?<!\s)\s*\n\s*"  # from where the blanks begin alone: looked for once, not at each
_TOKEN = re.compile(rf"(?P<line>{_BREAK})|(?P<number>{_VARYING})|[^\W\d]+|[^\w\s]")
_ID = re.compile(r"\d[\w.,:/-]*")

NUMBER = "<#>"
"""The key of a number, a date or an id that is masked; no other token looks like it."""
SLOT = "{text}"
"""Stands for a slot in a template's text."""

_SHARED = 0.9
_EVERYWHERE = 0.95
_FEWEST_TEXTS = 5
_MARGIN = 64
_COMPARED_TEXTS = 100
_EDGE_CHARACTERS = 800


class Token(NamedTuple):
    """A word, a sign, a line break or a number, and where it stands in its text."""

    key: str
    start: int
    end: int


def tokens(text: str, mask: bool = True) -> list[Token]:
    """Cut a text into tokens; with `mask`, all numbers, dates and ids have the same key.

    >>> [token.key for token in tokens("Ticket LK-4411 of 3 May 2026: late")]
    ['Ticket', 'LK', '-', '<#>', 'of', '<#>', ':', 'late']
    """
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        key = "\n" if kind == "line" else NUMBER if mask and kind == "number" else match[0]
        found.append(Token(key, *match.span()))
    return found


def masked(text: str) -> str:
    """Write a text so that other numbers, dates, ids and spaces make no difference."""
    return " ".join(_ID.sub("#", text).split())


def words(text: str) -> list[str]:
    """The words of a text in lower case, without numbers."""
    return [word.casefold() for word in re.findall(r"[^\W\d_]+", text)]


@dataclass(frozen=True, slots=True)
class Template:
    """Constant pieces with a slot between each two of them; the outer pieces may be empty.

    `patterns` match the pieces whatever their blanks and varying numbers.
    """

    pieces: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]

    @property
    def text(self) -> str:
        """The template as a person reads it."""
        return SLOT.join(self.pieces)

    @property
    def constant(self) -> int:
        """Characters that never change."""
        return sum(map(len, self.pieces))

    def slot(self, text: str) -> str | None:
        """The variable part of a text, slots joined by line breaks; None if it does not fit.

        The first place that a piece fits is taken, so the time is linear in the text.
        """
        head, *middles, tail = self.patterns
        match = head.match(text)
        found = []
        for piece in middles:
            if match is None:
                return None
            at = match.end()
            match = piece.search(text, at)
            found.append(text[at : match.start()] if match else "")
        if match is None:
            return None
        at = match.end()
        closing = tail.search(text, max(at, len(text) - 2 * len(self.pieces[-1]) - _MARGIN))
        if closing is None:
            return None
        found.append(text[at : closing.start()])
        return "\n".join(filter(None, map(str.strip, found)))


BARE = Template(("", ""), (re.compile(""), re.compile(r"\Z")))
"""No constant part: the whole text is the slot."""


def fixed(text: str) -> Template:
    """The template of a text that never changes but in its numbers, dates, ids and blanks."""
    pattern = rf"\s*{_regex(tokens(text))}\s*\Z"
    return Template((text,), (re.compile(pattern), re.compile(r"\Z")))


def induce(texts: Sequence[str]) -> Template:
    """Find the template that nine texts in ten fit, from their constant parts.

    >>> colours = ["red", "deep blue", "green", "a dull grey", "pink", "off-white"]
    >>> asked = [f"Item {i}: {c}\\nWarm or cold?" for i, c in enumerate(colours)]
    >>> induce(asked).text
    'Item #: {text}\\nWarm or cold?'
    >>> induce(asked).slot("Item 77: brick red\\nWarm or cold?")
    'brick red'
    """
    distinct = sorted(list(dict.fromkeys(texts))[:_COMPARED_TEXTS])
    if len(distinct) < _FEWEST_TEXTS:
        return BARE
    for mask in (True, False):  # where only numbers vary, the numbers are the slot
        template = _from_rows(distinct, [tokens(text, mask) for text in distinct])
        slots = [template.slot(text) for text in distinct]
        if sum(1 for slot in slots if slot) >= 0.5 * len(distinct):
            return template
    return BARE


def _from_rows(texts: list[str], rows: list[list[Token]]) -> Template:
    keys = [[token.key for token in row] for row in rows]
    head, left = _shared_opening(keys)
    if left and not _says(keys[left[0]][:head]):
        head, left = 0, list(range(len(keys)))
    remainder = [keys[i][head:] for i in left]
    tail, still = _shared_opening([row[::-1] for row in remainder])
    left = [left[i] for i in still]
    if not left:
        return BARE
    closing = remainder[still[0]][len(remainder[still[0]]) - tail :]
    tail -= len(closing) - len(_trimmed(closing))
    guide = min(left, key=lambda i: (len(rows[i]), texts[i]))
    end = len(rows[guide]) - tail
    middles = _shared_runs([keys[i][head : len(keys[i]) - tail] for i in left], keys[guide], head)
    runs = [(0, head), *middles, (end, end + tail)]
    fitting = [texts[i] for i in left]
    full = _render(texts[guide], rows[guide], runs, fitting)
    if not middles or _fits(full, texts) >= _SHARED:
        return full
    return _render(texts[guide], rows[guide], [runs[0], runs[-1]], fitting)


def _trimmed(closing: list[str]) -> list[str]:
    """What closes every text, less the marks that end the last sentence of a slot."""
    while closing and closing[0] in ".!?,":
        closing = closing[1:]
    return closing if _says(closing) else []


def _says(run: list[str]) -> bool:
    """Whether a shared run holds more than numbers, line breaks and the marks of sentences."""
    return any(key not in (NUMBER, "\n") and key not in ".!?,;" for key in run)


def _fits(template: Template, texts: Sequence[str]) -> float:
    return sum(1 for text in texts if template.slot(text) is not None) / len(texts)


def _shared_opening(rows: list[list[str]]) -> tuple[int, list[int]]:
    """Length of the opening that nine rows in ten share, and which rows have it."""
    left = list(range(len(rows)))
    depth = 0
    while True:
        counts = Counter(rows[i][depth] for i in left if len(rows[i]) > depth)
        if not counts:
            return depth, left
        key, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
        if count < _SHARED * len(rows):
            return depth, left
        left = [i for i in left if len(rows[i]) > depth and rows[i][depth] == key]
        depth += 1


def _shared_runs(rows: list[list[str]], guide: list[str], start: int) -> list[tuple[int, int]]:
    """Runs of three or more tokens of the guide that nearly every row has somewhere inside."""
    holders: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        holders.update(set(zip(row, row[1:], row[2:], strict=False)))
    inner = min(len(row) for row in rows)
    runs: list[tuple[int, int]] = []
    for i in range(start, start + inner - 2):
        if holders[tuple(guide[i : i + 3])] < _EVERYWHERE * len(rows):
            continue
        if runs and i <= runs[-1][1]:
            runs[-1] = (runs[-1][0], i + 3)
        else:
            runs.append((i, i + 3))
    return runs[:3]


def _render(
    text: str, row: list[Token], runs: list[tuple[int, int]], fitting: list[str]
) -> Template:
    """Write the runs of one guiding text as constant pieces, numbers that vary as `#`."""
    pieces = [_piece(text, row[first:last], fitting) for first, last in runs]
    patterns = [_regex(row[first:last]) for first, last in runs]
    pieces[-1] = pieces[-1].rstrip(" ")
    patterns[0] = r"\s*" + patterns[0]
    patterns[-1] += r"\s*\Z"
    return Template(tuple(pieces), tuple(map(re.compile, patterns)))


def _piece(text: str, run: list[Token], fitting: list[str]) -> str:
    """The run's own wording and the blank behind it; a number stays if all texts have it."""
    if not run:
        return ""
    written, at = [], run[0].start
    for token in run:
        raw = text[token.start : token.end]
        varies = token.key == NUMBER and not all(raw in other for other in fitting)
        written += [text[at : token.start], "#" if varies else raw]
        at = token.end
    return "".join(written) + (" " if text[at : at + 1] == " " else "")


def _regex(run: list[Token]) -> str:
    parts: list[str] = []
    for token in run:
        if token.key == "\n":
            parts.append(r"\s+")
            continue
        if parts and parts[-1] != r"\s+":
            parts.append(r"\s*")
        parts.append(rf"(?<!\w){_VARYING}" if token.key == NUMBER else re.escape(token.key))
    while parts and parts[-1] == r"\s+":
        parts.pop()
    while parts and parts[0] == r"\s+":
        parts.pop(0)
    return "".join(parts)


def families(texts: Sequence[str]) -> list[list[int]]:
    """Sort texts by instructions that they open or close with; texts without one are left out.

    Returns the indices of each family's texts, at least five and one in a hundred each. Where an
    opening and a closing compete for texts, the one with more shared words in all has them.
    """
    heads = [[token.key for token in tokens(text[:_EDGE_CHARACTERS])] for text in texts]
    tails = [[token.key for token in tokens(text[-_EDGE_CHARACTERS:])][::-1] for text in texts]
    fewest = max(_FEWEST_TEXTS, len(texts) // 100)
    every = list(range(len(texts)))
    runs = _branches(heads, every, 0, fewest, _opens)
    runs += _branches(tails, every, 0, fewest, _closes)
    runs.sort(key=lambda run: (-run.depth * len(run.members), texts[run.members[0]]))
    found: list[list[int]] = []
    taken: set[int] = set()
    for run in runs:
        family = [i for i in run.members if i not in taken]
        if len(family) >= fewest:
            found.append(family)
            taken.update(family)
    return found


class _Run(NamedTuple):
    """Rows that share this many tokens."""

    members: list[int]
    depth: int


def _opens(run: list[str]) -> bool:
    """Whether a shared opening reads as an instruction, not as how people begin to talk."""
    spoken = 0
    for key, after in pairwise([*run, ""]):
        lead = spoken >= 2 or (spoken >= 1 and after == "\n")
        if (key == ":" and lead) or (key == "\n" and spoken >= 3):
            return True
        spoken += key[0].isalpha()
    return spoken >= 8


def _closes(run: list[str]) -> bool:
    """Whether a shared closing, read backwards, is an instruction on a line of its own."""
    spoken = 0
    for key in run:
        if key == "\n" and spoken >= 4:
            return True
        spoken += key[0].isalpha()
    return spoken >= 8


def _branches(
    rows: list[list[str]],
    members: list[int],
    depth: int,
    fewest: int,
    instructs: Callable[[list[str]], bool],
) -> list[_Run]:
    """Walk along what the members share; where they part, follow the branches or stop."""
    while True:
        branches = defaultdict(list)
        for i in members:
            if len(rows[i]) > depth:
                branches[rows[i][depth]].append(i)
        large = [branch for _, branch in sorted(branches.items()) if len(branch) >= fewest]
        widest = max(large, key=len, default=[])
        if len(widest) < max(fewest, _SHARED * len(members)):
            break
        members, depth = widest, depth + 1
    stands = bool(members) and instructs(rows[members[0]][:depth])
    if stands:
        large = [branch for branch in large if len(branch) >= 0.1 * len(members)]
        if len(large) < 2 or sum(map(len, large)) < 0.8 * len(members):
            return [_Run(members, depth)]
    found = [run for b in large for run in _branches(rows, b, depth + 1, fewest, instructs)]
    return found or ([_Run(members, depth)] if stands else [])
