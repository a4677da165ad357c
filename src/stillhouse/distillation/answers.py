"""What the answers of a task have in common: a label set, JSON fields, a tool, or only text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from unicodedata import normalize

from stillhouse.core.learning import AnswerShape
from stillhouse.core.traffic import Completion

LONGEST_LABEL = 80
"""Characters; a longer answer is text."""
MOST_ANSWERS = 20_000
"""Distinct short answers that are counted one by one; a task with more has no label set."""

_OPENING = " \"'`*“”‘’„«»‹›"
_CLOSING = _OPENING + ".,;:!?。！？"
_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)


def normalise_label(text: str) -> str:
    """Write a label one way, whatever its case, spaces, quotes and closing punctuation.

    >>> normalise_label(' "Card_Arrival." ')
    'card arrival'
    >>> normalise_label("?")
    '?'
    """
    folded = text
    for _ in range(2):  # one round can leave letters that fold once more
        folded = normalize("NFKC", normalize("NFKC", folded).casefold())
    spaced = " ".join(folded.replace("_", " ").split())
    return spaced.lstrip(_OPENING).rstrip(_CLOSING) or spaced


_short_label = lru_cache(maxsize=65_536)(normalise_label)


class Answer(NamedTuple):
    """One answer in the form that is compared: equal values are the same answer."""

    shape: AnswerShape
    value: str
    fields: tuple[str, ...] = ()


def read_answer(completion: Completion) -> Answer:
    """Say what one answer could be, and write it in a form that can be compared.

    >>> read_answer(Completion(text="Refund_Status.")).value
    'refund status'
    >>> read_answer(Completion(text='{"b": 1, "a": null}')).fields
    ('b', 'a')
    """
    if completion.tool:
        return Answer(AnswerShape.TOOL, completion.tool)
    text = completion.text.strip()
    record = _json_object(text)
    if record is not None:
        return Answer(AnswerShape.FIELDS, json.dumps(record, sort_keys=True), tuple(record))
    if len(text) <= LONGEST_LABEL and "\n" not in text:
        return Answer(AnswerShape.LABELS, _short_label(text))
    return Answer(AnswerShape.TEXT, " ".join(text.split()))


def _json_object(text: str) -> dict[str, object] | None:
    if text.startswith("```") and (fenced := _FENCED.fullmatch(text)):
        text = fenced[1]
    if not text.startswith("{"):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


@dataclass(frozen=True, slots=True)
class AnswerSpace:
    """The answers that a task can give; `presence` is each field's share of the objects."""

    shape: AnswerShape
    labels: tuple[str, ...] = ()
    presence: Mapping[str, float] = field(default_factory=dict)

    @property
    def closed(self) -> bool:
        """Whether the answers are of a known form, and not merely text."""
        return self.shape is not AnswerShape.TEXT


class AnswerTally:
    """Counts answers one by one in bounded memory, in any order."""

    def __init__(self) -> None:
        self.total = 0
        self.tools: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.fields: Counter[str] = Counter()
        self._positions: Counter[str] = Counter()
        self._objects = 0
        self._open = False

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.total += 1
        if answer.shape is AnswerShape.TOOL:
            self.tools[answer.value] += 1
        elif answer.shape is AnswerShape.FIELDS:
            self._objects += 1
            self.fields.update(answer.fields)
            for position, name in enumerate(answer.fields):
                self._positions[name] += position
        elif answer.shape is AnswerShape.LABELS and not self._open:
            self.labels[answer.value] += 1
            if len(self.labels) > MOST_ANSWERS:
                self._open = True
                self.labels.clear()

    def space(self, prompt: str) -> AnswerSpace:
        """Say what the answers have in common; a small share of stray answers does not matter.

        Answers named by the prompt are labels however rare they are.
        """
        if self.total and self.tools.total() >= 0.5 * self.total:
            return AnswerSpace(AnswerShape.TOOL, tuple(sorted(self.tools)))
        if self.total and self._objects >= 0.8 * self.total:
            return AnswerSpace(AnswerShape.FIELDS, presence=self._presence())
        if labels := self._label_set(prompt):
            return AnswerSpace(AnswerShape.LABELS, labels)
        return AnswerSpace(AnswerShape.TEXT)

    def share_within(self, space: AnswerSpace) -> float:
        """Share of these answers that a task with this answer space could have given."""
        if not self.total:
            return 0.0
        if space.shape is AnswerShape.TEXT:
            return 0.0 if self.space("").closed else 1.0
        if space.shape is AnswerShape.FIELDS:
            known = sum(count for name, count in self.fields.items() if name in space.presence)
            return self._objects / self.total * known / max(self.fields.total(), 1)
        counts = self.tools if space.shape is AnswerShape.TOOL else self.labels
        return sum(counts[label] for label in space.labels) / self.total

    def _presence(self) -> dict[str, float]:
        """Fields that at least one object in twenty has: the commonest first, then as written."""
        frequent = [name for name, n in self.fields.items() if n >= 0.05 * self._objects]
        frequent.sort(
            key=lambda name: (
                -round(10 * self.fields[name] / self._objects),
                self._positions[name] / self.fields[name],
                name,
            )
        )
        return {name: self.fields[name] / self._objects for name in frequent}

    def _label_set(self, prompt: str) -> tuple[str, ...]:
        """The closed set, or nothing if the next answer would too often be a new one.

        The chance of a new answer is estimated by the share of answers seen once (Good 1953).
        """
        counts = {label: n for label, n in self.labels.items() if label}
        named = _named_by(prompt) & counts.keys()
        fewest = max(2, min(self.total * 0.0005, 25))
        labels = {label for label, n in counts.items() if n >= fewest} | named
        seen_once = sum(1 for label, n in counts.items() if n == 1 and label not in named)
        covered = sum(counts[label] for label in labels)
        unlike = self.total - sum(counts.values())
        if not labels or unlike > 0.1 * self.total or seen_once > 0.2 * self.total:
            return ()
        few = covered >= 0.8 * self.total and 2 * len(labels) <= self.total
        return tuple(sorted(labels)) if few else ()


@lru_cache(maxsize=256)
def _named_by(prompt: str) -> frozenset[str]:
    """Phrases that stand alone in a prompt: on a line, in a list, in quotes, before a dash."""
    phrases = re.split(r"\n|[,;|\"`()\[\]{}]|\s[-–—/]\s|:\s|\s(?:or|and)\s|\.\s|^[-*•]\s", prompt)
    return frozenset(
        normalise_label(re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", phrase))
        for phrase in phrases
        if len(phrase) <= LONGEST_LABEL + 8
    )
