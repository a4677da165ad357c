"""The section on recorded traffic run through the policy, day by day."""

from __future__ import annotations

from functools import partial

from stillhouse.pages.blocks import (
    absent,
    color_key,
    facts,
    figure,
    folded,
    interval_lines,
    lines,
    paragraph,
    section,
    sentence_case,
    table,
)
from stillhouse.pages.markup import Markup, tag
from stillhouse.pages.numerals import (
    axis_count,
    axis_money,
    axis_share,
    count,
    duration,
    money,
    share,
    target,
)
from stillhouse.pages.pictures import Series, daily_lines, stacked_days
from stillhouse.pages.report import Latency, Replay, ReplayDay
from stillhouse.pages.scales import nice_ticks


def replay_section(replay: Replay | None, currency: str) -> Markup:
    """Show what would have happened had the policy answered the recorded traffic."""
    title = "Replay of recorded traffic"
    if replay is None:
        return section("replay", title, absent("No recorded traffic was replayed."))
    parts = [_totals(replay, currency)]
    if replay.basis:
        parts.append(paragraph("Avoided money is a counterfactual: ", replay.basis, tone="small"))
    if replay.days:
        parts.append(tag("div", *_pictures(replay, currency), class_="pair"))
        parts.append(folded("The numbers of each day", _day_table(replay.days, currency)))
    return section("replay", title, *parts)


def _totals(replay: Replay, currency: str) -> Markup:
    rate = replay.accepted / replay.requests if replay.requests else None
    return facts(
        [
            ("Requests", count(replay.requests)),
            ("Accept rate", share(rate)),
            ("Accepted agreement", interval_lines(replay.agreement)),
            ("Teacher calls avoided", count(replay.accepted)),
            ("Paid under the policy", money(replay.paid, currency)),
            ("Avoided", money(replay.avoided, currency)),
            *map(_latency, replay.latency),
        ]
    )


def _latency(latency: Latency) -> tuple[str, Markup]:
    tail = f"95th percentile {duration(latency.p95_seconds)}"
    return (
        f"{sentence_case(latency.who)} answers in",
        lines(duration(latency.p50_seconds), tag("span", tail, class_="small")),
    )


def _pictures(replay: Replay, currency: str) -> list[Markup]:
    drawn = [
        _accept_rate(replay.days),
        _agreement(replay.days, replay.max_risk),
        _calls(replay.days),
    ]
    if any(day.paid is not None or day.avoided is not None for day in replay.days):
        drawn.append(_money(replay, currency))
    return drawn


def _accept_rate(days: tuple[ReplayDay, ...]) -> Markup:
    rates = tuple(day.accepted / day.requests if day.requests else None for day in days)
    return figure(
        "replay-accept",
        "Accept rate",
        f"Share of each day's requests that the student answers{_between(rates)}.",
        lambda canvas: daily_lines(
            canvas,
            [day.day for day in days],
            [Series("", rates, "student")],
            nice_ticks(0, 1),
            axis_share,
        ),
        half=True,
    )


def _agreement(days: tuple[ReplayDay, ...], max_risk: float) -> Markup:
    agreed = tuple(day.agreed / day.accepted if day.accepted else None for day in days)
    wanted = 1 - max_risk
    low = min([wanted - max_risk, *(value for value in agreed if value is not None)])
    return figure(
        "replay-agreement",
        "Agreement among accepted answers",
        f"Share of the student's answers that equal the teacher's{_between(agreed)}.",
        lambda canvas: daily_lines(
            canvas,
            [day.day for day in days],
            [Series("", agreed, "student")],
            nice_ticks(max(0.0, low), 1, 4),
            axis_share,
            limit=(wanted, f"wanted: at least {target(wanted)}"),
        ),
        half=True,
    )


def _between(shares: tuple[float | None, ...]) -> str:
    known = [value for value in shares if value is not None]
    if not known:
        return ""
    low, high = share(min(known)), share(max(known))
    return f": {low}" if low == high else f", between {low} and {high}"


def _calls(days: tuple[ReplayDay, ...]) -> Markup:
    accepted = sum(day.accepted for day in days)
    deferred = sum(day.requests - day.accepted for day in days)
    return figure(
        "replay-calls",
        "Who answers",
        "Requests that the student answers, and those that it leaves to the teacher.",
        lambda canvas: stacked_days(
            canvas,
            [day.day for day in days],
            [
                Series("student", tuple(float(day.accepted) for day in days), "s1"),
                Series("teacher", tuple(float(day.requests - day.accepted) for day in days), "s0"),
            ],
            axis_count,
            count,
        ),
        legend=color_key([("s1", "student", count(accepted)), ("s0", "teacher", count(deferred))]),
        half=True,
    )


def _money(replay: Replay, currency: str) -> Markup:
    days = replay.days
    paid = tuple(day.paid for day in days)
    avoided = tuple(day.avoided for day in days)
    ticks = nice_ticks(0, max([v for v in (*paid, *avoided) if v is not None]) or 1, 4)
    return figure(
        "replay-money",
        "Money",
        "What each day costs under the policy, and what the calls not made would have cost. The "
        "two are never added up.",
        lambda canvas: daily_lines(
            canvas,
            [day.day for day in days],
            [Series("paid", paid, "teacher"), Series("avoided", avoided, "student")],
            ticks,
            partial(axis_money, currency=currency),
        ),
        legend=color_key(
            [
                ("teacher", "paid", money(replay.paid, currency)),
                ("student", "avoided", money(replay.avoided, currency)),
            ]
        ),
        half=True,
    )


def _day_table(days: tuple[ReplayDay, ...], currency: str) -> Markup:
    heads = ["Day", "Requests", "Accepted", "Accept rate", "Agreement", "Paid", "Avoided"]
    rows = [
        [
            day.day.isoformat(),
            count(day.requests),
            count(day.accepted),
            share(day.accepted / day.requests if day.requests else None),
            share(day.agreed / day.accepted if day.accepted else None),
            money(day.paid, currency),
            money(day.avoided, currency),
        ]
        for day in days
    ]
    return table("Replay per day", "lrrrrrr", heads, rows)
