"""`stillhouse report TASK`: one page with pictures, to look at and to send."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from stillhouse import wiring
from stillhouse.cli import terminal
from stillhouse.cli.composing import render, report
from stillhouse.cli.plan_verb import plan_of
from stillhouse.cli.workroom import known_task, standing
from stillhouse.core.errors import StoreError
from stillhouse.flows.find_tasks import find_tasks
from stillhouse.flows.planning import Question


@click.command("report")
@click.argument("task")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The HTML file.")
@click.option("--open", "show", is_flag=True, help="Show it in the browser.")
@click.option("--volume", type=float, help="Requests a month; the log's own rate without it.")
@click.option("--teacher-price", default="", metavar="MODEL", help="Also at another model's price.")
@click.option("--prices", type=click.Path(path_type=Path), help="Your own dated price file.")
@terminal.as_json
@click.pass_obj
def verb(
    db: str,
    task: str,
    out: Path | None,
    show: bool,
    volume: float | None,
    teacher_price: str,
    prices: Path | None,
    as_json: bool,
) -> None:
    """Write one self-contained HTML page on TASK: books, student, replay, money.

    \b
    Examples:
      stillhouse report support-intents --open
      stillhouse report support-intents --out intents.html --teacher-price openai/gpt-4.1
    """
    target = out or Path(f"{task}.html")
    with wiring.existing_store(db) as store, wiring.rows_aside() as aside:
        known_task(store, task)
        found = standing(store, task)
        tasks = find_tasks(store, aside, lambda share, note: None)
        plan = plan_of(store, task, Question(requests_per_month=volume), prices)
        other = None
        if teacher_price:
            asked = Question(requests_per_month=volume, teacher_model=teacher_price)
            other = plan_of(store, task, asked, prices)
        made = report(store, found, tasks, plan, other, f"stillhouse report {task}")
    try:
        target.write_text(render(made), encoding="utf-8")
    except OSError as fault:
        raise StoreError(
            f"the page cannot be written to {target}: {fault.strerror}; name another with --out"
        ) from fault
    if as_json:
        terminal.print_json({"task": task, "report": str(target)})
    else:
        terminal.console().print(f"wrote {target} ({target.stat().st_size // 1024} KB)")
    if show:
        webbrowser.open(target.resolve().as_uri())
