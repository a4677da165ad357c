"""What every verb says and how: one JSON object or tables on stdout, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

as_json = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output, and no tables."
)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one object; what JSON cannot say (infinity) is null."""
    click.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2, default=str).decode())


def console() -> Console:
    """Standard output; colours only on a terminal, width as wide as the terminal or 120."""
    plain = not sys.stdout.isatty()
    return Console(width=120 if plain else None, no_color=plain, highlight=False, soft_wrap=plain)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are figures set to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def say(sentence: str) -> None:
    """A step of a long run, on standard error."""
    click.echo(f"  {sentence}", err=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on standard error while it is a terminal; call with the share done and a note."""
    if not sys.stderr.isatty():
        yield lambda share, note: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0, note="")
        yield lambda share, note: bar.update(task, completed=share, note=note)
