"""The top of the page: the verdict in one sentence, and the figures that carry it."""

from __future__ import annotations

from stillhouse.core.learning import Certificate
from stillhouse.pages.blocks import absent, bullets, paragraph
from stillhouse.pages.books import money_or_unpriced
from stillhouse.pages.markup import Markup, tag
from stillhouse.pages.numerals import chance, count_or_never, interval, plural, share, target
from stillhouse.pages.report import Books, Distillation, Plan, Replay, Report, Verdict

_Tile = tuple[str, str, str]
"""Name, big number, note."""


def verdict_section(report: Report) -> Markup:
    """Show the verdict and the key figures that the report has."""
    tiles = key_figures(report)
    shown = tag("dl", *map(_tile, tiles), class_="tiles") if tiles else ""
    words = _words(report.verdict) if report.verdict else absent("No verdict was asked for.")
    return tag("section", words, shown, id="verdict", aria_label="Verdict")


def _words(verdict: Verdict) -> Markup:
    tone = {True: "pays", False: "leave", None: "open"}[verdict.pays]
    return tag(
        "div",
        paragraph(verdict.sentence, tone="verdict"),
        bullets(verdict.reasons, tone="reasons"),
        class_=tone,
    )


def key_figures(report: Report) -> list[_Tile]:
    """The figures at the top, read from the sections so that the page cannot contradict itself."""
    tiles: list[_Tile] = []
    if report.books:
        tiles += _books_tiles(report.books, report.currency)
    if report.distillation:
        tiles.append(_certified(report.distillation))
    realised = _realised(report.replay, report.distillation)
    if realised:
        tiles.append(realised)
    if report.plan:
        tiles.append(_break_even(report.plan))
    return tiles


def _tile(tile: _Tile) -> Markup:
    name, number, note = tile
    return tag(
        "div", tag("dt", name), tag("dd", number, class_="big"), tag("dd", note, class_="small")
    )


def _books_tiles(books: Books, currency: str) -> list[_Tile]:
    spend = money_or_unpriced(books.spend, currency)
    return [
        ("Spend in the log", spend, plural(books.requests, "request")),
        ("Unpriced", share(books.unpriced_share), "of requests have no known price"),
    ]


def _certified(found: Distillation) -> _Tile:
    name = "Certified accept rate"
    if not isinstance(found.outcome, Certificate):
        return name, "none", f"refused: {found.outcome.reason.value.replace('_', ' ')}"
    risk, sure = target(found.outcome.max_risk), target(found.outcome.confidence)
    return name, share(found.outcome.accept_rate), f"risk at most {risk}, confidence {sure}"


def _realised(replay: Replay | None, found: Distillation | None) -> _Tile | None:
    """Agreement among accepted answers: in the replay, else on the test rows."""
    name = "Realised agreement"
    if replay and replay.agreement:
        known, where = replay.agreement, "in replay"
    elif found and found.test and found.test.accepted_agreement:
        known, where = found.test.accepted_agreement, "on test rows"
    else:
        return None
    return name, share(known.value), f"{interval(known)}, {where}"


def _break_even(plan: Plan) -> _Tile:
    after = count_or_never(plan.outlook.break_even_requests)
    note = f"within 12 months; middle case {after}" + ("" if after == "never" else " requests")
    return "Break-even chance", chance(plan.outlook.p_break_even), note
