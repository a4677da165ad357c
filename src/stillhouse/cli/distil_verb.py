"""`stillhouse distil TASK`: a student with a certificate, or a refusal with its reason."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.markup import escape

from stillhouse import wiring
from stillhouse.cli import terminal
from stillhouse.cli.workroom import GROUPS, answered_rows, known_task, standing, traffic_facts
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Certificate, Target
from stillhouse.core.money import Paid
from stillhouse.flows.distil import Distillation, distil
from stillhouse.flows.workbench import Settings
from stillhouse.planner import money_text
from stillhouse.risk.budget import error_budget
from stillhouse.risk.evidence import exact_interval


@click.command("distil")
@click.argument("task")
@click.option("--max-risk", default=0.05, show_default=True, help="Disagreement allowed.")
@click.option("--confidence", default=0.95, show_default=True, help="That the promise holds.")
@click.option("--encoder", default="", help="A folder with an ONNX encoder, or hf:ORG/NAME.")
@click.option("--group-by", type=click.Choice(GROUPS), help="Rows with this tag stay together.")
@click.option("--seed", default=0, show_default=True, help="Of the fits.")
@click.option("--core-hour", default="0.05", show_default=True, help="USD an hour of one core.")
@click.option("--curve/--no-curve", default=True, show_default=True, help="The learning curve.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run stopped.")
@terminal.as_json
@click.pass_obj
def verb(
    db: str,
    task: str,
    max_risk: float,
    confidence: float,
    encoder: str,
    group_by: str | None,
    seed: int,
    core_hour: str,
    curve: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a student of TASK from its teacher's answers, and prove or refuse.

    Exit code 0 with a certificate, 1 with a refusal, 2 for bad input. Ctrl-C loses nothing:
    encodings and finished steps are kept, --resume goes on from them.

    \b
    Examples:
      stillhouse distil support-intents
      stillhouse distil support-intents --max-risk 0.02 --json
      stillhouse distil invoices --group-by customer
      stillhouse distil support-intents --encoder ./my-encoder --resume
    """
    try:
        target = Target(max_risk, confidence)
    except ValueError as wrong:
        raise CallerError(str(wrong)) from wrong
    with wiring.existing_store(db) as store, wiring.encodings(db) as cache:
        found = known_task(store, task)
        settings = Settings(
            target=target,
            version=standing(store, task).next_version,
            seed=seed,
            usd_per_core_hour=core_hour,
            declared_groups=group_by is not None,
            curve=curve,
            resume=resume,
            facts=traffic_facts(store, task),
        )
        house = wiring.distil_house(store, cache, terminal.say, encoder)
        result = distil(found, answered_rows(store, task, group_by or ""), settings, house)
    if as_json:
        terminal.print_json(summary(result))
    else:
        _show(result, target)
    sys.exit(0 if isinstance(result.verdict, Certificate) else 1)


def summary(result: Distillation) -> dict[str, Any]:
    """The result as one object."""
    verdict = result.verdict
    certified = isinstance(verdict, Certificate)
    return {
        "task": result.task,
        "version": result.version,
        "outcome": "certified" if certified else "refused",
        "reason": None if isinstance(verdict, Certificate) else verdict.reason.value,
        "sentence": None if isinstance(verdict, Certificate) else verdict.sentence,
        "figures": None if isinstance(verdict, Certificate) else dict(verdict.figures),
        "recipe": result.recipe or None,
        "student": result.student or None,
        "dataset": _dataset(result),
        "certificate": _certificate(verdict) if isinstance(verdict, Certificate) else None,
        "test": tested(result),
        "ladder": [
            {
                "recipe": rung.recipe,
                "agreement": rung.agreement,
                "forecast_accept_rate": rung.forecast_accept_rate,
            }
            for rung in result.rungs
        ],
        "learning_curve": [
            {
                "rows": point.rows,
                "agreement": point.agreement,
                "forecast_accept_rate": point.forecast_accept_rate,
            }
            for point in result.curve
        ],
        "cost": _cost(result),
    }


def tested(result: Distillation) -> dict[str, float | int | None] | None:
    """What the frozen student did on the test rows."""
    if result.test is None:
        return None
    held = result.test
    threshold = result.verdict.threshold if isinstance(result.verdict, Certificate) else None
    accepted = held.scores >= threshold if threshold is not None else held.scores < 0
    n, k = int(accepted.sum()), int(held.disagreements[accepted].sum())
    return {
        "n": len(held.rows),
        "agreement": 1 - float(held.disagreements.mean()) if held.rows else None,
        "accept_rate": n / len(held.rows) if held.rows else None,
        "n_accepted": n,
        "n_disagreements": k,
        "accepted_agreement": 1 - k / n if n else None,
    }


def _certificate(verdict: Certificate) -> dict[str, Any]:
    return {
        "threshold": verdict.threshold,
        "accept_rate": verdict.accept_rate,
        "max_risk": verdict.max_risk,
        "confidence": verdict.confidence,
        "n_calibration": verdict.n_calibration,
        "n_accepted": verdict.n_accepted,
        "n_disagreements": verdict.n_disagreements,
        "version": verdict.version,
        "delta_spent": verdict.delta_spent,
        "method": verdict.method,
        "dataset": verdict.dataset,
        "student": verdict.student,
    }


def _dataset(result: Distillation) -> dict[str, Any] | None:
    if result.dataset is None:
        return None
    data = result.dataset
    return {
        "digest": data.digest,
        "labels": len(data.labels),
        "train": len(data.train.rows),
        "calibration": len(data.calibration.rows),
        "test": len(data.test.rows),
    }


def _cost(result: Distillation) -> dict[str, Any]:
    total = sum((job.cost for job in result.jobs), start=Paid(0))
    return {
        "usd": str(total.decimal),
        "cpu_seconds": sum(job.cpu_seconds for job in result.jobs),
        "wall_seconds": sum(job.wall_seconds for job in result.jobs),
        "jobs": [
            {
                "kind": job.kind.value,
                "status": job.status.value,
                "step": job.detail.get("step", job.kind.value),
                "recipe": job.detail.get("recipe"),
                "wall_seconds": job.wall_seconds,
                "usd": str(job.cost.decimal),
            }
            for job in result.jobs
        ],
    }


def _show(result: Distillation, target: Target) -> None:
    out = terminal.console()
    if result.rungs:
        rows = [
            [
                rung.recipe + (" *" if rung.recipe == result.recipe else ""),
                f"{rung.agreement:.1%}",
                f"{rung.forecast_accept_rate:.0%}",
            ]
            for rung in result.rungs
        ]
        columns = ["recipe (* chosen)", "agreement", "forecast accept"]
        out.print(terminal.table("The ladder, on training rows held out", columns, rows))
        out.print()
    verdict = result.verdict
    if isinstance(verdict, Certificate):
        out.print(f"[bold green]certified[/]: {result.recipe} student of {result.task}, "
                  f"version {result.version}")  # fmt: skip
        out.print(
            f"  answers {verdict.accept_rate:.1%} of requests (score >= {verdict.threshold:.4f}) "
            f"and defers the rest"
        )
        out.print(
            f"  promise: of its answers at most {target.max_risk:.1%} differ from the teacher's, "
            f"with {target.confidence:.0%} confidence, for traffic like the "
            f"{verdict.n_calibration:,} calibration rows"
        )
        out.print(
            f"  seen there: {verdict.n_disagreements} of {verdict.n_accepted:,} accepted; this "
            f"version spent {verdict.delta_spent:.4f} of the error budget "
            f"{1 - target.confidence:.4f}, the next would get "
            f"{error_budget(1 - target.confidence, result.version + 1):.4f}"
        )
    else:
        out.print(f"[bold yellow]refused[/] ({verdict.reason.value}): {escape(verdict.sentence)}")
    figures = tested(result)
    if figures and figures["n"]:
        line = f"  on {figures['n']:,} untouched test rows: agreement {figures['agreement']:.1%}"
        n, k = int(figures["n_accepted"] or 0), int(figures["n_disagreements"] or 0)
        if n:
            low, high = exact_interval(n - k, n)
            line += f", accepts {figures['accept_rate']:.1%}, of those {1 - k / n:.1%} agree"
            line += f" (95 % interval {low:.1%} to {high:.1%})"
        out.print(line)
    cost = sum((job.cost for job in result.jobs), start=Paid(0))
    seconds = sum(job.wall_seconds for job in result.jobs)
    out.print(f"  took {seconds:.0f} s and {money_text(cost)} of computing, every rung included")
