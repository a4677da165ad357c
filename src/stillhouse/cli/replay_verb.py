"""`stillhouse replay TASK`: recorded traffic through the policy as it would be served."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import click

from stillhouse import wiring
from stillhouse.cli import rehearsal, terminal
from stillhouse.cli.workroom import Standing, known_task, members, recorded_rows, standing
from stillhouse.core.errors import CallerError
from stillhouse.core.ports import Student
from stillhouse.flows.injection import read_injection
from stillhouse.flows.rehearsal import Rehearsal
from stillhouse.flows.replay import Recorded, Replay, Tally, replay
from stillhouse.planner import money_text
from stillhouse.routing.cascade import shadow_coin
from stillhouse.store.face import Store

PLAIN_SHARE = 0.01
"""Share of the requests that is audited where nobody watches."""
TIMED = 100
"""Requests that are answered one by one to measure the student's own latency."""


@click.command("replay")
@click.argument("task")
@click.option("--all", "everything", is_flag=True, help="Also rows the student was made from.")
@click.option(
    "--shadow",
    type=float,
    help="Share audited by the teacher.  [default: 0.01; with the watch, as configured]",
)
@click.option("--watch", is_flag=True, help="Also what the watch on the student would have done.")
@click.option(
    "--inject",
    "drift",
    multiple=True,
    metavar="WHAT[@WHEN]",
    help="Drift for the watch to find: shift=SHARE, shift=words:SHARE, shift=labels:SHARE or "
    "teacher=MODEL; WHEN is a row's number or a share of the traffic, 0.5 without. Repeatable.",
)
@click.option("--seed", default=0, show_default=True, help="Of what is injected.")
@terminal.as_json
@click.pass_obj
def verb(
    db: str,
    task: str,
    everything: bool,
    shadow: float | None,
    watch: bool,
    drift: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Run TASK's recorded traffic through its certified student, day by day.

    Only rows that the student was neither trained nor calibrated on, unless --all is given.

    With --watch the student is watched as at work: audits, scores, words and the teacher's name; an
    alarm raises its threshold or stops it. --inject puts drift into the traffic first. `shift=0.3`
    asks in 30 % of the rows what callers of another label asked; `words` mistypes texts, `labels`
    has the teacher answer otherwise, `teacher` has another model answer.

    \b
    Examples:
      stillhouse replay support-intents
      stillhouse replay support-intents --watch
      stillhouse replay support-intents --inject shift=labels:0.1@0.5
      stillhouse replay support-intents --inject teacher=gpt-6@1000 --json
    """
    if shadow is not None and not 0 <= shadow <= 1:
        raise CallerError(f"--shadow is {shadow}; give a share from 0 to 1, as 0.01")
    injections = [read_injection(words) for words in drift]
    watcher: Rehearsal | None = None
    with wiring.existing_store(db) as store, wiring.encodings(db) as cache:
        known_task(store, task)
        found = standing(store, task)
        reader = wiring.student_reader(cache)
        student = reader(store.get_student(found.policy().student))
        rows = unseen_rows(store, found, everything)
        share = PLAIN_SHARE if shadow is None else shadow
        if watch or injections:
            terms = rehearsal.terms_here(task, shadow)
            share = terms.shadow_share
            watcher, rows = rehearsal.prepare(store, found, terms, rows, injections, seed)
        result = through(found, rows, student, share, watcher)
        texts = [row.text for row in islice(store.task_rows(task), TIMED)]
        bare = wiring.student_reader(None)(store.get_student(found.student))
        student_ms = single_ms(bare, texts)
    if not result.total.requests:
        raise CallerError(
            f"every row of {task} was used to make its student; import newer traffic, or give --all"
        )
    if as_json:
        said = summary(task, result, student_ms)
        if watcher is not None:
            said["watch"] = rehearsal.facts(watcher, injections, seed)
        terminal.print_json(said)
        return
    _show(task, result, student_ms)
    if watcher is not None:
        rehearsal.show(watcher, injections)


def run(store: Store, found: Standing, student: Student, everything: bool, shadow: float) -> Replay:
    """Replay a task's rows; unseen ones only unless `everything`."""
    return through(found, unseen_rows(store, found, everything), student, shadow)


def unseen_rows(store: Store, found: Standing, everything: bool) -> Iterable[Recorded]:
    """A task's rows; those that the student was made from only where `everything` is wanted."""
    sets = members(store, found.latest_jobs)
    seen = frozenset() if everything else frozenset(sets["train"] + sets["calibration"])
    return recorded_rows(store, found.task, seen)


def through(
    found: Standing,
    rows: Iterable[Recorded],
    student: Student,
    shadow: float,
    watcher: Rehearsal | None = None,
) -> Replay:
    """Replay rows through a task's student."""
    key = found.student.encode()
    return replay(
        rows,
        found.policy(),
        student.predict,
        lambda row_id: shadow_coin(row_id, key, shadow),
        watcher,
    )


def single_ms(student: Student, texts: Sequence[str]) -> float:
    """Median time in which the student answers one request, encoder included."""
    student.predict(texts[:1])
    times = []
    for text in texts:
        began = time.perf_counter()
        student.predict([text])
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1000


def summary(task: str, result: Replay, student_ms: float) -> dict[str, Any]:
    """The replay as one object."""
    latency = result.latency_ms(student_ms)
    return {
        "task": task,
        **_figures(result.total),
        "latency_ms": {
            "student_p50": student_ms,
            **{who: {"p50": p50, "p95": p95} for who, (p50, p95) in latency.items()},
        },
        "days": [
            {"day": day.isoformat() if day else None, **_figures(tally)}
            for day, tally in result.days.items()
        ],
    }


def _figures(tally: Tally) -> dict[str, Any]:
    agreement = tally.agreement
    return {
        "requests": tally.requests,
        "accepted": tally.accepted,
        "accept_rate": tally.accept_rate,
        "agreed": tally.agreed,
        "agreement": agreement[0] if agreement else None,
        "agreement_interval": list(agreement[1:]) if agreement else None,
        "teacher_calls": tally.teacher_calls,
        "shadow_calls": tally.shadow_calls,
        "teacher_calls_avoided": tally.accepted - tally.shadow_calls,
        "paid_usd": str(tally.paid.decimal),
        "avoided_usd": str(tally.avoided.decimal),
        "unpriced": tally.unpriced,
    }


def _show(task: str, result: Replay, student_ms: float) -> None:
    out = terminal.console()
    lines = [(str(day or "no time"), tally) for day, tally in result.days.items()]
    rows = [
        [
            name,
            f"{tally.requests:,}",
            f"{tally.accept_rate:.1%}",
            f"{tally.agreement[0]:.1%}" if tally.agreement else "-",
            f"{tally.accepted - tally.shadow_calls:,}",
            money_text(tally.paid),
            money_text(tally.avoided),
        ]
        for name, tally in [*lines, ("total", result.total)]
    ]
    columns = ["day", "requests", "accepted", "agreed", "calls avoided", "paid", "avoided"]
    out.print(terminal.table(f"{task}, as it would have been served", columns, rows))
    out.print()
    total = result.total
    if total.agreement:
        value, low, high = total.agreement
        out.print(
            f"accepted {total.accept_rate:.1%}; of these {value:.2%} agree with the teacher "
            f"(95 % interval {low:.2%} to {high:.2%})"
        )
    latency = result.latency_ms(student_ms)
    if latency:
        (t50, t95), (c50, c95) = latency["teacher"], latency["cascade"]
        out.print(
            f"median wait {t50:,.0f} ms at the teacher, {c50:,.1f} ms in the cascade "
            f"(95th percentile {t95:,.0f} and {c95:,.0f} ms; the student takes {student_ms:.1f} ms)"
        )
    out.print("money avoided is what the calls not made cost when they were recorded")
