"""The building blocks of the page: sections, figures with their tables, lists of facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from stillhouse.core.traffic import Evidence
from stillhouse.pages.markup import Markup, group, tag, text
from stillhouse.pages.numerals import interval, share
from stillhouse.pages.plot import HALF, NARROW, WIDE, Canvas
from stillhouse.pages.report import Interval


def section(key: str, title: str, *parts: str) -> Markup:
    """A chapter of the page, found by `#key`."""
    heading = tag("h2", title, id=f"{key}-title")
    return tag("section", heading, *parts, id=key, aria_labelledby=f"{key}-title")


def paragraph(*parts: str, tone: str | None = None) -> Markup:
    """One paragraph."""
    return tag("p", *parts, class_=tone)


def absent(sentence: str) -> Markup:
    """Say that something is not there, and why."""
    return paragraph(sentence, tone="absent")


def bullets(sentences: Iterable[str], tone: str | None = None) -> Markup:
    """A list of sentences, nothing where there are none."""
    items = [tag("li", sentence) for sentence in sentences]
    return tag("ul", *items, class_=tone) if items else Markup()


def table(caption: str, sides: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table that scrolls sideways on a small screen; each row's first cell is its name.

    `sides` has a letter for each column: `l` for words, `r` for numbers, which stand at the right.
    """
    classes = [{"l": None, "r": "n"}[side] for side in sides]
    head = [tag("th", name, scope="col", class_=c) for name, c in zip(heads, classes, strict=True)]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", class_=classes[0]),
            *(tag("td", cell, class_=c) for cell, c in zip(row[1:], classes[1:], strict=True)),
        )
        for row in rows
    ]
    whole = tag(
        "table", tag("caption", caption), tag("thead", tag("tr", *head)), tag("tbody", *body)
    )
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Names with their values, in as many columns as fit."""
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs),
        class_="facts",
    )


def folded(summary: str, content: Markup) -> Markup:
    """Numbers behind a picture: they open on demand and are not printed."""
    return tag("details", tag("summary", summary), content, class_="numbers")


def color_key(names: Iterable[tuple[str, str, str]]) -> Markup:
    """Names the colours of a picture: the class of each, its name, its amount."""
    items = [
        tag("li", tag("span", class_=f"swatch {tone}"), tag("b", name), f" {amount}")
        for tone, name, amount in names
    ]
    return tag("ul", *items, class_="key")


def badge(evidence: Evidence) -> Markup:
    """An evidence grade as a small word."""
    return tag("span", evidence.value, class_=f"grade {evidence.value}")


def figure(
    key: str,
    title: str,
    caption: str,
    draw: Callable[[Canvas], Markup],
    *,
    numbers: Markup | None = None,
    legend: Markup | None = None,
    half: bool = False,
    height: int = 300,
) -> Markup:
    """A picture drawn twice, for a wide and a narrow screen, with its numbers folded away.

    Drawing twice keeps text at one size: a scaled picture would be illegible on a phone. The style
    sheet shows one of the two; `caption` says what is to be seen, also to who cannot see it.
    """
    wide = Canvas(HALF, 220) if half else Canvas(WIDE, height)
    narrow = Canvas(NARROW, 220 if half else height - 20)
    return tag(
        "figure",
        tag("figcaption", tag("h3", title), paragraph(caption)),
        legend or "",
        *(
            _svg(f"{key}-{name}", draw(canvas), canvas, title, caption, class_=f"chart {name}")
            for name, canvas in (("wide", wide), ("narrow", narrow))
        ),
        folded("The numbers", numbers) if numbers else "",
        id=key,
    )


def _svg(
    key: str, marks: Markup, canvas: Canvas, title: str, caption: str, *, class_: str
) -> Markup:
    """A picture with its title and its text alternative, both found by `key`."""
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", caption, id=f"{key}-desc"),
        marks,
        class_=class_,
        viewBox=f"0 0 {canvas.width} {canvas.height}",
        width=canvas.width,
        height=canvas.height,
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def sentence_case(words: str) -> str:
    """Raise the first letter and leave the others.

    >>> sentence_case("spend by model")
    'Spend by model'
    """
    return words[:1].upper() + words[1:]


def interval_lines(known: Interval | None) -> Markup:
    """An estimate with its interval under it."""
    if known is None:
        return text("nothing was accepted")
    return lines(share(known.value), tag("span", interval(known), class_="small"))


def breakable(label: str) -> Markup:
    """A label in one word that may go over two lines after an underscore.

    >>> breakable("card_lost")
    'card_<wbr/>lost'
    """
    first, *others = label.split("_")
    return group(first, *(part for other in others for part in ("_", tag("wbr"), other)))


def lines(*parts: str) -> Markup:
    """Parts of one table cell under each other."""
    return group(*(tag("div", part) for part in parts))
