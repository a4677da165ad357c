"""The section on the student: the ladder, its pictures, and what may be promised."""

from __future__ import annotations

from stillhouse.core.learning import Certificate
from stillhouse.pages.blocks import (
    absent,
    breakable,
    facts,
    figure,
    interval_lines,
    lines,
    paragraph,
    section,
    table,
)
from stillhouse.pages.certificate import certificate_card, refusal_card
from stillhouse.pages.markup import Markup, group, tag
from stillhouse.pages.numerals import clip, count, duration, money, plural, share, target
from stillhouse.pages.pictures import learning_curve, risk_against_accept, thin
from stillhouse.pages.report import (
    Confusion,
    Distillation,
    LearningPoint,
    RiskCurves,
    RiskPoint,
    Rung,
    TestFigures,
)

_MOST_PAIRS = 12
_TABLE_POINTS = 21
_EXAMPLE_LIMIT = 140


def student_section(found: Distillation | None, currency: str) -> Markup:
    """Show every student that was tried and what may be promised about the best one."""
    title = "The student"
    if found is None:
        return section("student", title, absent("No student was trained for this report."))
    outcome = found.outcome
    certificate = outcome if isinstance(outcome, Certificate) else None
    recipe = f", recipe {found.recipe}" if found.recipe else ""
    parts = [
        paragraph(f"Task {found.task}{recipe}."),
        certificate_card(outcome) if isinstance(outcome, Certificate) else refusal_card(outcome),
    ]
    if found.test:
        parts.append(_test(found.test))
    if found.ladder:
        parts.append(_ladder(found.ladder, currency))
    if found.risk and (found.risk.calibration or found.risk.test):
        parts.append(_risk(found.risk, certificate))
    if found.learning:
        parts.append(_learning(found.learning))
    if found.confusions:
        parts.append(_confusions(found.confusions))
    return section("student", title, *parts)


def _test(test: TestFigures) -> Markup:
    return group(
        tag("h3", "On the test rows, touched once"),
        facts(
            [
                ("Rows", count(test.rows)),
                ("Agreement on all", share(test.agreement)),
                ("Accept rate", share(test.accept_rate)),
                ("Accepted agreement", interval_lines(test.accepted_agreement)),
            ]
        ),
    )


def _ladder(ladder: tuple[Rung, ...], currency: str) -> Markup:
    heads = ["Recipe", "Agreement", "Accept rate", "Cost", "Time", "Remark"]
    rows = [
        [
            rung.recipe,
            share(rung.agreement),
            share(rung.accept_rate),
            money(rung.cost, currency),
            duration(rung.seconds),
            " · ".join(filter(None, ("chosen" if rung.chosen else "", rung.remark))),
        ]
        for rung in ladder
    ]
    return group(
        tag("h3", "The ladder, on development rows"), table("The ladder", "lrrrrl", heads, rows)
    )


def _risk(curves: RiskCurves, certificate: Certificate | None) -> Markup:
    wanted = target(curves.max_risk)
    certified = certificate.accept_rate if certificate else None
    caption = (
        "Rows are accepted from the surest down; each curve shows how many of the accepted answers "
        "differ from the teacher's. "
    )
    if certified is None:
        caption += f"No accept rate is certified to stay within {wanted}."
    else:
        caption += (
            f"Certified to stay within {wanted} up to {share(certified)} accepted. A curve may "
            "cross the limit further right: the certificate stops where chance can no longer be "
            "excluded."
        )
    points = [("calibration", p) for p in thin(curves.calibration, _TABLE_POINTS)]
    points += [("test", p) for p in thin(curves.test, _TABLE_POINTS)]
    return figure(
        "risk",
        "Risk against accept rate",
        caption,
        lambda canvas: risk_against_accept(canvas, curves, certified),
        numbers=table(
            "Risk against accept rate",
            "lrr",
            ["Rows", "Accept rate", "Risk"],
            [_risk_row(rows, point) for rows, point in points],
        ),
        height=340,
    )


def _risk_row(rows: str, point: RiskPoint) -> list[str]:
    return [rows, share(point.accept_rate), share(point.risk)]


def _learning(points: tuple[LearningPoint, ...]) -> Markup:
    first, last = points[0], points[-1]
    caption = (
        f"Agreement goes from {share(first.agreement)} with {plural(first.rows, 'training row')} "
        f"to {share(last.agreement)} with {count(last.rows)}."
    )
    return figure(
        "learning",
        "What more training rows bring",
        caption,
        lambda canvas: learning_curve(canvas, points),
        numbers=table(
            "Learning curve",
            "rrr",
            ["Training rows", "Agreement", "Accept rate"],
            [[count(p.rows), share(p.agreement), share(p.accept_rate)] for p in points],
        ),
    )


def _confusions(pairs: tuple[Confusion, ...]) -> Markup:
    ranked = sorted(pairs, key=lambda pair: (-pair.times, pair.teacher, pair.student))
    shown = ranked[:_MOST_PAIRS]
    most = max(pair.times for pair in shown) or 1
    left_out = len(ranked) - len(shown)
    rows = [
        [
            breakable(pair.teacher),
            breakable(pair.student),
            _bar(pair.times, most),
            lines(*(tag("q", clip(example, _EXAMPLE_LIMIT)) for example in pair.examples[:2])),
        ]
        for pair in shown
    ]
    heads = ["Teacher said", "Student said", "Times", "For example"]
    more = f" {plural(left_out, 'further pair')} not shown." if left_out else ""
    return group(
        tag("h3", "Where student and teacher differ"),
        paragraph(f"The most frequent pairs of answers that differ.{more}", tone="small"),
        table("Where student and teacher differ", "llll", heads, rows),
    )


def _bar(times: int, most: int) -> Markup:
    """A count with a bar; the bar repeats the number, so it is hidden from screen readers."""
    drawn = tag("rect", width=72 * times / most, height=10, class_="student-fill")
    bar = tag("svg", drawn, class_="bar", width=72, height=10, aria_hidden="true")
    return tag("span", bar, count(times), class_="whole")
