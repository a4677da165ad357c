"""The drawing surface of every picture: a frame with axes, and marks placed on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from stillhouse.pages.markup import Markup, group, tag
from stillhouse.pages.scales import Scale, Ticks, day_ticks, spread

WIDE, HALF, NARROW = 920, 448, 350
"""Widths in pixels: a whole column, half of it, a phone. Text is the same size in all three."""

_GLYPH, _BOLD_GLYPH = 7.2, 8.0
_LINE = 16
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Format = Callable[[float, int], str]
"""Writes a tick: its value, and the decimals that tell the axis' ticks apart."""

Point = tuple[float, float]


def day_name(day: date) -> str:
    """Write a day without its year.

    >>> day_name(date(2026, 9, 1))
    '1 Sep'
    """
    return f"{day.day} {_MONTHS[day.month - 1]}"


@dataclass(frozen=True, slots=True)
class Canvas:
    """The size of a picture in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class EndLabel:
    """Text that names a line at its right end; `tone` is the line's class."""

    y: float
    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A frame with a scale for each direction; y grows upwards."""

    x: Scale
    y: Scale

    def rule(self, y: float, tone: str) -> Markup:
        """Draw a horizontal line across the frame at a value of y."""
        return tag("line", x1=self.x.start, x2=self.x.end, y1=self.y(y), y2=self.y(y), class_=tone)

    def post(self, x: float, tone: str) -> Markup:
        """Draw a vertical line from bottom to top at a value of x."""
        return tag("line", x1=self.x(x), x2=self.x(x), y1=self.y.start, y2=self.y.end, class_=tone)

    def box(self, low: Point, high: Point, tone: str, title: str = "") -> Markup:
        """Fill the rectangle between two corners; `title` shows when it is pointed at."""
        left, right = self.x(low[0]), self.x(high[0])
        bottom, top = self.y(low[1]), self.y(high[1])
        shown = (tag("title", title),) if title else ()
        return tag(
            "rect", *shown, x=left, y=top, width=right - left, height=bottom - top, class_=tone
        )

    def line(self, points: Sequence[Point], tone: str) -> Markup:
        """Join points by straight lines."""
        return tag("polyline", points=self._places(points), class_=f"line {tone}")

    def dots(self, points: Sequence[Point], tone: str, radius: float = 3) -> Markup:
        """Mark single points."""
        return group(
            *(tag("circle", cx=self.x(x), cy=self.y(y), r=radius, class_=tone) for x, y in points)
        )

    def band(self, lower: Sequence[Point], upper: Sequence[Point], tone: str) -> Markup:
        """Fill the area between two lines."""
        return tag("polygon", points=self._places([*lower, *reversed(upper)]), class_=tone)

    def note(self, at: Point, words: str, tone: str = "note", anchor: str = "start") -> Markup:
        """Write text at a place given in pixels."""
        return tag("text", words, x=at[0], y=at[1], class_=tone, text_anchor=anchor)

    def ends(self, labels: Sequence[EndLabel]) -> Markup:
        """Name lines at their right ends, moved apart where they would overlap."""
        places = spread(
            [self.y(label.y) for label in labels], _LINE, self.y.end + 4, self.y.start - 2
        )
        return group(
            *(
                self.note((self.x.end + 9, place + 4), label.text, f"end {label.tone}")
                for label, place in zip(labels, places, strict=True)
            )
        )

    def clipped(self, *marks: str) -> Markup:
        """Cut marks off at the frame: a nested svg clips without needing an id."""
        left, top = self.x.start, self.y.end
        width, height = self.x.end - left, self.y.start - top
        view = f"{left:g} {top:g} {width:g} {height:g}"
        return tag("svg", *marks, x=left, y=top, width=width, height=height, viewBox=view)

    def _places(self, points: Sequence[Point]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)


def room_for(labels: Sequence[str], glyph: float = _BOLD_GLYPH) -> float:
    """Pixels that the longest label needs beside the frame, with glyphs of this width."""
    return 14 + glyph * max(len(label) for label in labels)


def frame(
    canvas: Canvas,
    x_range: Point,
    y_ticks: Ticks,
    y_format: Format,
    right: float = 14,
    *,
    x_name: str = "",
    y_name: str = "",
) -> tuple[Plot, Markup]:
    """Lay out a plot with a y axis: light rules at the ticks, their labels at the left.

    `y_name` stands above the axis and `x_name` under the place of the x axis' labels.
    """
    labels = [y_format(value, y_ticks.decimals) for value in y_ticks.values]
    x = Scale(x_range[0], x_range[1], room_for(labels, _GLYPH), canvas.width - right)
    y = Scale(
        y_ticks.low, y_ticks.high, canvas.height - (44 if x_name else 26), 32 if y_name else 20
    )
    plot = Plot(x, y)
    marks = [
        group(
            plot.rule(value, "grid"),
            plot.note((x.start - 8, y(value) + 4), label, "tick", "end"),
        )
        for value, label in zip(y_ticks.values, labels, strict=True)
    ]
    if y_name:
        marks.append(plot.note((0, 11), y_name, "tick"))
    if x_name:
        marks.append(plot.note((x.end, canvas.height - 6), x_name, "tick", "end"))
    return plot, group(*marks)


def number_axis(plot: Plot, ticks: Ticks, write: Format) -> Markup:
    """Label the x axis at those ticks that lie on it."""
    inside = [value for value in ticks.values if plot.x.low <= value <= plot.x.high]
    return _under(plot, [(value, write(value, ticks.decimals)) for value in inside])


def day_axis(plot: Plot, first: date, last: date) -> Markup:
    """Label the x axis at days; x counts days as `date.toordinal` does."""
    wanted = max(2, round((plot.x.end - plot.x.start) / 76))
    days = day_ticks(first, last, wanted)
    return _under(plot, [(day.toordinal(), day_name(day)) for day in days])


def _under(plot: Plot, labels: Sequence[tuple[float, str]]) -> Markup:
    base = plot.y.start
    return group(
        *(
            group(
                tag("line", x1=plot.x(x), x2=plot.x(x), y1=base, y2=base + 4, class_="axis"),
                plot.note((plot.x(x), base + 19), words, "tick", "middle"),
            )
            for x, words in labels
        )
    )
