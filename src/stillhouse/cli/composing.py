"""Lays out what the store holds of a task as the page that `stillhouse report` writes."""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stillhouse import __version__, pages, wiring
from stillhouse.cli.replay_verb import run
from stillhouse.cli.workroom import Standing, answered_rows, members
from stillhouse.core.books import Job, JobKind
from stillhouse.core.learning import Certificate, Row
from stillhouse.core.money import Money
from stillhouse.core.ports import Student
from stillhouse.distillation.dataset import grouped
from stillhouse.flows.books import USUAL_CUTS, Spend, spend_by
from stillhouse.flows.distil import Held, held
from stillhouse.flows.find_tasks import FoundTask, FoundTasks
from stillhouse.flows.replay import Replay
from stillhouse.ledger.report import SpendRow
from stillhouse.pages import report as page
from stillhouse.planner import Plan, Verdict, days_text
from stillhouse.risk.certificate import risk_curve
from stillhouse.risk.evidence import exact_interval
from stillhouse.store.face import Store
from stillhouse.store.opening import is_dsn

CONFUSIONS = 12
EXAMPLES = 2
DAYS = 400


def report(
    store: Store,
    found: Standing,
    tasks: FoundTasks,
    plan: Plan,
    other: Plan | None,
    command: str,
) -> page.Report:
    """Everything that is known of a task, as one page."""
    with wiring.encodings(store.place) as cache:
        student = None
        if found.student:
            student = wiring.student_reader(cache)(store.get_student(found.student))
        distillation = _distillation(store, found, student)
        replayed = None
        if student is not None and isinstance(found.verdict, Certificate):
            replayed = _replay(run(store, found, student, everything=False, shadow=0.01), found)
    return page.Report(
        title=f"Stillhouse: {found.task}",
        source=f"{tasks.exchanges:,} calls in {_name(store.place)}",
        verdict=page.Verdict(
            plan.sentence,
            {Verdict.DISTIL: True, Verdict.DO_NOT_DISTIL: False}.get(plan.verdict),
        ),
        books=_books(store),
        tasks=tuple(map(_task, tasks.tasks)),
        distillation=distillation,
        replay=replayed,
        plan=_plan(plan, other),
        making=_making(found, plan, command),
    )


def _name(place: str) -> str:
    """What books are called on a page: a file without its folder, a database by its address."""
    return place if is_dsn(place) else Path(place).name


def _books(store: Store) -> page.Books:
    cuts = {by: spend_by(store, by) for by in USUAL_CUTS}
    total = cuts["model"].total
    return page.Books(
        requests=total.n_requests,
        spend=_amount(total.computed),
        unpriced_share=total.unpriced_request_share,
        evidence=total.evidence,
        reported=_amount(total.reported),
        over_time=_over_time(cuts["day"]),
        tables=tuple(
            page.SpendTable(by, tuple(map(_line, cuts[by].rows)))
            for by in ("model", "task", "team")
        ),
    )


def _over_time(days: Spend) -> page.SpendOverTime | None:
    known = [row for row in days.rows if row.key][-DAYS:]
    if not known:
        return None
    return page.SpendOverTime(
        by="all calls",
        names=("spend",),
        days=tuple(
            page.DaySpend(date.fromisoformat(row.key), (_amount(row.computed) or 0.0,))
            for row in known
        ),
    )


def _line(row: SpendRow) -> page.SpendLine:
    return page.SpendLine(
        name=row.key or "(none)",
        requests=row.n_requests,
        computed=_amount(row.computed),
        reported=_amount(row.reported),
        difference=_amount(row.difference),
        per_thousand=_amount(row.per_1000_requests),
        unpriced_share=row.unpriced_request_share,
    )


def _task(found: FoundTask) -> page.FoundTask:
    profile = found.profile
    return page.FoundTask(
        name=profile.task.name,
        template=page.pieces(profile.task.template, "{text}"),
        shape=profile.task.shape.value,
        requests=profile.volume,
        spend=_amount(found.spend.computed) if found.spend else None,
        constant_share=profile.constant_share,
        self_agreement=profile.self_agreement,
        teachers=tuple(profile.teachers),
    )


def _distillation(
    store: Store, found: Standing, student: Student | None
) -> page.Distillation | None:
    if found.verdict is None:
        return None
    sets = members(store, found.latest_jobs)
    rows = {row.row_id: row for row in grouped(answered_rows(store, found.task))}
    calibration, test = (
        _ask(student, [rows[i] for i in sets[name] if i in rows])
        for name in ("calibration", "test")
    )
    threshold = found.verdict.threshold if isinstance(found.verdict, Certificate) else None
    return page.Distillation(
        task=found.task,
        outcome=found.verdict,
        recipe=found.recipe,
        ladder=_ladder(found),
        risk=_curves(found, calibration, test),
        learning=_learning(found.latest_jobs),
        confusions=_confusions([h for h in (calibration, test) if h is not None]),
        test=_tested(test, threshold) if test is not None else None,
    )


def _ask(student: Student | None, rows: Sequence[Row]) -> Held | None:
    return held(student, rows) if student is not None and rows else None


def _ladder(found: Standing) -> tuple[page.Rung, ...]:
    rungs = []
    for job in found.latest_jobs:
        if job.detail.get("step") == "rehearsal":
            rungs.append(
                page.Rung(
                    recipe=job.detail["recipe"],
                    agreement=_number(job, "agreement"),
                    accept_rate=_number(job, "forecast"),
                    cost=float(job.cost),
                    seconds=job.wall_seconds,
                    chosen=job.detail["recipe"] == found.recipe,
                )
            )
    return tuple(rungs)


def _number(job: Job, name: str) -> float | None:
    return float(job.detail[name]) if name in job.detail else None


def _learning(jobs: Sequence[Job]) -> tuple[page.LearningPoint, ...]:
    return tuple(
        page.LearningPoint(
            rows=int(job.detail["rows"]),
            agreement=float(job.detail["agreement"]),
            accept_rate=float(job.detail["forecast"]),
        )
        for job in jobs
        if job.kind is JobKind.EVALUATE and job.detail.get("step") == "curve"
    )


def _curves(found: Standing, calibration: Held | None, test: Held | None) -> page.RiskCurves | None:
    if calibration is None:
        return None
    max_risk = found.verdict.max_risk if isinstance(found.verdict, Certificate) else 0.05
    return page.RiskCurves(max_risk, _points(calibration), _points(test) if test else ())


def _points(rows: Held) -> tuple[page.RiskPoint, ...]:
    accept, risk, _ = risk_curve(rows.scores, rows.disagreements)
    # The first few rows say nothing about a rate: one disagreement there is a risk of 100 %.
    start = min(20, len(accept) // 10)
    pairs = zip(accept[start:].tolist(), risk[start:].tolist(), strict=True)
    return tuple(page.RiskPoint(a, r) for a, r in pairs)


def _confusions(parts: Sequence[Held]) -> tuple[page.Confusion, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for part in parts:
        for row, prediction in zip(part.rows, part.predictions, strict=True):
            if row.label != prediction.label:
                pair = (row.label, prediction.label)
                counts[pair] += 1
                texts[pair].append(row.text)
    return tuple(
        page.Confusion(teacher, said, times, tuple(texts[teacher, said][:EXAMPLES]))
        for (teacher, said), times in counts.most_common(CONFUSIONS)
    )


def _tested(test: Held, threshold: float | None) -> page.TestFigures:
    accepted = test.scores >= (np.inf if threshold is None else threshold)
    n, k = int(accepted.sum()), int(test.disagreements[accepted].sum())
    low, high = exact_interval(n - k, n)
    return page.TestFigures(
        rows=len(test.rows),
        agreement=1 - float(test.disagreements.mean()),
        accept_rate=n / len(test.rows),
        accepted_agreement=page.Interval(1 - k / n, low, high) if n else None,
    )


def _replay(result: Replay, found: Standing) -> page.Replay | None:
    total = result.total
    if not total.requests or not isinstance(found.verdict, Certificate):
        return None
    return page.Replay(
        requests=total.requests,
        accepted=total.accepted,
        agreement=page.Interval(*total.agreement) if total.agreement else None,
        max_risk=found.verdict.max_risk,
        days=tuple(
            page.ReplayDay(
                day, tally.requests, tally.accepted, tally.agreed, float(tally.paid),
                float(tally.avoided),
            )
            for day, tally in result.days.items()
            if day is not None
        ),
        paid=float(total.paid),
        avoided=float(total.avoided),
        basis="what the calls not made cost when they were recorded",
    )  # fmt: skip


def _plan(plan: Plan, other: Plan | None) -> page.Plan:
    figures, bill = plan.figures, plan.figures.bill
    evidence = plan.evidence
    volume = plan.inputs.volume
    money = page.Unit.MONEY
    people = figures.with_people
    rows = (
        page.PlanFigure("requests a month", volume.requests_per_month, page.Unit.COUNT,
                        evidence=volume.evidence, basis=volume.basis),
        page.PlanFigure("teacher, 1,000 requests", 1000 * float(plan.inputs.teacher.per_request),
                        money, evidence=plan.inputs.teacher.evidence,
                        basis=plan.inputs.teacher.basis),
        page.PlanFigure("spend a month now", float(bill.current_spend_per_month), money),
        page.PlanFigure("campaign", *_three(figures.campaign_cost), basis="failed runs included"),
        page.PlanFigure("net value after 12 months", *_three(people.net_value), evidence=evidence),
        page.PlanFigure("error price that undoes the saving",
                        _amount(bill.break_even_error_price), money),
    )  # fmt: skip
    return page.Plan(
        outlook=_outlook(plan),
        figures=rows,
        changes=plan.what_would_change_it,
        other=_outlook(other) if other is not None else None,
    )


def _three(spread: object) -> tuple[float, page.Unit, float, float]:
    p10, p50, p90 = (float(getattr(spread, name)) for name in ("p10", "p50", "p90"))
    return p50, page.Unit.MONEY, p10, p90


def _outlook(plan: Plan) -> page.Outlook:
    people, bill = plan.figures.with_people, plan.figures.bill
    loaded = people.fully_loaded_cost_per_request
    return page.Outlook(
        teacher=plan.inputs.teacher.basis,
        sentence=plan.sentence,
        p_break_even=people.probability,
        break_even_requests=people.break_even_requests.p50,
        cost_per_thousand=1000 * float(loaded) if loaded is not None else None,
        saving_per_thousand=1000 * float(bill.saving_per_request),
        fan=tuple(
            page.FanPoint(
                float(point.month), float(point.net.p10), float(point.net.p50), float(point.net.p90)
            )
            for point in plan.figures.fan
        ),
    )


def _making(found: Standing, plan: Plan, command: str) -> page.Making:
    libraries = ("numpy", "scipy", "scikit-learn", "onnxruntime", "genai-prices")
    versions = [("stillhouse", __version__), ("python", platform.python_version())]
    verdict = found.verdict
    days = plan.figures.with_people.break_even_days.p50
    grades = plan.inputs.evidence_by_input.items()
    return page.Making(
        command=command,
        versions=(*versions, *((name, version(name)) for name in libraries)),
        dataset=verdict.dataset if isinstance(verdict, Certificate) else "",
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        grades=(
            *(page.Graded(name, grade, "") for name, grade in grades),
            page.Graded(f"break-even ({days_text(days)})", plan.evidence, "weakest input"),
        ),
    )


def _amount(money: Money | None) -> float | None:
    return None if money is None else float(money)


def render(made: page.Report) -> str:
    """The page as HTML."""
    return pages.render(made)
