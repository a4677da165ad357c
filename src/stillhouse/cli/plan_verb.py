"""`stillhouse plan TASK`: does distilling pay, from which volume on, what would change that."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from stillhouse import wiring
from stillhouse.cli import terminal
from stillhouse.cli.workroom import known_task, standing
from stillhouse.core.errors import CallerError
from stillhouse.core.money import Money, Paid
from stillhouse.flows.planning import Question, make_plan, observe
from stillhouse.planner import (
    NOBODY,
    People,
    Plan,
    Quantiles,
    count_text,
    days_text,
    money_text,
    per_thousand_text,
    percent_text,
)
from stillhouse.planner.forecast import Outcome
from stillhouse.store.face import Store


@click.command("plan")
@click.argument("task")
@click.option("--volume", type=float, help="Requests a month; the log's own rate without it.")
@click.option("--teacher-price", default="", metavar="MODEL", help="Same tokens, other price.")
@click.option("--price-per-error", default="0", help="USD that one differing answer costs.")
@click.option("--people/--no-people", default=True, show_default=True, help="Count people's time.")
@click.option("--prices", type=click.Path(path_type=Path), help="Your own dated price file.")
@click.option("--seed", default=0, show_default=True, help="Of the simulated futures.")
@terminal.as_json
@click.pass_obj
def verb(
    db: str,
    task: str,
    volume: float | None,
    teacher_price: str,
    price_per_error: str,
    people: bool,
    prices: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Say whether distilling TASK pays, before or after trying, and why.

    \b
    Examples:
      stillhouse plan support-intents
      stillhouse plan support-intents --volume 500000
      stillhouse plan support-intents --teacher-price openai/gpt-4.1 --price-per-error 0.02
    """
    try:
        error_price = Paid.of(price_per_error)
    except (ValueError, ArithmeticError) as wrong:
        raise CallerError(
            f"--price-per-error is {price_per_error!r}; give an amount of USD, as 0.02"
        ) from wrong
    question = Question(
        requests_per_month=volume,
        teacher_model=teacher_price,
        price_per_error=error_price,
        people=People() if people else NOBODY,
        seed=seed,
    )
    with wiring.existing_store(db) as store:
        known_task(store, task)
        result = plan_of(store, task, question, prices)
    if as_json:
        terminal.print_json(summary(result))
    else:
        _show(result)


def plan_of(store: Store, task: str, question: Question, prices: Path | None = None) -> Plan:
    """The plan of a task from what the store holds."""
    found = standing(store, task)
    costs = {row.exchange_id: row.billed_pico for row in store.task_rows(task)}
    seen = observe(store.exchanges(task=task), costs.get)
    finder = wiring.price_finder(prices)
    return make_plan(task, seen, found.verdict, found.jobs, question, finder)


def summary(result: Plan) -> dict[str, Any]:
    """The plan as one object; what never happens is null."""
    inputs, figures, bill = result.inputs, result.figures, result.figures.bill
    return {
        "task": inputs.task,
        "verdict": result.verdict.value,
        "sentence": result.sentence,
        "what_would_change_it": list(result.what_would_change_it),
        "not_counted": list(result.not_counted),
        "evidence": result.evidence.value,
        "basis": {"teacher": inputs.teacher.basis, "volume": inputs.volume.basis},
        "requests_per_month": inputs.volume.requests_per_month,
        "teacher_usd_per_1000": _usd(inputs.teacher.per_request.times(1000)),
        "current_spend_usd_per_month": _usd(bill.current_spend_per_month),
        "saving_usd_per_request": _usd(bill.saving_per_request),
        "marginal_usd_per_request": _usd(bill.marginal_cost_per_request),
        "break_even_error_price_usd": _usd(bill.break_even_error_price),
        "campaign_usd": _spread(figures.campaign_cost),
        "already_spent_usd": _usd(figures.already_spent),
        "with_people": _outcome(figures.with_people),
        "automatic": _outcome(figures.automatic),
        "pays_from_requests_per_month": _finite(figures.pays_from_requests_per_month),
        "pays_from_teacher_usd_per_1000": _usd(
            figures.pays_from_teacher_cost_per_request.times(1000)
            if figures.pays_from_teacher_cost_per_request is not None
            else None
        ),
        "sensitivity": dict(figures.sensitivity),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "fully_loaded_usd_per_request": _usd(outcome.fully_loaded_cost_per_request),
        "break_even_requests": _spread(outcome.break_even_requests),
        "break_even_days": _spread(outcome.break_even_days),
        "probability_within_horizon": outcome.probability,
        "net_value_usd": _spread(outcome.net_value),
    }


def _spread(quantiles: Quantiles[Any]) -> dict[str, Any]:
    return {
        name: _usd(value) if isinstance(value, Money) else _finite(value)
        for name in ("p10", "p50", "p90")
        for value in (getattr(quantiles, name),)
    }


def _usd(amount: Money | None) -> str | None:
    return None if amount is None else format(amount.decimal, "f")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _show(result: Plan) -> None:
    out = terminal.console()
    inputs, figures = result.inputs, result.figures
    colour = {"distil": "green", "do_not_distil": "yellow"}.get(result.verdict.value, "cyan")
    out.print(f"[bold {colour}]{escape(result.sentence)}[/]")
    if inputs.teacher.basis.startswith("repriced"):
        out.print(f"[bold]note[/]: the log's own tokens, {inputs.teacher.basis}; not what was paid")
    out.print()
    people, alone, bill = figures.with_people, figures.automatic, figures.bill
    rows = [
        ["volume", f"{count_text(inputs.volume.requests_per_month)} a month", inputs.volume.basis],
        ["teacher", f"{per_thousand_text(inputs.teacher.per_request)}", inputs.teacher.basis],
        ["spend now", f"{money_text(bill.current_spend_per_month)} a month", ""],
        ["saving", f"{per_thousand_text(bill.saving_per_request)}", bill.saving_basis],
        *_loaded(people, alone),
        ["campaign", money_text(figures.campaign_cost.p50), "P50, failed runs included"],
        ["break-even", _range(people.break_even_days, days_text), "P10 / P50 / P90"],
        ["", _range(people.break_even_requests, count_text), "requests"],
        ["within 12 months", percent_text(people.probability),
         f"{percent_text(alone.probability)} without people's time"],
        ["error price", _error_price(bill.break_even_error_price), "at which the saving vanishes"],
    ]  # fmt: skip
    made = terminal.table("", ["figure", "value", "basis"], rows)
    out.print(made)
    if result.what_would_change_it:
        out.print("\nwhat would change the answer:")
        for change in result.what_would_change_it:
            out.print(f"  - {escape(change)}")
    out.print(f"\nnot counted here: {', '.join(result.not_counted)}; evidence: {result.evidence}")


def _loaded(people: Outcome, alone: Outcome) -> list[list[str]]:
    if people.fully_loaded_cost_per_request is None:
        return []
    value = per_thousand_text(people.fully_loaded_cost_per_request)
    bare = alone.fully_loaded_cost_per_request
    note = f"{per_thousand_text(bare)} without people's time" if bare is not None else ""
    return [["fully loaded", value, note]]


def _range(quantiles: Quantiles[float], text: Any) -> str:
    return " / ".join(text(getattr(quantiles, name)) for name in ("p10", "p50", "p90"))


def _error_price(price: Money | None) -> str:
    return "no price undoes it" if price is None else money_text(price)
