"""The section on the tasks that repeat in the traffic."""

from __future__ import annotations

from stillhouse.pages.blocks import absent, paragraph, section, table
from stillhouse.pages.markup import Markup, group, tag
from stillhouse.pages.numerals import clip, count, money, share
from stillhouse.pages.report import FoundTask

_CONSTANT_LIMIT = 600
_SLOT_LIMIT = 60


def tasks_section(tasks: tuple[FoundTask, ...] | None, currency: str) -> Markup:
    """Show each task's volume and cost, and its template with the slots marked."""
    title = "Tasks found"
    if tasks is None:
        return section("tasks", title, absent("Nobody looked for repeated tasks in this log."))
    if not tasks:
        return section("tasks", title, absent("No narrow task repeats in this log."))
    heads = ["Task", "Answers", "Requests", "Spend", "Constant input", "Self-agreement"]
    rows = [
        [
            task.name,
            task.shape,
            count(task.requests),
            money(task.spend, currency),
            share(task.constant_share),
            share(task.self_agreement),
        ]
        for task in tasks
    ]
    note = paragraph(
        "Constant input is the share of input tokens that never changes. Self-agreement is how "
        "often the teacher gives one answer to a text that was asked more than once.",
        tone="small",
    )
    return section(
        "tasks", title, table("Tasks found", "llrrrr", heads, rows), note, *map(_template, tasks)
    )


def _template(task: FoundTask) -> Markup:
    pieces = [
        tag("mark", clip(piece.text, _SLOT_LIMIT))
        if piece.slot
        else group(clip(piece.text, _CONSTANT_LIMIT))
        for piece in task.template
    ]
    asked = f", asked of {', '.join(task.teachers)}" if task.teachers else ""
    return tag(
        "details",
        tag("summary", tag("b", task.name), f": prompt template{asked}"),
        tag("div", *pieces, class_="template"),
        open="open",
    )
