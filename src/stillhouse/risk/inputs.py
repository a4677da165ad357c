"""Do the inputs still look like those learnt from? A watch that needs no labels.

A conformal test. Each live value is placed among all values before it, those of the reference
sample *and* the live ones, with ties broken by a number from outside. While the reference and the
live values are exchangeable, these places are independent and uniform on (0, 1): exactly, for any
size of the reference, even none. Against a reference that stays as it was they would not be: all
places would share its luck, and a watch that runs for months would sooner or later take the luck of
a thousand rows for a shift. The price is that new rows join what they are compared with, so a
slow enough shift becomes the new normal unseen; the audit of answers (risk.drift) is there for it.

Memory is bounded by counting values in buckets whose edges are fixed before any value is seen.
Buckets cut from the reference's own quantiles would be filled too evenly to be exchangeable.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from stillhouse.risk.drift import HIGHEST, LONGEST_RUN

SCORE_EDGES = tuple(1 / (1 + math.exp(-quarter / 4)) for quarter in range(-28, 49))
"""For scores in (0, 1): even steps of the log odds, so that 0.99 and 0.999 are not the same."""
SHARE_EDGES = (1e-9, *(step / 40 for step in range(1, 40)))
"""For shares; nothing at all has a bucket of its own."""
LENGTH_EDGES = tuple(2 ** (quarter / 4) for quarter in range(80))
"""For counts of characters, up to a million: a bucket each fifth more."""

LOWER, HIGHER, SPREAD = "lower", "higher", "spread"
_SLOPES = (0.4, 0.9)
_LEAST_PLACE = 1e-6

_LONE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_LONE}]|[^\W\d_{_LONE}]+")


@dataclass(frozen=True, slots=True)
class Reference:
    """How many values fell between each two edges; a value on an edge counts above it."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def refer(edges: tuple[float, ...], values: Iterable[float] = ()) -> Reference:
    """Count a sample in buckets; empty is allowed, and then the first live rows are the sample.

    The values must come the way live ones come: scores of the frozen student on rows that it never
    saw, shares of new words in rows that the known words were not taken from.

    >>> refer((1.0, 2.0), [0.5, 1.0, 1.5, 7.0]).counts
    (1, 2, 1)
    """
    found = Counter(bisect_right(edges, value) for value in values)
    return Reference(edges, tuple(found[bucket] for bucket in range(len(edges) + 1)))


def p_value(reference: Reference, value: float, tie: float) -> float:
    """The place of a value among those of the reference and itself: near 0 low, near 1 high.

    `tie`, in [0, 1), places it among the values of its own bucket; it must be fair and new for each
    row, and must depend on nothing of the row, such as part of a keyed hash of its id.

    >>> p_value(refer((1.0, 2.0), [0.5, 1.5, 1.7]), 7.0, tie=0.5)
    0.875
    """
    bucket = bisect_right(reference.edges, value)
    below = sum(reference.counts[:bucket])
    return (below + tie * (reference.counts[bucket] + 1)) / (sum(reference.counts) + 1)


def joined(reference: Reference, value: float) -> Reference:
    """The reference with one more value."""
    counts = list(reference.counts)
    counts[bisect_right(reference.edges, value)] += 1
    return Reference(reference.edges, tuple(counts))


@dataclass(frozen=True, slots=True)
class InputWatch:
    """What the live values say so far against "they come from where the reference came from".

    While live values and reference are exchangeable, the rows until `alarm` number at least
    `run_length` on average, and an alarm comes within n rows with probability at most
    n / run_length. Where several things are watched, each at `run_length`, the first alarm of any
    of k comes after at least run_length / k rows on average. Traffic with a rhythm of days or weeks
    is not exchangeable, so an alarm is a reason to look and to audit more, and no proof of harm.
    """

    reference: Reference
    run_length: float
    statistics: tuple[float, ...]

    @property
    def level(self) -> float:
        """The mean of the statistics: 0 at the start, at `run_length` the alarm."""
        return sum(self.statistics) / len(self.statistics)

    @property
    def alarm(self) -> bool:
        """Whether the inputs have changed."""
        return self.level >= self.run_length

    @property
    def direction(self) -> str:
        """Where the strongest evidence points: values are lower, higher or more spread than before.

        It means something at an alarm only.
        """
        strongest = max(range(len(self.statistics)), key=self.statistics.__getitem__)
        return _DIRECTIONS[strongest]


def watch_inputs(reference: Reference, run_length: float) -> InputWatch:
    """Begin a watch: no live row was seen.

    >>> watching = watch_inputs(refer(SCORE_EDGES, [0.9, 0.95, 0.97] * 50), run_length=10_000)
    >>> for row in range(40):
    ...     watching = after_input(watching, 0.4, tie=row / 40)
    >>> watching.alarm, watching.direction
    (True, 'lower')
    """
    if not 1 <= run_length <= LONGEST_RUN:
        raise ValueError(f"run_length is {run_length}; give the rows between false alarms, as 5000")
    return InputWatch(reference, run_length, (0.0,) * len(_DIRECTIONS))


def after_input(watching: InputWatch, value: float, tie: float) -> InputWatch:
    """The watch after one more live value, which joins the reference."""
    place = p_value(watching.reference, value, tie)
    followed = tuple(
        min((1.0 + statistic) * bet, HIGHEST)
        for statistic, bet in zip(watching.statistics, _bets(place), strict=True)
    )
    return InputWatch(joined(watching.reference, value), watching.run_length, followed)


_DIRECTIONS = (LOWER, HIGHER, LOWER, HIGHER, LOWER, HIGHER, SPREAD)


def _bets(place: float) -> tuple[float, ...]:
    """Densities on (0, 1), each with mean 1 where places are uniform, in the order of directions.

    Gentle slopes for small shifts of many values, steep ends for large shifts of few.
    """
    low = 0.5 / math.sqrt(max(place, _LEAST_PLACE))
    high = 0.5 / math.sqrt(max(1.0 - place, _LEAST_PLACE))
    tilt = 1.0 - 2.0 * place
    gentle, steep = _SLOPES
    return (
        1.0 + gentle * tilt,
        1.0 - gentle * tilt,
        1.0 + steep * tilt,
        1.0 - steep * tilt,
        low,
        high,
        (low + high) / 2,
    )


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without numbers; signs of unspaced scripts one by one.

    >>> words_of("Card 4411 LATE 卡片")
    ['card', 'late', '卡', '片']
    """
    return [word.casefold() for word in _WORD.findall(text)]


def known_words(texts: Iterable[str], most: int = 50_000) -> frozenset[str]:
    """The words of the rows learnt from, the most frequent ones where there are too many.

    >>> sorted(known_words(["late card", "card?"]))
    ['card', 'late']
    """
    found = Counter(word for text in texts for word in words_of(text))
    return frozenset(word for word, _ in found.most_common(most))


def new_words(text: str, known: frozenset[str]) -> float:
    """The share of a text's words that are not among those known; 0 for a text without words.

    >>> new_words("Where is my card?", frozenset({"where", "is", "card"}))
    0.25
    """
    words = words_of(text)
    return sum(word not in known for word in words) / len(words) if words else 0.0
