"""`stillhouse tasks`: the narrow tasks that repeat in the traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from stillhouse import wiring
from stillhouse.cli.import_verb import instant, minute
from stillhouse.cli.ledger_verb import decimals, dollars, printable, spend_figures
from stillhouse.cli.terminal import as_json, console, print_json, progress, table
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import AnswerShape
from stillhouse.distillation.discovery import FEWEST
from stillhouse.distillation.discovery_profiles import TaskProfile
from stillhouse.distillation.templates import SLOT
from stillhouse.flows.find_tasks import FoundTask, FoundTasks, find_tasks
from stillhouse.pages.numerals import ABSENT, clip, count, plural, share

_TOP = 4
_MOST_ANSWERS = 25
_BAR = 30

_HEADS = (
    "Answers",
    "Requests",
    "Spend",
    "Per 1,000",
    "Constant input",
    "Repeats",
    "Self-agreement",
)


@click.command("tasks")
@click.argument("name", required=False)
@click.option(
    "--min-rows",
    type=click.IntRange(min=2),
    default=FEWEST,
    show_default=True,
    help="Requests that make a task.",
)
@as_json
@click.pass_obj
def verb(database: str, name: str | None, min_rows: int, as_json: bool) -> None:
    """Find the narrow tasks that repeat in the traffic; with NAME, show one of them closely.

    A task is a prompt that stays while a part of it varies, with answers of one shape: labels, a
    JSON object, a tool, or text. A task named by the caller wins over what is found. Constant
    input is the share of input tokens that never change, Repeats the share of requests that were
    asked word for word before, Self-agreement how often the teacher then answered the same.

    \b
    Examples:
      stillhouse tasks
      stillhouse tasks --min-rows 200
      stillhouse tasks support-intents
      stillhouse --db books.db tasks --json
    """
    with (
        wiring.existing_store(database) as store,
        wiring.rows_aside() as aside,
        progress("finding tasks") as bar,
    ):
        found, place = find_tasks(store, aside, bar, min_rows), store.place
    if name is not None:
        found = replace(found, tasks=(_named(found, name),))
    if as_json:
        print_json(_report(place, found))
    elif name is not None:
        _show_closely(console(), found.tasks[0])
    else:
        _show(console(), found, min_rows)


def _named(found: FoundTasks, name: str) -> FoundTask:
    """The task of a name; CallerError where there is none."""
    for task in found.tasks:
        if task.profile.task.name == name:
            return task
    names = ", ".join(task.profile.task.name for task in found.tasks)
    raise CallerError(
        f"there is no task {name!r}; "
        + (f"the tasks found are {names}" if names else "no task was found in this traffic")
    )


def _show(out: Console, found: FoundTasks, minimum: int) -> None:
    """Print a table of the tasks, and what is answered in each."""
    if not found.exchanges:
        out.print("The books are empty; bring a log in: stillhouse import FILE")
        return
    if not found.tasks:
        out.print(f"No task repeats {minimum} times or more in {_requests(found.exchanges)}.")
        return
    title = (
        f"{plural(len(found.tasks), 'task')} in {_requests(found.exchanges)}; "
        f"{share(found.assigned / found.exchanges)} of them belong to one"
    )
    out.print(table(title, ["Task", *_HEADS], list(map(_cells, found.tasks))), markup=False)
    out.print()
    for task in found.tasks:
        profile = task.profile
        told = [f"asked of {_teachers(profile)}", *_top(profile)]
        _block(out, printable(profile.task.name), *told)
    tasks = [task.profile.task for task in found.tasks]
    steps = [f"stillhouse tasks {tasks[0].name}"]
    steps += [f"stillhouse distil {t.name}" for t in tasks if t.shape is AnswerShape.LABELS][:1]
    out.print(f"\nNext: {', '.join(map(printable, steps))}", markup=False)


def _requests(number: int) -> str:
    return plural(number, "request")


def _cells(found: FoundTask) -> list[str]:
    profile = found.profile
    return [
        printable(profile.task.name),
        _answers(profile),
        count(profile.volume),
        *_spent(found),
        share(profile.constant_share),
        share(profile.repeat_share),
        _agreement(profile),
    ]


def _spent(found: FoundTask) -> tuple[str, str]:
    """Spend, and cost per 1,000 requests."""
    spend = found.spend
    if spend is None or spend.computed is None:
        return "unpriced", "unpriced"
    part = "over " if spend.unpriced_request_share else ""
    spent, each = (
        dollars(amount, decimals(amount)) for amount in (spend.computed, spend.per_1000_requests)
    )
    return part + spent, each


def _answers(profile: TaskProfile) -> str:
    """The shape of the answers in two words."""
    task = profile.task
    return {
        AnswerShape.LABELS: plural(len(task.labels), "label"),
        AnswerShape.FIELDS: f"JSON, {plural(len(task.fields), 'field')}",
        AnswerShape.TOOL: plural(len(task.labels), "tool"),
        AnswerShape.TEXT: "text",
    }[task.shape]


def _agreement(profile: TaskProfile) -> str:
    """How often the teacher agrees with itself, and over how many pairs."""
    if profile.self_agreement is None:
        return ABSENT
    return f"{share(profile.self_agreement)} of {count(profile.repeated_pairs)}"


def _teachers(profile: TaskProfile) -> str:
    ranked = sorted(profile.teachers.items(), key=lambda item: (-item[1], item[0]))
    names = [printable(name) or "a model that is not named" for name, _ in ranked]
    if len(names) == 1:
        return names[0]
    shares = (share(asked / profile.volume) for _, asked in ranked)
    return ", ".join(f"{name} ({part})" for name, part in zip(names, shares, strict=True))


def _shares(profile: TaskProfile) -> dict[str, float]:
    """The share of each label, tool or field."""
    if profile.presence:
        return dict(profile.presence)
    return {answer: asked / profile.volume for answer, asked in profile.answers.items()}


def _top(profile: TaskProfile) -> Iterator[str]:
    """A line with the commonest answers, or fields; none where the answers are text."""
    shares = list(_shares(profile).items())
    if shares:
        told = [f"{clip(printable(name), 40)} {share(part)}" for name, part in shares[:_TOP]]
        yield ", ".join(told) + (f" and {len(shares) - _TOP} more" if shares[_TOP:] else "")


def _block(out: Console, head: str, *lines: str) -> None:
    """Print a heading and, set in, what stands under it; slots of a prompt are marked."""
    body = Text("\n".join(f"  {line}".rstrip() for line in lines))
    body.highlight_words([SLOT], "bold reverse")
    out.print(Text(head, style="bold"))
    out.print(body)


def _show_closely(out: Console, found: FoundTask) -> None:
    """Print one task: its figures, its prompt with the slots marked, its answers, examples."""
    profile, facts = found.profile, list(_facts(found))
    width = max(len(head) for head, _ in facts)
    _block(out, printable(profile.task.name), *(f"{head:{width}}  {fact}" for head, fact in facts))
    _block(out, "\nPrompt", *map(printable, profile.task.template.splitlines()))
    if shares := _shares(profile):
        _block(out, "\nFields" if profile.presence else "\nAnswers", *_bars(shares))
    if profile.examples:
        examples = (f"- {clip(printable(text), 200)}" for text in profile.examples)
        _block(out, "\nExamples of what is asked", *examples)


def _facts(found: FoundTask) -> Iterator[tuple[str, str]]:
    profile = found.profile
    times = ""
    if profile.first_us is not None and profile.last_us is not None:
        times = f" from {minute(profile.first_us)} to {minute(profile.last_us)} UTC"
    yield "answers", _answers(profile)
    yield "requests", count(profile.volume) + times
    yield "spend", "{}, {} per 1,000 requests".format(*_spent(found))
    yield "asked of", _teachers(profile)
    yield "constant", f"{share(profile.constant_share)} of the input tokens never change"
    repeats = f"{share(profile.repeat_share)} were asked word for word before"
    if profile.self_agreement is not None:
        repeats += f"; the teacher then gave the same answer in {_agreement(profile)}"
    yield "repeats", repeats
    if profile.strays:
        stray = share(profile.strays / profile.volume)
        yield "strays", f"{count(profile.strays)} answers outside the set ({stray})"


def _bars(shares: dict[str, float]) -> Iterator[str]:
    """A line for each answer with its share as a bar."""
    names = [clip(printable(name), 40) for name in shares][:_MOST_ANSWERS]
    width, largest = max(map(len, names)), max(shares.values())
    for name, part in zip(names, shares.values(), strict=False):
        bar = "█" * max(1, round(_BAR * part / largest))
        yield f"{name:{width}}  {share(part):>12}  {bar}"
    if len(shares) > _MOST_ANSWERS:
        yield f"and {len(shares) - _MOST_ANSWERS} more, none above {share(part)}"


def _report(place: str, found: FoundTasks) -> dict[str, Any]:
    return {
        "database": place,
        "requests": found.exchanges,
        "total": spend_figures(found.total),
        "tasks": [_task_report(task) for task in found.tasks],
    }


def _task_report(found: FoundTask) -> dict[str, Any]:
    profile, task = found.profile, found.profile.task
    return {
        "name": task.name,
        "signature": task.signature,
        "shape": task.shape.value,
        "tagged": task.tagged,
        "template": task.template,
        "labels": list(task.labels),
        "fields": list(task.fields),
        "requests": profile.volume,
        "first_at": instant(profile.first_us),
        "last_at": instant(profile.last_us),
        "spend": None if found.spend is None else spend_figures(found.spend),
        "constant_input_share": profile.constant_share,
        "teachers": dict(profile.teachers),
        "answers": dict(profile.answers),
        "stray_answers": profile.strays,
        "field_presence": dict(profile.presence),
        "repeat_share": profile.repeat_share,
        "self_agreement": profile.self_agreement,
        "repeated_pairs": profile.repeated_pairs,
        "examples": list(profile.examples),
    }
