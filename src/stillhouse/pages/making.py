"""The last section: how the report was made, and how well its figures are known."""

from __future__ import annotations

from stillhouse.core.traffic import Evidence
from stillhouse.pages.blocks import absent, badge, facts, paragraph, section, table
from stillhouse.pages.markup import Markup, group, tag
from stillhouse.pages.report import Making

_MEANINGS = {
    Evidence.REPORTED: "stands in a log, an invoice or a provider's answer",
    Evidence.DERIVED: "follows from reported figures by arithmetic",
    Evidence.ESTIMATED: "rests on a model or a sample",
    Evidence.SCENARIO: "rests on an assumption that somebody chose",
}


def making_section(making: Making | None) -> Markup:
    """Say by what the report was made, so that it can be made again."""
    title = "How this was made"
    if making is None:
        return section("making", title, absent("The report does not say how it was made."))
    pairs = [
        ("Made", making.made_at),
        ("Dataset", tag("code", making.dataset) if making.dataset else ""),
        ("Seed", "" if making.seed is None else str(making.seed)),
        *making.versions,
    ]
    parts = [
        paragraph(tag("code", making.command)),
        facts((name, value) for name, value in pairs if value),
    ]
    if making.grades:
        parts.append(_grades(making))
    return section("making", title, *parts)


def _grades(making: Making) -> Markup:
    rows = [[one.figure, badge(one.evidence), one.source] for one in making.grades]
    used = sorted({one.evidence for one in making.grades}, key=list(Evidence).index)
    meanings = [group(badge(grade), f" {_MEANINGS[grade]}") for grade in used]
    return group(
        tag("h3", "How well the figures are known"),
        table("Evidence", "lll", ["Figure", "Evidence", "From"], rows),
        tag("ul", *(tag("li", meaning) for meaning in meanings), class_="key"),
    )
