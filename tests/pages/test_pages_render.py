"""The whole page: well-formed, self-contained, escaped, and the same every time."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields, is_dataclass, replace
from datetime import date
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from stillhouse.core.learning import Certificate, Refusal
from stillhouse.core.traffic import Evidence
from stillhouse.pages import render
from stillhouse.pages import report as r

SECTIONS = ("verdict", "books", "tasks", "distillation", "replay", "plan", "making")
ATTACK = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\x00\ud800"


def tree(page: str) -> ElementTree.Element:
    """The page is also well-formed XML, so a strict parser may read it."""
    return ElementTree.fromstring(page.removeprefix("<!doctype html>\n"))


def words(page: str) -> str:
    """What the page says, every gap a plain space."""
    return " ".join(" ".join(tree(page)[1].itertext()).split())


def with_student(report: r.Report, **changes: Any) -> r.Report:
    assert report.distillation
    return replace(report, distillation=replace(report.distillation, **changes))


class Scanner(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]


def scan(page: str) -> Scanner:
    scanner = Scanner()
    scanner.feed(page)
    scanner.close()
    return scanner


def test_the_page_is_well_formed(full_report: r.Report) -> None:
    root = tree(render(full_report))
    assert [child.tag for child in root] == ["head", "body"]


def test_sections_stand_in_their_order(full_report: r.Report) -> None:
    found = [section.get("id") for section in tree(render(full_report)).iter("section")]
    assert found == ["verdict", "books", "tasks", "student", "replay", "money", "making"]


def test_the_same_report_gives_the_same_page(full_report: r.Report) -> None:
    assert render(full_report) == render(replace(full_report))


def test_the_page_asks_for_nothing_from_outside(full_report: r.Report) -> None:
    page = render(full_report)
    scanner = scan(page)
    assert not scanner.tags.keys() & {"script", "link", "img", "iframe", "object", "base", "form"}
    links = [value for name, value in scanner.attributes if name in {"href", "src", "action"}]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"https?:|url\(|@import|@font-face", page)
    assert not [name for name, _ in scanner.attributes if name.startswith("on")]


def test_links_and_labels_point_at_ids_that_exist_once(full_report: r.Report) -> None:
    scanner = scan(render(full_report))
    ids = Counter(value for name, value in scanner.attributes if name == "id")
    wanted = [value[1:] for name, value in scanner.attributes if name == "href"]
    for name, value in scanner.attributes:
        if name == "aria-labelledby":
            wanted += value.split()
    assert set(ids.values()) == {1}
    assert set(wanted) <= ids.keys()


def test_every_picture_has_a_title_a_text_alternative_and_its_numbers(
    full_report: r.Report,
) -> None:
    root = tree(render(full_report))
    pictures = [svg for svg in root.iter("svg") if svg.get("role") == "img"]
    assert len(pictures) == 2 * 9
    for svg in pictures:
        assert svg.findtext("title")
        assert len(svg.findtext("desc") or "") > 20
    for svg in root.iter("svg"):
        inside = {id(inner) for picture in pictures for inner in picture.iter("svg")}
        assert svg.get("aria-hidden") == "true" or id(svg) in inside
    tables = list(root.iter("table"))
    assert all(table.findtext("caption") for table in tables)
    folded = [d for d in root.iter("details") if d.get("class") == "numbers"]
    assert len(folded) == 6


def test_no_mark_lies_outside_its_picture(full_report: r.Report) -> None:
    for svg in tree(render(full_report)).iter("svg"):
        if svg.get("role") != "img":
            continue
        width, height = float(svg.get("width", "0")), float(svg.get("height", "0"))
        for mark in svg.iter():
            assert -0.01 <= float(mark.get("x", "0")) <= width
            assert -0.01 <= float(mark.get("y", "0")) <= height
            assert float(mark.get("width", "0")) >= 0
            assert float(mark.get("height", "0")) >= 0


def poisoned(value: Any) -> Any:
    """The same report with every text in it replaced by an attack."""
    if isinstance(value, str) and not isinstance(value, Evidence | r.Unit):
        return ATTACK
    if isinstance(value, tuple):
        return tuple(poisoned(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: poisoned(getattr(value, field.name))
            for field in fields(value)
            if field.name != "reason"
        }
        return replace(value, **changed)
    return value


@pytest.mark.parametrize("refused", [False, True])
def test_no_text_becomes_markup(full_report: r.Report, refusal: Refusal, refused: bool) -> None:
    if refused:
        full_report = with_student(full_report, outcome=refusal)
    page = render(poisoned(full_report))
    assert page.count("&lt;script&gt;alert(1)") > 50
    clean, scanner = scan(render(full_report)), scan(page)
    assert scanner.tags.keys() <= clean.tags.keys()
    assert scanner.tags["td"] == clean.tags["td"]
    assert not [name for name, _ in scanner.attributes if name.startswith("on")]
    assert "&amp;amp;" in page
    tree(page)
    page.encode("utf-8")


@pytest.mark.parametrize("name", SECTIONS)
def test_any_section_may_be_absent(full_report: r.Report, name: str) -> None:
    nothing: dict[str, Any] = {name: None}
    page = render(replace(full_report, **nothing))
    assert page != render(full_report)
    tree(page)


def test_an_empty_report_says_what_is_not_there() -> None:
    page = words(render(r.Report(title="Nothing yet")))
    for sentence in (
        "No verdict was asked for.",
        "No books were kept for this report.",
        "Nobody looked for repeated tasks in this log.",
        "No student was trained for this report.",
        "No recorded traffic was replayed.",
        "No plan was made for this report.",
        "The report does not say how it was made.",
    ):
        assert sentence in page


def test_the_key_figures_stand_at_the_top(full_report: r.Report) -> None:
    root = tree(render(full_report))
    tiles = [
        tuple(part.text for part in tile) for tile in root.findall(".//dl[@class='tiles']/div")
    ]
    assert [(name, number) for name, number, _ in tiles] == [
        ("Spend in the log", "$457.84"),
        ("Unpriced", "1.8\u202f%"),
        ("Certified accept rate", "74.2\u202f%"),
        ("Realised agreement", "96.8\u202f%"),
        ("Break-even chance", "83\u202f%"),
    ]


def test_a_certificate_shows_every_number_it_has(full_report: r.Report) -> None:
    page = words(render(full_report))
    for shown in (
        "0.7134",
        "2,000",
        "1,484",
        "49 (3.3 %",
        "0.0304",
        "blend-5f1c09ab22",
        "sha256:9b0f6c2e71",
        "e-process, fixed sequence of 20 levels",
    ):
        assert shown in page
    assert "at most 5 % differ" in page
    assert "It does not promise" in page


def test_a_refusal_stands_in_place_of_the_certificate(
    full_report: r.Report, refusal: Refusal
) -> None:
    page = words(render(with_student(full_report, outcome=refusal)))
    assert "Refused: teacher noise" in page
    assert refusal.sentence in page
    assert "No accept rate is certified" in page
    assert "It promises" not in page


def test_an_unknown_price_is_never_shown_as_zero() -> None:
    line = r.SpendLine("in-house-7b", 12, None, unpriced_share=1.0)
    books = r.Books(12, None, 1.0, Evidence.ESTIMATED, tables=(r.SpendTable("model", (line,)),))
    page = words(render(r.Report("Books", books=books)))
    assert "in-house-7b 12 unpriced" in page
    assert "$0" not in page


def test_smallest_parts_still_draw() -> None:
    day = date(2026, 9, 1)
    certificate = Certificate("s", 1.0, 0.05, 0.95, 0.03, 1, 0, 0, 0, "m", "d")
    report = r.Report(
        "Least",
        books=r.Books(
            1,
            0.0,
            0.0,
            Evidence.DERIVED,
            over_time=r.SpendOverTime("model", ("m",), (r.DaySpend(day, (0.0,)),)),
        ),
        distillation=r.Distillation(
            "t",
            certificate,
            risk=r.RiskCurves(0.05, test=(r.RiskPoint(1.0, 0.0),)),
            learning=(r.LearningPoint(0, 0.0),),
            confusions=(r.Confusion("a", "b", 0),),
        ),
        replay=r.Replay(0, 0, None, 0.05, days=(r.ReplayDay(day, 0, 0, 0),)),
        plan=r.Plan(r.Outlook("m", "Never.", 0.0, fan=(r.FanPoint(0, 0.0, 0.0, 0.0),))),
    )
    tree(render(report))


def test_a_day_of_refunds_hangs_under_zero() -> None:
    days = (r.DaySpend(date(2026, 9, 1), (4.0, 1.0)), r.DaySpend(date(2026, 9, 2), (-2.0, 1.0)))
    books = r.Books(
        2, 4.0, 0.0, Evidence.DERIVED, over_time=r.SpendOverTime("model", ("a", "b"), days)
    )
    root = tree(render(r.Report("Refunds", books=books)))
    edges = {
        rect.findtext("title"): (float(rect.attrib["y"]), float(rect.attrib["height"]))
        for rect in root.iter("rect")
        if rect.find("title") is not None
    }
    zero = sum(edges["1 Sep, a: $4.00"])
    assert edges["2 Sep, a: −$2.00"][0] == pytest.approx(zero, abs=0.02)
    assert sum(edges["2 Sep, b: $1.00"]) == pytest.approx(zero, abs=0.02)


def test_the_smallest_series_are_joined_and_nothing_is_lost() -> None:
    names = tuple("abcdefgh")
    amounts = (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
    spend = r.SpendOverTime("model", names, (r.DaySpend(date(2026, 9, 1), amounts),))
    page = words(
        render(r.Report("Many", books=r.Books(8, 36.0, 0.0, Evidence.DERIVED, None, spend)))
    )
    assert "3 others $6.00 · 16.7 %" in page


def test_only_the_twelve_most_frequent_differences_are_shown(full_report: r.Report) -> None:
    pairs = tuple(r.Confusion(f"t{i}", f"s{i}", i + 1, ("text",)) for i in range(15))
    page = words(render(with_student(full_report, confusions=pairs)))
    assert "t14 s14 15" in page
    assert "t3 s3 4" in page
    assert "t2 s2 3" not in page
    assert "3 further pairs not shown" in page


def test_a_second_price_is_said_to_be_a_scenario(full_report: r.Report) -> None:
    page = words(render(full_report))
    assert "The same tokens at the price of deepseek-v4.1-flash" in page
    assert "nobody was billed this price" in page
    assert full_report.plan
    alone = replace(full_report, plan=replace(full_report.plan, other=None))
    assert "nobody was billed this price" not in words(render(alone))


def test_long_prompts_and_examples_are_shortened(full_report: r.Report) -> None:
    task = r.FoundTask("long", (r.Piece("word " * 4000),), "text", 1)
    page = render(replace(full_report, tasks=(task,)))
    assert "(19,400 characters)" in page
    assert len(page) < len(render(full_report)) + 1000
