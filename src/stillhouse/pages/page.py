"""The whole page: one file of HTML that needs nothing else."""

from __future__ import annotations

from stillhouse.pages.books import books_section
from stillhouse.pages.economics import money_section
from stillhouse.pages.making import making_section
from stillhouse.pages.markup import Markup, tag
from stillhouse.pages.replay import replay_section
from stillhouse.pages.report import Report
from stillhouse.pages.student import student_section
from stillhouse.pages.style import STYLE
from stillhouse.pages.tasks import tasks_section
from stillhouse.pages.verdict import verdict_section

_CHAPTERS = (
    ("books", "Books"),
    ("tasks", "Tasks"),
    ("student", "Student"),
    ("replay", "Replay"),
    ("money", "Money"),
    ("making", "How made"),
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if text slipped through as markup, a browser would load and run nothing."""


def render(report: Report) -> str:
    """Write the report as one self-contained HTML document; the same report gives the same text.

    Everything in the report is escaped: prompts and labels may hold anything.

    >>> page = render(Report(title="Support <tickets>"))
    >>> page.startswith("<!doctype html>"), "<h1>Support &lt;tickets&gt;</h1>" in page
    (True, True)
    """
    currency = report.currency
    body = tag(
        "body",
        _header(report),
        tag(
            "main",
            verdict_section(report),
            _contents(),
            books_section(report.books, currency),
            tasks_section(report.tasks, currency),
            student_section(report.distillation, currency),
            replay_section(report.replay, currency),
            money_section(report.plan, currency),
            making_section(report.making),
        ),
    )
    return f"<!doctype html>\n{tag('html', _head(report.title), body, lang='en')}\n"


def _head(title: str) -> Markup:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", STYLE),
    )


def _header(report: Report) -> Markup:
    source = tag("p", report.source, class_="small") if report.source else ""
    return tag("header", tag("h1", report.title), source)


def _contents() -> Markup:
    links = [tag("a", name, href=f"#{key}") for key, name in _CHAPTERS]
    return tag("nav", *links, aria_label="Contents")
