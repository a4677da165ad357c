"""The section on the money: the break-even fan, the figures behind it, what would change it."""

from __future__ import annotations

from stillhouse.pages.blocks import (
    absent,
    badge,
    bullets,
    figure,
    paragraph,
    section,
    table,
)
from stillhouse.pages.markup import Markup, group, tag
from stillhouse.pages.numerals import ABSENT, chance, count, count_or_never, duration, money, share
from stillhouse.pages.pictures import break_even_fan
from stillhouse.pages.report import Outlook, Plan, PlanFigure, Unit


def money_section(plan: Plan | None, currency: str) -> Markup:
    """Show what distilling would cost and return, how sure that is, and what would flip it."""
    title = "The money"
    if plan is None:
        return section("money", title, absent("No plan was made for this report."))
    parts = [paragraph(plan.outlook.sentence, tone="claim")]
    if plan.outlook.fan:
        parts.append(_fan("fan", plan.outlook, currency))
    if plan.other:
        parts.append(_repriced(plan.outlook, plan.other, currency))
    if plan.changes:
        parts.append(group(tag("h3", "What would change the answer"), bullets(plan.changes)))
    if plan.figures:
        parts.append(_figures(plan.figures, currency))
    return section("money", title, *parts)


def _fan(key: str, outlook: Outlook, currency: str) -> Markup:
    last = outlook.fan[-1]
    caption = (
        f"Cumulative net money by month at the price of {outlook.teacher}: after {last.month:g} "
        f"months {money(last.p50, currency)} in the middle case, and in eight of ten cases between "
        f"{money(last.p10, currency)} and {money(last.p90, currency)}."
    )
    rows = [
        [f"{p.month:g}", *(money(value, currency) for value in (p.p10, p.p50, p.p90))]
        for p in outlook.fan
    ]
    return figure(
        key,
        f"Does it pay back? At the price of {outlook.teacher}",
        caption,
        lambda canvas: break_even_fan(canvas, outlook.fan, currency),
        numbers=table("Cumulative net money", "rrrr", ["Month", "P10", "P50", "P90"], rows),
    )


def _repriced(base: Outlook, other: Outlook, currency: str) -> Markup:
    pairs = [_outlook_column(one, currency) for one in (base, other)]
    rows = [[name, first, second] for (name, first), (_, second) in zip(*pairs, strict=True)]
    parts = [
        tag("h3", f"The same tokens at the price of {other.teacher}"),
        paragraph("This is a scenario: nobody was billed this price. ", other.sentence),
        table("The verdict at two prices", "lrr", ["", base.teacher, other.teacher], rows),
    ]
    if other.fan:
        parts.append(_fan("fan-other", other, currency))
    return group(*parts)


def _outlook_column(outlook: Outlook, currency: str) -> list[tuple[str, str]]:
    net = outlook.fan[-1].p50 if outlook.fan else None
    return [
        ("Teacher's cost per 1,000 requests", money(outlook.cost_per_thousand, currency)),
        ("Saving per 1,000 requests", money(outlook.saving_per_thousand, currency)),
        ("Break-even after requests", count_or_never(outlook.break_even_requests)),
        ("Chance to break even within 12 months", chance(outlook.p_break_even)),
        ("Net at the end, middle case", money(net, currency)),
    ]


def _figures(figures: tuple[PlanFigure, ...], currency: str) -> Markup:
    heads = ["Figure", "Value", "P10 to P90", "Evidence", "Basis"]
    rows = [
        [
            one.name,
            _written(one.value, one.unit, currency),
            _range(one, currency),
            badge(one.evidence) if one.evidence else ABSENT,
            one.basis,
        ]
        for one in figures
    ]
    return group(
        tag("h3", "The figures behind it"), table("The figures of the plan", "lrrll", heads, rows)
    )


def _range(one: PlanFigure, currency: str) -> str:
    if one.low is None or one.high is None:
        return ABSENT
    return f"{_written(one.low, one.unit, currency)} to {_written(one.high, one.unit, currency)}"


def _written(value: float | None, unit: Unit, currency: str) -> str:
    """Write a figure of the plan in its unit."""
    match unit:
        case Unit.MONEY:
            return money(value, currency)
        case Unit.SHARE:
            return share(value)
        case Unit.SECONDS:
            return duration(value)
        case Unit.COUNT:
            return count(value)
