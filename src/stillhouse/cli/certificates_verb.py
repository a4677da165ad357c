"""`stillhouse certificates`: what was promised of students at work, and whether it holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from stillhouse import wiring
from stillhouse.cli.configured import books_place, configured
from stillhouse.cli.ledger_verb import dollars, printable
from stillhouse.cli.terminal import as_json, console, print_json, table
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Certificate
from stillhouse.core.money import Paid
from stillhouse.core.serving import PolicyEvent
from stillhouse.flows import certificates
from stillhouse.flows.certificates import Holding
from stillhouse.flows.steering import mode_words
from stillhouse.pages.numerals import ABSENT, count, share, target
from stillhouse.settings.nouns import Students
from stillhouse.settings.reading import USUAL_FILE
from stillhouse.settings.starting import CONFIG_ENV, find_settings

INTERVAL_CONFIDENCE = 0.95
CENTS = 4
_PROMISED = ("Task", "Version", "Mode", "Threshold", "Promised", "Rows", "Budget left")
_SHOWN = ("Task", "Version", "Agreement", "Drift", "Answers", "Avoided", "Audits")


@click.command("certificates")
@click.argument("task", required=False)
@click.option("--history", is_flag=True, help="Every change as well: when, what, who and why.")
@configured
@as_json
@click.pass_context
def verb(
    ctx: click.Context,
    task: str | None,
    history: bool,
    config: Path | None,
    place: str | None,
    as_json: bool,
) -> None:
    """Show how each version stands, what was promised of it, and what it has shown since.

    Promised is the largest share of its answers that may differ from the teacher's, and with which
    confidence. Rows were audited before its certificate. Budget left is the chance of a false
    certificate that later versions may still spend. Agreement is that of audited answers which
    callers were given, with an interval that holds however often one looks. Drift is how far the
    watch is on its way to an alarm. Answers is the share of requests that it answers of those it
    was asked about; Avoided is what its answers would have cost, and Audits what checking them did.

    \b
    Examples:
      stillhouse certificates
      stillhouse certificates support-intents --history
      stillhouse certificates --json
    """
    students = _students(config)
    with wiring.existing_store(books_place(ctx, config, place)) as store:
        found = certificates.holdings(store, students.terms, task or "")
        events = list(store.policy_events(task or "")) if history or as_json else []
        known = [one.name for one in store.tasks()] if task and not found else []
    if task and not found:
        said = "has no student that could be put to work" if task in known else "is no task here"
        raise CallerError(f"{task} {said}; run `stillhouse distil {task}`")
    if as_json:
        print_json(
            {
                "certificates": [certificate_facts(one) for one in found],
                "expected_false_certificates": certificates.expected_false(found),
                "events": [certificates.event_facts(event) for event in events],
            }
        )
    elif not found:
        click.echo("No student can be put to work yet; make one: stillhouse distil TASK")
    else:
        _show(found, events)


def certificate_facts(holding: Holding) -> dict[str, Any]:
    """A version as JSON has it: the realised agreement with its interval."""
    found = interval(holding)
    return {
        **certificates.facts(holding),
        "agreement": holding.agreed / holding.audited if holding.audited else None,
        "agreement_interval": None if found is None else list(found),
    }


def interval(holding: Holding) -> tuple[float, float] | None:
    """Where the agreement of the answers lies, valid at every look; None before any audit."""
    from stillhouse.risk.agreement import agreement_sequence

    if not holding.audited:
        return None
    return agreement_sequence(holding.agreed, holding.audited, INTERVAL_CONFIDENCE)


def _students(config: Path | None) -> Students:
    there = config or os.environ.get(CONFIG_ENV) or USUAL_FILE.exists()
    return find_settings(config).students if there else Students()


def _show(found: Sequence[Holding], events: Sequence[PolicyEvent]) -> None:
    out = console()
    out.print(table("Certificates", _PROMISED, [_promised(one) for one in found]), markup=False)
    at_work = [_shown(one) for one in found if one.audited or one.figures]
    if at_work:
        out.print()
        out.print(table("At work", _SHOWN, at_work), markup=False)
    out.print(
        f"\nAt most {certificates.expected_false(found):.2g} of these {len(found)} would be false "
        "certificates on average: the sum of the parts of the error budgets that were spent.",
        markup=False,
    )
    if events:
        rows = [
            [
                f"{datetime.fromtimestamp(event.at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}",
                *(printable(event.task), str(event.version), event.event.replace("_", " ")),
                *(printable(event.who), printable(event.why)),
            ]
            for event in events
        ]
        out.print()
        heads = ["When (UTC)", "Task", "Version", "What", "Who", "Why"]
        out.print(table("History", heads, rows), markup=False)


def _promised(holding: Holding) -> list[str]:
    standing, promised, verdict = holding.standing, holding.promise, holding.verdict
    threshold = None if standing is None else standing.threshold
    return [
        printable(promised.task),
        str(promised.version),
        _mode(holding),
        ABSENT if threshold is None else f"{threshold:.4g}",
        f"{target(promised.max_risk)} at {target(promised.confidence)}",
        count(verdict.n_calibration if isinstance(verdict, Certificate) else holding.rows),
        f"{promised.left:.2g}",
    ]


def _shown(holding: Holding) -> list[str]:
    figures, found = holding.figures, interval(holding)
    agreement = ABSENT
    if found is not None:
        realised = share(holding.agreed / holding.audited)
        agreement = f"{realised} ({share(found[0])} to {share(found[1])})"
    return [
        printable(holding.promise.task),
        str(holding.promise.version),
        agreement,
        ABSENT if holding.alarm_share is None else share(min(1.0, holding.alarm_share)),
        ABSENT if holding.accept_rate is None else share(holding.accept_rate),
        dollars(Paid(figures.avoided_pico if figures else 0), CENTS),
        dollars(Paid(figures.shadow_pico if figures else 0), CENTS),
    ]


def _mode(holding: Holding) -> str:
    standing = holding.standing
    if standing is None:
        if holding.verdict is None:
            return "no verdict yet"
        return "certified" if isinstance(holding.verdict, Certificate) else "refused"
    said = mode_words(standing.mode)
    if standing.keys:
        return f"{said} ({len(standing.keys)} keys)"
    return said if standing.share >= 1 else f"{said} ({share(standing.share)})"
