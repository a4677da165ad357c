"""A report with every section, made of smooth made-up numbers."""

from __future__ import annotations

from datetime import date, timedelta
from math import exp, sin

import pytest

from stillhouse.core.learning import Certificate, Refusal, RefusalReason
from stillhouse.core.traffic import Evidence
from stillhouse.pages import report as r

_FIRST = date(2026, 9, 1)
_NAMES = ("ticket-intent", "reply-draft", "invoice-fields", "chat", "sentiment", "geo", "misc")
_SIZES = (6.1, 3.2, 2.4, 1.9, 0.8, 0.31, 0.12)


def _busy(day: int) -> float:
    weekday = (_FIRST + timedelta(days=day)).weekday()
    return (0.35 if weekday > 4 else 1.0) * (1 + day / 60 + 0.12 * sin(1.7 * day))


def _books() -> r.Books:
    days = tuple(
        r.DaySpend(
            _FIRST + timedelta(days=day),
            tuple(
                size * _busy(day) * (1 + 0.15 * sin(day * (k + 1))) for k, size in enumerate(_SIZES)
            ),
        )
        for day in range(30)
    )
    by_task = tuple(
        r.SpendLine(
            name, round(8200 * size), total, total * 1.004, -0.004 * total, total / (8.2 * size)
        )
        for k, (name, size) in enumerate(zip(_NAMES, _SIZES, strict=True))
        for total in [sum(day.amounts[k] for day in days)]
    )
    by_model = (
        r.SpendLine("gpt-4.1", 74_120, 318.42, 319.9, -1.48, 4.296),
        r.SpendLine("deepseek-v4.1-flash", 48_003, 0.3021, 0.2989, 0.0032, 0.0063),
        r.SpendLine("in-house-tuned-7b", 2_210, None, unpriced_share=1.0),
    )
    spend = sum(sum(day.amounts) for day in days)
    return r.Books(
        requests=124_333,
        spend=spend,
        unpriced_share=0.0178,
        evidence=Evidence.DERIVED,
        reported=spend * 1.0036,
        over_time=r.SpendOverTime("task", _NAMES, days),
        tables=(r.SpendTable("model", by_model), r.SpendTable("task", by_task)),
    )


def _tasks() -> tuple[r.FoundTask, ...]:
    intents = (
        r.Piece(
            "You sort messages to the support desk of an online shop. Answer with exactly one of "
            "these intents and nothing else: where_is_my_order, change_address, refund_status, "
            "cancel_order, payment_failed, invoice_copy, damaged_item, wrong_item, other.\n\n"
            "Message from "
        ),
        r.Piece("customer", slot=True),
        r.Piece(":\n"),
        r.Piece("message", slot=True),
    )
    fields = (
        r.Piece("Return the invoice's fields as JSON.\n\n"),
        r.Piece("invoice text", slot=True),
    )
    return (
        r.FoundTask(
            "ticket-intent", intents, "24 labels", 50_020, 209.7, 0.83, 0.972, ("gpt-4.1",)
        ),
        r.FoundTask("invoice-fields", fields, "8 fields", 19_680, 82.1, 0.41, None),
    )


def _risk(slope: float, rows: int) -> tuple[r.RiskPoint, ...]:
    return tuple(
        r.RiskPoint(i / rows, 0.004 + 0.11 * (i / rows) ** slope + 0.02 * exp(-i / 30) * sin(i / 5))
        for i in range(1, rows + 1)
    )


CERTIFICATE = Certificate(
    student="blend-5f1c09ab22",
    threshold=0.71342,
    max_risk=0.05,
    confidence=0.95,
    delta_spent=0.0304,
    version=1,
    n_calibration=2000,
    n_accepted=1484,
    n_disagreements=49,
    method="e-process, fixed sequence of 20 levels",
    dataset="sha256:9b0f6c2e71",
)


def _distillation() -> r.Distillation:
    pairs = [
        (
            "refund_status",
            "cancel_order",
            31,
            "i sent it back 2 weeks ago, nothing on my card yet??",
        ),
        ("other", "payment_failed", 24, "do you take amex"),
        (
            "damaged_item",
            "wrong_item",
            17,
            "the box had a diffrent lamp in it and the glass was broken",
        ),
        ("invoice_copy", "other", 9, "Brauche die Rechnung fürs Finanzamt bitte"),
        ("change_address", "where_is_my_order", 6, "its going to my old flat, when does it come"),
    ]
    return r.Distillation(
        task="ticket-intent",
        outcome=CERTIFICATE,
        recipe="blend",
        ladder=(
            r.Rung("constant", 0.118, 0.0, 0.0000021, 0.02),
            r.Rung("lexical", 0.853, 0.589, 0.000142, 8.4),
            r.Rung("embedding", 0.878, 0.702, 0.00124, 71.0),
            r.Rung("blend", 0.891, 0.742, 0.00139, 79.5, chosen=True),
        ),
        risk=r.RiskCurves(0.05, _risk(3.9, 2000), _risk(4.2, 3080)),
        learning=tuple(
            r.LearningPoint(n, 0.91 - 0.38 * exp(-n / 1500), max(0.0, 0.80 - 0.95 * exp(-n / 2600)))
            for n in (250, 500, 1000, 2000, 4000, 6003)
        ),
        confusions=tuple(r.Confusion(t, s, n, (text,)) for t, s, n, text in pairs),
        test=r.TestFigures(3080, 0.8893, 0.7481, r.Interval(0.9687, 0.961, 0.9754)),
    )


def _replay() -> r.Replay:
    days = []
    for day in range(30):
        requests = round(1650 * _busy(day))
        accepted = round(requests * (0.742 + 0.02 * sin(day)))
        agreed = round(accepted * (0.968 + 0.008 * sin(2.3 * day)))
        cost = 0.0042
        days.append(
            r.ReplayDay(
                _FIRST + timedelta(days=day),
                requests,
                accepted,
                agreed,
                (requests - accepted) * cost,
                accepted * cost,
            )
        )
    requests, accepted = sum(d.requests for d in days), sum(d.accepted for d in days)
    return r.Replay(
        requests=requests,
        accepted=accepted,
        agreement=r.Interval(0.968, 0.9661, 0.9698),
        max_risk=0.05,
        days=tuple(days),
        paid=(requests - accepted) * 0.0042,
        avoided=accepted * 0.0042,
        basis="the calls not made, at the price in force when they were made, same volume.",
        latency=(r.Latency("student", 0.0041, 0.0072), r.Latency("teacher", 0.576, 1.91)),
    )


def _fan(cost: float, slow: float, middle: float, fast: float) -> tuple[r.FanPoint, ...]:
    return tuple(
        r.FanPoint(m, slow * m - cost * 1.4, middle * m - cost, fast * m - cost * 0.7)
        for m in range(13)
    )


def _plan() -> r.Plan:
    here = r.Outlook(
        teacher="gpt-4.1",
        sentence="Distilling ticket-intent pays back in about five months at this volume.",
        p_break_even=0.83,
        break_even_requests=231_000,
        cost_per_thousand=4.19,
        saving_per_thousand=2.94,
        fan=_fan(640, 71, 131, 188),
    )
    there = r.Outlook(
        teacher="deepseek-v4.1-flash",
        sentence="At that price distilling never pays in money: labels cost more than they save.",
        p_break_even=0.0,
        cost_per_thousand=0.0062,
        saving_per_thousand=-0.0011,
        fan=_fan(640, -11, -9.4, -8),
    )
    figures = (
        r.PlanFigure(
            "Requests a month",
            50_020,
            r.Unit.COUNT,
            41_000,
            60_500,
            Evidence.ESTIMATED,
            "30 days of the log",
        ),
        r.PlanFigure(
            "Teacher's cost per request",
            0.00419,
            r.Unit.MONEY,
            None,
            None,
            Evidence.DERIVED,
            "price book on 1 Sep 2026",
        ),
        r.PlanFigure(
            "Accept rate", 0.742, r.Unit.SHARE, 0.721, 0.76, Evidence.REPORTED, "certificate"
        ),
        r.PlanFigure(
            "Price per error at which the saving vanishes",
            0.19,
            r.Unit.MONEY,
            0.11,
            0.3,
            Evidence.SCENARIO,
            "2 points of excess error",
        ),
        r.PlanFigure(
            "Training, failed runs included",
            187,
            r.Unit.SECONDS,
            150,
            420,
            Evidence.REPORTED,
            "4 jobs",
        ),
    )
    changes = (
        "Fewer than 19,000 requests a month.",
        "An error that costs more than $0.19.",
        "A teacher's price under $1.10 per 1,000 requests.",
    )
    return r.Plan(here, figures, changes, there)


@pytest.fixture
def full_report() -> r.Report:
    """Every section, as a certified student gives it."""
    return r.Report(
        title="Stillhouse report: ticket-intent",
        source="support.jsonl, 124,333 requests from 1 to 30 September 2026",
        verdict=r.Verdict(
            "Distil ticket-intent: the student may answer 74 % of it, and pays back in about five "
            "months.",
            pays=True,
            reasons=(
                "At the price of deepseek-v4.1-flash the same student would never pay back.",
                "The figure to measure next is what an error costs you.",
            ),
        ),
        books=_books(),
        tasks=_tasks(),
        distillation=_distillation(),
        replay=_replay(),
        plan=_plan(),
        making=r.Making(
            command="stillhouse report ticket-intent --teacher-price deepseek-v4.1-flash",
            versions=(
                ("stillhouse", "0.1.0"),
                ("price book", "2026-11-02"),
                ("encoder", "minilm-l6"),
            ),
            dataset="sha256:9b0f6c2e71",
            seed=7,
            made_at="2026-11-22 17:49 UTC",
            grades=(
                r.Graded("Spend", Evidence.DERIVED, "logged usage and the price book"),
                r.Graded("Accept rate", Evidence.REPORTED, "counted on calibration rows"),
                r.Graded(
                    "Break-even", Evidence.ESTIMATED, "20,000 draws of volume, price and cost"
                ),
            ),
        ),
    )


@pytest.fixture
def refusal() -> Refusal:
    """What stands in place of a certificate."""
    return Refusal(
        RefusalReason.TEACHER_NOISE,
        "The teacher contradicts itself on 26 % of repeated texts, more than the 5 % wanted.",
        {"self_agreement": 0.74, "repeated_texts": 412},
    )
