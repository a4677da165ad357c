"""`stillhouse demo`: the whole loop on a month of an invented shop's calls, offline."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import click

from stillhouse import demo
from stillhouse.core.errors import StoreError

TASK = "sort-incoming-messages-support"
VOLUME = 1_000_000
"""Requests a month of a shop two hundred times as large, to show where the verdict turns."""


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("stillhouse-demo"),
    show_default=True,
    help="Folder for the database and the page; a database from an earlier demo is replaced.",
)
@click.option("--open", "show", is_flag=True, help="Show the page in the browser.")
def verb(out: Path, show: bool) -> None:
    """Run import, ledger, tasks, distil, replay, plan and report on the bundled workload.

    Needs no network, key or service. Every step is the command that it prints.

    \b
    Examples:
      stillhouse demo
      stillhouse demo --out /tmp/demo --open
    """
    began = time.perf_counter()
    database, page = out / "demo.db", out / "report.html"
    _fresh(out, database)
    with demo.workload() as log, demo.prices() as prices:
        _run(database, "import", str(log), "--prices", str(prices))
        _run(database, "ledger")
        _run(database, "tasks")
        _run(database, "distil", TASK)
        _run(database, "replay", TASK)
        _run(database, "plan", TASK)
        _run(database, "plan", TASK, "--volume", str(VOLUME))
        extra = ["--open"] if show else []
        _run(database, "report", TASK, "--out", str(page), *extra)
    click.echo(f"\nthe whole loop took {time.perf_counter() - began:.0f} s; look at {page}")


def _fresh(out: Path, database: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for old in out.glob(f"{database.name}*"):
            old.unlink()
    except OSError as fault:
        raise StoreError(
            f"the demo cannot use the folder {out}: {fault.strerror}; name another with --out"
        ) from fault


def _run(database: Path, *words: str) -> None:
    """Run a verb as if it had been typed; a refusal to certify is an answer, not a failure."""
    from stillhouse.cli import cli

    shown = shlex.join(["stillhouse", "--db", str(database), *words])
    click.secho(f"\n$ {shown}", bold=True)
    try:
        cli.main(["--db", str(database), *words], prog_name="stillhouse", standalone_mode=False)
    except SystemExit as ended:
        if ended.code not in (0, 1):
            raise
