"""Chooses ticks at nice numbers and places values on a line of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from math import isfinite


@dataclass(frozen=True, slots=True)
class Ticks:
    """Evenly spaced values that enclose the data, and the decimals that tell them apart."""

    values: tuple[float, ...]
    decimals: int

    @property
    def low(self) -> float:
        """The first tick: the start of the axis."""
        return self.values[0]

    @property
    def high(self) -> float:
        """The last tick: the end of the axis."""
        return self.values[-1]


def nice_ticks(low: float, high: float, wanted: int = 5) -> Ticks:
    """Enclose [low, high] by ticks at multiples of 1, 2 or 5 times a power of ten.

    The step is the smallest that gives at most `wanted` steps between the data's ends. Decimal
    arithmetic keeps 0.3 from becoming 0.30000000000000004.

    >>> nice_ticks(0, 0.93).values
    (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    >>> nice_ticks(-312, 840).values
    (-500.0, 0.0, 500.0, 1000.0)
    >>> nice_ticks(7, 7).values
    (7.0, 8.0)
    """
    if not (isfinite(low) and isfinite(high)) or low > high or wanted < 1:
        raise ValueError(f"ticks from {low} to {high} in {wanted} steps; give finite low <= high")
    with localcontext(prec=700):
        first, last = Decimal(low), Decimal(high)
        step = _step((last - first) / wanted) if last > first else _flat_step(first)
        start = (first / step).to_integral_value(ROUND_FLOOR)
        stop = max((last / step).to_integral_value(ROUND_CEILING), start + 1)
        values = tuple(float((start + i) * step) for i in range(int(stop - start) + 1))
    exponent = step.as_tuple().exponent
    return Ticks(values, max(0, -int(exponent)))


def _step(at_least: Decimal) -> Decimal:
    """The smallest of 1, 2, 5 x 10^k that is not under `at_least`."""
    power = Decimal(1).scaleb(at_least.adjusted())
    return next(power * m for m in (1, 2, 5, 10) if power * m >= at_least).normalize()


def _flat_step(only: Decimal) -> Decimal:
    """A step for data that is one value: its own power of ten, 1 for zero."""
    return Decimal(1).scaleb(only.adjusted()) if only else Decimal(1)


@dataclass(frozen=True, slots=True)
class Scale:
    """Places [low, high] on the pixels from `start` to `end`; `end` may lie before `start`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value, linear and not clamped.

        >>> Scale(0, 10, 100, 300)(5)
        200.0
        """
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def day_ticks(first: date, last: date, wanted: int) -> tuple[date, ...]:
    """Days to label between two days: every 1, 2, 7 or 14 days, else the first of months.

    >>> [d.isoformat() for d in day_ticks(date(2026, 9, 1), date(2026, 9, 30), 5)]
    ['2026-09-01', '2026-09-08', '2026-09-15', '2026-09-22', '2026-09-29']
    >>> [d.month for d in day_ticks(date(2026, 1, 15), date(2026, 9, 30), 4)]
    [3, 5, 7, 9]
    """
    span = (last - first).days
    for step in (1, 2, 7, 14):
        if span // step < wanted:
            return tuple(first + timedelta(days=i) for i in range(0, span + 1, step))
    months = [
        date(year, month, 1)
        for year in range(first.year, last.year + 1)
        for month in range(1, 13)
        if first <= date(year, month, 1) <= last
    ]
    for step in (1, 2, 3, 6, 12):
        kept = [day for day in months if (day.month - 1) % step == 0]
        if len(kept) <= wanted:
            return tuple(kept)
    return tuple(_thin(kept, wanted))


def _thin(days: Sequence[date], wanted: int) -> list[date]:
    every = -(-len(days) // wanted)
    return list(days[::every])


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart so that none overlap: order kept, `gap` between, inside [low, high].

    Where they cannot all fit they run over `high`. The result follows the order of `places`.

    >>> spread([10, 12, 90], gap=14, low=0, high=100)
    [10, 24, 90]
    >>> spread([99, 98], gap=10, low=0, high=100)
    [100, 90]
    """
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    moved = list(places)
    floor = low
    for i in order:
        moved[i] = max(moved[i], floor)
        floor = moved[i] + gap
    ceiling = high
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    if moved and moved[order[0]] < low:
        for rank, i in enumerate(order):
            moved[i] = low + rank * gap
    return moved
