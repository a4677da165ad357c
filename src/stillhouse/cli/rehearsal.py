"""What `stillhouse replay --watch` adds: drift put in, the watch over it, and what it did."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import click

from stillhouse.cli.workroom import Standing
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Certificate
from stillhouse.core.serving import Change, Terms
from stillhouse.flows.injection import Injection, inject
from stillhouse.flows.rehearsal import Counts, Happening, Rehearsal
from stillhouse.flows.replay import Recorded
from stillhouse.settings.reading import USUAL_FILE
from stillhouse.settings.starting import CONFIG_ENV, find_settings
from stillhouse.store.face import Store


def terms_here(task: str, shadow: float | None) -> Terms:
    """The terms of a task by the configuration in this folder; `shadow` wins over its share."""
    there = CONFIG_ENV in os.environ or USUAL_FILE.exists()
    terms = find_settings(None).students.terms(task) if there else Terms()
    return terms if shadow is None else replace(terms, shadow_share=shadow)


def prepare(
    store: Store,
    found: Standing,
    terms: Terms,
    rows: Iterable[Recorded],
    injections: Sequence[Injection],
    seed: int,
) -> tuple[Rehearsal, Iterable[Recorded]]:
    """The watch on a task's certified version, and the rows with what is injected."""
    charters = {(one.task, one.version): one for one in store.charters()}
    charter = charters.get((found.task, found.version))
    if charter is None or not isinstance(found.verdict, Certificate):
        raise CallerError(
            f"version {found.version} of {found.task} was made before students could be watched; "
            f"run `stillhouse distil {found.task}`"
        )
    first = 0
    if injections and (known := list(rows)):
        first = min(one.first_row(len(known)) for one in injections)
        rows = inject(known, injections, seed)
    return Rehearsal(charter, found.verdict, terms, first), rows


def facts(watch: Rehearsal, injections: Sequence[Injection], seed: int) -> dict[str, Any]:
    """What the watch did, as plain values."""
    return {
        "injections": [str(one) for one in injections],
        "injected_row": watch.injected or None,
        "seed": seed,
        "shadow_share": watch.terms.shadow_share,
        "run_length": watch.terms.run_length,
        "happenings": [_happening(one) for one in watch.happenings],
        "total": watch.counts._asdict(),
        "since_injection": None if watch.since is None else watch.since._asdict(),
        "threshold": watch.threshold,
        "alarm_share": watch.level,
    }


def _happening(one: Happening) -> dict[str, Any]:
    since = None if one.since is None else one.since._asdict()
    return {**one._asdict(), "since": since}


def show(watch: Rehearsal, injections: Sequence[Injection]) -> None:
    """Print what the watch did, one line each, in the order of the rows."""
    click.echo(f"\nThe watch, {watch.terms.shadow_share:g} of the requests audited")
    lines = [(one.row, 1, _line(one)) for one in watch.happenings]
    if injections:
        begins = f"row {watch.injected:,}: {' and '.join(map(str, injections))} begins"
        lines.append((watch.injected, 0, begins))
    for _, _, said in sorted(lines):
        click.echo(said)
    seen = watch.counts if watch.since is None else watch.since
    if not watch.happenings:
        click.echo(f"nothing in {_counted(seen)}, of which {seen.disagreed:,} disagreed")
    if watch.threshold is None:
        click.echo("in the end the teacher answers everything")
    else:
        click.echo(
            f"in the end the student answers from {watch.threshold:.4f} on; the watch on answers "
            f"is {min(1.0, watch.level):.1%} of its way to an alarm"
        )


def _line(one: Happening) -> str:
    since = f", {_counted(one.since)} later" if one.since is not None else ""
    bar = f" to {one.threshold:.4f}" if one.event == Change.RAISED else ""
    return f"row {one.row:,}{since}: {one.event.replace('_', ' ')}{bar}: {one.why}"


def _counted(counts: Counts) -> str:
    requests = f"{counts.requests:,} request{'s' * (counts.requests != 1)}"
    return f"{requests}, {counts.served:,} answered and {counts.audited:,} audited"
