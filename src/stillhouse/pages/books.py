"""The section on the books: spend over time, and the spend cut in several ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from stillhouse.pages.blocks import (
    absent,
    badge,
    color_key,
    facts,
    figure,
    section,
    sentence_case,
    table,
)
from stillhouse.pages.markup import Markup, group, tag
from stillhouse.pages.numerals import axis_money, count, money, share
from stillhouse.pages.pictures import Series, stacked_days
from stillhouse.pages.report import Books, SpendLine, SpendOverTime, SpendTable

_TONES = ("s1", "s2", "s3", "s4", "s5")
_REST = "s0"


def books_section(books: Books | None, currency: str) -> Markup:
    """Show what was spent, on what, and how much of it has no price."""
    if books is None:
        return section("books", "Books", absent("No books were kept for this report."))
    parts = [
        facts(
            [
                ("Requests", count(books.requests)),
                ("Spend in the books", money_or_unpriced(books.spend, currency)),
                ("Reported by providers", money(books.reported, currency)),
                ("Unpriced requests", share(books.unpriced_share)),
                ("Evidence", badge(books.evidence)),
            ]
        )
    ]
    if books.over_time and books.over_time.days:
        parts.append(_over_time(books.over_time, currency))
    else:
        parts.append(absent("The log holds no times, so spend cannot be shown by day."))
    parts += [_spend_table(one, currency) for one in books.tables if one.lines]
    return section("books", "Books", *parts)


def money_or_unpriced(amount: float | None, currency: str) -> str:
    """An unknown price is said to be unknown: it is never zero."""
    return "unpriced" if amount is None else money(amount, currency)


@dataclass(frozen=True, slots=True)
class _Stack:
    name: str
    total: float
    series: Series


def _stacks(spend: SpendOverTime) -> list[_Stack]:
    """The series by falling total, all beyond the fifth joined into one."""
    columns = list(zip(*(day.amounts for day in spend.days), strict=True))
    ranked = sorted(
        zip(spend.names, columns, strict=True), key=lambda pair: (-sum(pair[1]), pair[0])
    )
    most = len(_TONES)
    shown = [
        _Stack(name, sum(values), Series(name, values, tone))
        for (name, values), tone in zip(ranked[:most], _TONES, strict=False)
    ]
    rest = [values for _, values in ranked[most:]]
    if rest:
        joined = tuple(sum(day) for day in zip(*rest, strict=True))
        name = f"{len(rest)} others"
        shown.append(_Stack(name, sum(joined), Series(name, joined, _REST)))
    return shown


def _legend(stacks: Sequence[_Stack], total: float, currency: str) -> Markup:
    """Each colour's name, amount and share of the whole."""
    return color_key(
        (
            stack.series.tone,
            stack.name,
            f"{money(stack.total, currency)} · {share(stack.total / total if total else None)}",
        )
        for stack in stacks
    )


def _over_time(spend: SpendOverTime, currency: str) -> Markup:
    days = [day.day for day in spend.days]
    stacks = _stacks(spend)
    top = max(sum(day.amounts) for day in spend.days)
    total = sum(stack.total for stack in stacks)
    caption = (
        f"{money(total, currency)} from {days[0].isoformat()} to {days[-1].isoformat()}; "
        f"the dearest day cost {money(top, currency)}."
    )
    numbers = table(
        f"Spend per day by {spend.by}",
        "l" + "r" * len(stacks),
        ["Day", *(stack.name for stack in stacks)],
        [
            [day.isoformat(), *(money(stack.series.values[i], currency) for stack in stacks)]
            for i, day in enumerate(days)
        ],
    )
    return figure(
        "spend",
        f"Spend per day by {spend.by}",
        caption,
        lambda canvas: stacked_days(
            canvas,
            days,
            [stack.series for stack in stacks],
            partial(axis_money, currency=currency),
            partial(money, currency=currency),
        ),
        numbers=numbers,
        legend=_legend(stacks, total, currency) if len(stacks) > 1 else None,
        height=260,
    )


def _spend_table(spend: SpendTable, currency: str) -> Markup:
    heads = ["Requests", "Computed", "Reported", "Difference", "Per 1,000", "Unpriced"]
    rows = [_spend_row(line, currency) for line in spend.lines]
    heading = tag("h3", f"Spend by {spend.by}")
    return group(
        heading, table(f"Spend by {spend.by}", "lrrrrrr", [sentence_case(spend.by), *heads], rows)
    )


def _spend_row(line: SpendLine, currency: str) -> list[str]:
    return [
        line.name or "(not said)",
        count(line.requests),
        money_or_unpriced(line.computed, currency),
        money(line.reported, currency),
        money(line.difference, currency),
        money(line.per_thousand, currency),
        share(line.unpriced_share),
    ]
