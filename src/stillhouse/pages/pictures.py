"""The pictures: each takes a canvas and the numbers, and gives the marks of one SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from stillhouse.pages.markup import Markup, group
from stillhouse.pages.numerals import axis_count, axis_money, axis_share, money, share, target
from stillhouse.pages.plot import (
    NARROW,
    Canvas,
    EndLabel,
    Format,
    Plot,
    day_axis,
    day_name,
    frame,
    number_axis,
    room_for,
)
from stillhouse.pages.report import FanPoint, LearningPoint, RiskCurves, RiskPoint
from stillhouse.pages.scales import Ticks, nice_ticks

_MOST_POINTS = 300
_WIDEST_BAR = 40


@dataclass(frozen=True, slots=True)
class Series:
    """One value a day under a name; `tone` is its class in the style sheet."""

    name: str
    values: tuple[float | None, ...]
    tone: str


def stacked_days(
    canvas: Canvas,
    days: Sequence[date],
    series: Sequence[Series],
    write: Format,
    say: Callable[[float], str],
) -> Markup:
    """Draw one bar a day, its series on top of each other; what is negative hangs under zero.

    `write` labels the axis, `say` tells an amount in full where a bar is pointed at.
    """
    ordinals = [day.toordinal() for day in days]
    stacks = [_stack([one.values[i] or 0 for one in series]) for i in range(len(days))]
    ends = [0.0, *(end for stack in stacks for pair in stack for end in pair)]
    ticks = nice_ticks(min(ends), max(ends), 4)
    plot, marks = frame(canvas, (ordinals[0] - 0.6, ordinals[-1] + 0.6), ticks, write)
    half = min(0.38, _WIDEST_BAR / 2 / (plot.x(1) - plot.x(0)))
    bars = [
        plot.box(
            (x - half, low),
            (x + half, high),
            one.tone,
            f"{day_name(day)}, {one.name}: {say(one.values[i] or 0)}",
        )
        for i, (day, x, stack) in enumerate(zip(days, ordinals, stacks, strict=True))
        for one, (low, high) in zip(series, stack, strict=True)
    ]
    return group(marks, *bars, plot.rule(0, "axis"), day_axis(plot, days[0], days[-1]))


def _stack(amounts: Sequence[float]) -> list[tuple[float, float]]:
    """The lower and upper end of each amount: gains pile up from zero, losses down from it."""
    top = bottom = 0.0
    ends = []
    for amount in amounts:
        if amount < 0:
            ends.append((bottom + amount, bottom))
            bottom += amount
        else:
            ends.append((top, top + amount))
            top += amount
    return ends


def daily_lines(
    canvas: Canvas,
    days: Sequence[date],
    series: Sequence[Series],
    ticks: Ticks,
    write: Format,
    *,
    limit: tuple[float, str] | None = None,
) -> Markup:
    """Draw one line a series over days; `limit` is a value to compare with, and its words."""
    ordinals = [float(day.toordinal()) for day in days]
    x_range = (ordinals[0] - 0.5, ordinals[-1] + 0.5)
    plot, marks = frame(canvas, x_range, ticks, write)
    drawn = []
    for one in series:
        points = [(x, v) for x, v in zip(ordinals, one.values, strict=True) if v is not None]
        drawn += [plot.line(points, one.tone), plot.dots(points, one.tone, 2.5)]
    if limit:
        value, words = limit
        below = (plot.x.start + 6, plot.y(value) + 15)
        drawn += [plot.rule(value, "limit"), plot.note(below, words)]
    return group(marks, plot.rule(ticks.low, "axis"), *drawn, day_axis(plot, days[0], days[-1]))


def risk_against_accept(canvas: Canvas, curves: RiskCurves, certified: float | None) -> Markup:
    """Draw the risk curves, the wanted limit and the certified accept rate."""
    named = [
        (name, points, tone)
        for name, points, tone in (
            ("calibration", curves.calibration, "calibration"),
            ("test", curves.test, "plain"),
        )
        if points
    ]
    top = max([1.6 * curves.max_risk, *(points[-1].risk for _, points, _ in named)])
    right = room_for([name for name, _, _ in named])
    plot, marks = frame(
        canvas,
        (0, 1),
        nice_ticks(0, top),
        axis_share,
        right,
        x_name="share of rows that the student answers",
        y_name="share of those answers that differ from the teacher's",
    )
    region = _certified_region(plot, curves.max_risk, certified)
    lines = [plot.line(_risk_places(points), tone) for _, points, tone in named]
    ends = [EndLabel(points[-1].risk, name, tone) for name, points, tone in named]
    return group(
        marks,
        region,
        _limit(plot, curves.max_risk, certified),
        plot.clipped(*lines),
        plot.rule(0, "axis"),
        number_axis(plot, nice_ticks(0, 1), axis_share),
        plot.ends(ends),
    )


def _limit(plot: Plot, max_risk: float, certified: float | None) -> Markup:
    """Draw the wanted limit, its words beside the certified edge where that is near the axis."""
    start = plot.x(certified) if certified is not None and certified < 0.4 else plot.x.start
    words = f"wanted: at most {target(max_risk)}"
    return group(plot.rule(max_risk, "limit"), plot.note((start + 6, plot.y(max_risk) - 6), words))


def _certified_region(plot: Plot, max_risk: float, certified: float | None) -> Markup:
    """Shade what is certified and name its right edge, on the side that has room."""
    if certified is None:
        return Markup()
    side, anchor = (-6, "end") if certified > 0.5 else (6, "start")
    return group(
        plot.box((0, 0), (certified, max_risk), "certified"),
        plot.post(certified, "threshold"),
        plot.note(
            (plot.x(certified) + side, plot.y.end + 8),
            f"certified: {share(certified)}",
            "note student",
            anchor,
        ),
    )


def _risk_places(points: Sequence[RiskPoint]) -> list[tuple[float, float]]:
    return [(point.accept_rate, point.risk) for point in thin(points, _MOST_POINTS)]


def learning_curve(canvas: Canvas, points: Sequence[LearningPoint]) -> Markup:
    """Draw agreement and accept rate against the number of training rows."""
    agreement = [(float(point.rows), point.agreement) for point in points]
    accepted = [
        (float(point.rows), point.accept_rate) for point in points if point.accept_rate is not None
    ]
    drawn = [("agreement", agreement, "student")]
    if accepted:
        drawn.append(("accept rate", accepted, "plain"))
    labels = [_end_text(canvas, name, share(line[-1][1])) for name, line, _ in drawn]
    most = max(1, *(point.rows for point in points))
    plot, marks = frame(
        canvas,
        (0, most),
        nice_ticks(0, 1),
        axis_share,
        room_for(labels),
        x_name="training rows",
    )
    return group(
        marks,
        *(group(plot.line(line, tone), plot.dots(line, tone)) for _, line, tone in drawn),
        plot.rule(0, "axis"),
        number_axis(plot, nice_ticks(0, most, 5 if canvas.width > NARROW else 4), axis_count),
        plot.ends(
            [
                EndLabel(line[-1][1], label, tone)
                for label, (_, line, tone) in zip(labels, drawn, strict=True)
            ]
        ),
    )


def _end_text(canvas: Canvas, name: str, value: str) -> str:
    """Name a line with its last value, with its name alone on a phone, where room is short."""
    return f"{name} {value}" if canvas.width > NARROW else name


def break_even_fan(canvas: Canvas, fan: Sequence[FanPoint], currency: str) -> Markup:
    """Draw cumulative net money: the band from P10 to P90, the middle, and the zero line."""
    low, high = min(0.0, *(p.p10 for p in fan)), max(0.0, *(p.p90 for p in fan))
    ticks = nice_ticks(low, high)
    last = fan[-1]
    labels = [
        _end_text(canvas, name, money(value, currency))
        for name, value in (("P90", last.p90), ("P50", last.p50), ("P10", last.p10))
    ]
    plot, marks = frame(
        canvas,
        (fan[0].month, max(last.month, fan[0].month + 1)),
        ticks,
        partial(axis_money, currency=currency),
        room_for(labels),
        x_name="months",
        y_name="cumulative net money",
    )
    months = nice_ticks(fan[0].month, last.month, 12 if canvas.width > NARROW else 6)
    return group(
        marks,
        plot.band([(p.month, p.p10) for p in fan], [(p.month, p.p90) for p in fan], "band"),
        plot.rule(0, "zero"),
        plot.line([(p.month, p.p50) for p in fan], "student"),
        number_axis(plot, months, axis_count),
        plot.ends(
            [
                EndLabel(last.p90, labels[0], "muted"),
                EndLabel(last.p50, labels[1], "student"),
                EndLabel(last.p10, labels[2], "muted"),
            ]
        ),
    )


def thin(points: Sequence[RiskPoint], most: int) -> list[RiskPoint]:
    """Keep at most `most` points, evenly by rank, the first and the last among them.

    >>> [p.accept_rate for p in thin([RiskPoint(i / 10, 0) for i in range(11)], 3)]
    [0.0, 0.5, 1.0]
    """
    if len(points) <= most:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (most - 1))] for i in range(most)]
