"""What the log says about a task: its volume, its teachers, how far they agree with themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from stillhouse.core.learning import AnswerShape, Task
from stillhouse.core.traffic import AttemptKind, Exchange
from stillhouse.distillation.answers import AnswerTally, read_answer
from stillhouse.distillation.discovery_groups import Lowest, fingerprint

_COUNTED_TEXTS = 16_384
_EXAMPLES = 3


class Place(NamedTuple):
    """Where an exchange belongs: its task, its slot text and how much of its prompt is constant."""

    task: str
    text: str
    constant: int


@dataclass(frozen=True, slots=True)
class TaskProfile:
    """A task and what the log says about it.

    `constant_share` is the share of input tokens that never change, told by characters and
    weighted by the logged token counts where every exchange has one. `answers` counts labels or
    tools; `strays` counts the answers outside them. `presence` is each field's share of the
    objects. `repeat_share` is the share of exchanges whose slot text was asked before, and
    `self_agreement` how often one model then gave the same answer, over `repeated_pairs`; None
    without such pairs. `examples` are slot texts.
    """

    task: Task
    volume: int
    first_us: int | None
    last_us: int | None
    constant_share: float
    teachers: Mapping[str, int]
    answers: Mapping[str, int]
    strays: int
    presence: Mapping[str, float]
    repeat_share: float
    self_agreement: float | None
    repeated_pairs: int
    examples: tuple[str, ...]


def audits(exchange: Exchange) -> bool:
    """Whether an exchange is no caller's: a teacher was asked to judge a student's answer."""
    return any(attempt.kind is AttemptKind.SHADOW for attempt in exchange.attempts)


class Count:
    """What is counted of one task."""

    def __init__(self) -> None:
        self.volume = 0
        self._times: tuple[int, int] | None = None
        self._characters = self._constant_characters = 0
        self._tokens, self._constant_tokens, self._metered = 0, 0.0, 0
        self._teachers: Counter[str] = Counter()
        self._answers = AnswerTally()
        self._repeats: Lowest[Counter[tuple[str, str]]] = Lowest(_COUNTED_TEXTS)
        self._examples: Lowest[str] = Lowest(_EXAMPLES)

    def add(self, exchange: Exchange, place: Place) -> None:
        """Count an exchange of the task; its own volume is what callers asked.

        An audit asks the teacher once more what a student has answered: its answer counts, and the
        request does not count twice.
        """
        if not audits(exchange):
            self.volume += 1
            self._date(exchange.at_us)
        teacher = next((a for a in reversed(exchange.attempts) if a.ok), None)
        if teacher is not None and teacher.kind is AttemptKind.STUDENT:
            return
        model = teacher.model if teacher else ""
        self._teachers[model] += 1
        self._weigh(exchange, place.constant)
        answer = read_answer(exchange.completion)
        self._answers.add(answer)
        key = fingerprint(place.text)
        if self._repeats.admits(key):
            seen = self._repeats.get(key)
            if seen is None:
                seen = Counter()
                self._repeats.put(key, seen)
            seen[model, str(fingerprint(answer.value))] += 1
        if place.text:
            self._examples.put(key, place.text)

    def _date(self, at_us: int | None) -> None:
        if at_us is not None:
            first, last = self._times or (at_us, at_us)
            self._times = (min(first, at_us), max(last, at_us))

    def _weigh(self, exchange: Exchange, constant: int) -> None:
        characters = sum(len(message.text) for message in exchange.request.messages)
        constant = min(constant, characters)
        self._characters += characters
        self._constant_characters += constant
        usages = [attempt.usage for attempt in exchange.attempts if attempt.usage]
        tokens = usages[-1].total_input_tokens if usages else 0
        if tokens and characters:
            self._metered += 1
            self._tokens += tokens
            self._constant_tokens += tokens * constant / characters

    def profile(self, task: Task) -> TaskProfile:
        """What was counted, with the shape of the answers."""
        space = self._answers.space(task.template)
        tally = self._answers.tools if space.shape is AnswerShape.TOOL else self._answers.labels
        counts = {label: tally[label] for label in sorted(space.labels, key=lambda n: -tally[n])}
        repeated, agreement, pairs = self._repetition()
        first, last = self._times or (None, None)
        return TaskProfile(
            task=replace(
                task, shape=space.shape, labels=space.labels, fields=tuple(space.presence)
            ),
            volume=self.volume,
            first_us=first,
            last_us=last,
            constant_share=self._constant_share(),
            teachers=dict(sorted(self._teachers.items())),
            answers=counts,
            strays=self._answers.total - sum(counts.values()) if counts else 0,
            presence=space.presence,
            repeat_share=repeated,
            self_agreement=agreement,
            repeated_pairs=pairs,
            examples=tuple(self._examples.values()),
        )

    def _constant_share(self) -> float:
        if self._metered == self._answers.total and self._tokens:
            return self._constant_tokens / self._tokens
        return self._constant_characters / self._characters if self._characters else 0.0

    def _repetition(self) -> tuple[float, float | None, int]:
        """Share of repeats, the teacher's agreement with itself, and over how many repeats.

        A text answered m times by one model counts as m - 1 repeats, each agreeing with the
        chance that two of the m answers, drawn without replacement, are the same.
        """
        asked = distinct = pairs = 0
        agreeing = 0.0
        for seen in self._repeats.values():
            asked, distinct = asked + seen.total(), distinct + 1
            for _, answers in groupby(sorted(seen.items()), key=lambda entry: entry[0][0]):
                counts = [count for _, count in answers]
                m = sum(counts)
                if m > 1:
                    pairs += m - 1
                    agreeing += sum(n * (n - 1) for n in counts) / m
        repeated = (asked - distinct) / asked if asked else 0.0
        return repeated, agreeing / pairs if pairs else None, pairs
