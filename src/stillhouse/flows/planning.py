"""The story of a plan: what the log says of a task, what its student proved, what it would pay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np

from stillhouse.core.books import Job, JobKind
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Certificate, Refusal
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Attempt, Exchange
from stillhouse.ledger.charging import billed, charge
from stillhouse.ledger.prices import Price
from stillhouse.planner import (
    HeldOutCounts,
    People,
    Plan,
    PlanInputs,
    TeacherCost,
    Volume,
    observed_volume,
    plan,
    stated_volume,
)

_US_A_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Observed:
    """What the log says of a task's calls: how many, when, and what they cost."""

    requests: int
    daily_counts: tuple[int, ...]
    span_seconds: float
    computed: Paid
    n_computed: int
    reported: Paid
    n_reported: int
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a stated volume, another teacher's price, what people and errors cost."""

    requests_per_month: float | None = None
    teacher_model: str = ""
    price_per_error: Paid = field(default_factory=lambda: Paid(0))
    people: People = field(default_factory=People)
    shadow_share: float = 0.01
    seed: int = 0


def observe(exchanges: Iterable[Exchange], costs: Callable[[str], int | None]) -> Observed:
    """Read a task's exchanges once; `costs` gives the booked cost of an exchange in pico-USD.

    What a row cost was booked when it was imported: it is read from the books, never priced anew.
    """
    attempts: list[Attempt] = []
    days: Counter[date] = Counter()
    times: list[int] = []
    computed = reported = n_computed = n_reported = requests = 0
    for exchange in exchanges:
        requests += 1
        attempts += [a for a in exchange.attempts if a.usage is not None]
        cost = costs(exchange.exchange_id)
        if cost is not None:
            computed, n_computed = computed + cost, n_computed + 1
        said = [a.reported_cost.pico for a in exchange.attempts if a.reported_cost is not None]
        if said:
            reported, n_reported = reported + sum(said), n_reported + 1
        if exchange.at_us is not None:
            times.append(exchange.at_us)
            days[datetime.fromtimestamp(exchange.at_us / _US_A_SECOND, UTC).date()] += 1
    span = (max(times) - min(times)) / _US_A_SECOND if times else 0.0
    return Observed(
        requests=requests,
        daily_counts=_every_day(days),
        span_seconds=span,
        computed=Paid(computed),
        n_computed=n_computed,
        reported=Paid(reported),
        n_reported=n_reported,
        attempts=tuple(attempts),
    )


def make_plan(
    task: str,
    seen: Observed,
    verdict: Certificate | Refusal | None,
    jobs: Sequence[Job],
    question: Question,
    price_of: Callable[[str, Attempt], Price | None],
) -> Plan:
    """Answer whether distilling the task pays, with the log's own volume and cost unless stated."""
    inputs = PlanInputs(
        task=task,
        volume=_volume(seen, question),
        teacher=_teacher(task, seen, question, price_of),
        student=verdict,
        held_out=held_out_counts(jobs),
        jobs=tuple(jobs),
        own_campaigns=len({job.detail.get("version") for job in jobs}),
        people=question.people,
        price_per_error=question.price_per_error,
        shadow_share=question.shadow_share,
    )
    return plan(inputs, np.random.default_rng(question.seed))


def held_out_counts(jobs: Sequence[Job]) -> HeldOutCounts | None:
    """What the latest evaluation on test rows counted."""
    for job in reversed(jobs):
        if job.kind is JobKind.EVALUATE and "n_disagreements" in job.detail:
            names = ("n", "n_accepted", "n_disagreements")
            return HeldOutCounts(*(int(job.detail[name]) for name in names))
    return None


def _volume(seen: Observed, question: Question) -> Volume:
    if question.requests_per_month is not None:
        return stated_volume(question.requests_per_month)
    if not seen.daily_counts:
        raise CallerError(
            f"the log's {seen.requests:,} requests carry no times, so their volume is unknown; "
            "state it with --volume REQUESTS_A_MONTH"
        )
    return observed_volume(seen.daily_counts, seen.span_seconds)


def _teacher(
    task: str,
    seen: Observed,
    question: Question,
    price_of: Callable[[str, Attempt], Price | None],
) -> TeacherCost:
    if question.teacher_model:
        mean = _repriced(seen, question.teacher_model, price_of)
        return TeacherCost(mean, f"repriced at {question.teacher_model}")
    if seen.n_reported == seen.requests > 0:
        return TeacherCost(seen.reported.times(1, seen.n_reported), "billed")
    if seen.n_computed:
        return TeacherCost(seen.computed.times(1, seen.n_computed), "computed")
    raise CallerError(
        f"no request of {task} has a price, so there is no cost to save; add the model to a price "
        "file (import --prices) or ask at another model's price with --teacher-price MODEL"
    )


def _repriced(seen: Observed, model: str, price_of: Callable[[str, Attempt], Price | None]) -> Paid:
    """The mean cost of the same tokens at another model's price today."""
    total, counted = Paid(0), 0
    for attempt in seen.attempts:
        # Times and hosts of the old teacher say nothing about the new one.
        moved = attempt._replace(model=model, host="", service_tier="", batch=False)
        price = price_of(model, moved)
        if price is None:
            raise CallerError(
                f"there is no price for {model!r}; name a model of the price catalogue, with its "
                "provider where several sell it, as openai/gpt-4.1, or add it to a price file"
            )
        cost = billed(charge(moved, price))
        if cost is not None:
            total, counted = total + cost, counted + 1
    if not counted:
        raise CallerError(
            f"the log holds no token counts that {model!r} has prices for; import a log with usage"
        )
    return total.times(1, counted)


def _every_day(days: Counter[date]) -> tuple[int, ...]:
    """Counts of every day from the first to the last, those without calls included."""
    if not days:
        return ()
    first = min(days)
    length = (max(days) - first).days + 1
    return tuple(days[first + timedelta(n)] for n in range(length))
