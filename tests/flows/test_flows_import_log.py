from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import StoreError
from stillhouse.core.money import Paid
from stillhouse.core.traffic import (
    BrokenRow,
    Completion,
    Evidence,
    LoggedCall,
    Message,
    Request,
    Tags,
)
from stillhouse.flows.import_log import ImportSummary, import_log
from stillhouse.ledger.book import PriceBook
from stillhouse.ledger.names import Host
from stillhouse.ledger.prices import Price
from stillhouse.store.sqlite import SqliteStore

NOW_US = 2_000
OLD = Price("acme", "m", {"input_tokens": 2 * 10**12, "output_tokens": 10**13})
NEW = Price("acme", "m", {"input_tokens": 10**12, "output_tokens": 10**13}, valid_from_us=1_000)
BATCH = 20
BOOK = PriceBook([OLD, NEW], [Host("acme", models=("m",))])


class Log:
    """A log in memory; ten bytes a line."""

    def __init__(self, rows: Sequence[LoggedCall | BrokenRow], start: int) -> None:
        self.rows = rows
        self.line = start

    @property
    def position(self) -> tuple[int, int]:
        return 10 * self.line, self.line

    @property
    def share_read(self) -> float:
        return self.line / max(1, len(self.rows))

    def __iter__(self) -> Iterator[LoggedCall | BrokenRow]:
        for row in self.rows[self.line :]:
            self.line = row.line
            yield row


def call(line: int, asked: str = "q", *, tokens: int = 100, **facts: object) -> LoggedCall:
    plain = LoggedCall(
        line=line,
        request=Request((Message("system", "Be brief."), Message("user", asked))),
        completion=Completion("yes"),
        model="m",
        dialect="columns",
        usage_body={"input_tokens": tokens, "output_tokens": 10},
        at_us=line,
    )
    return replace(plain, **facts)  # type: ignore[arg-type]


class Desk:
    """Runs imports into one database and remembers what was set aside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aside: list[tuple[int, str, str]] = []
        self.heard: list[tuple[ImportSummary, float]] = []

    def run(
        self,
        rows: Sequence[LoggedCall | BrokenRow],
        fingerprint: str = "log",
        progress: Callable[[ImportSummary, float], None] | None = None,
    ) -> ImportSummary:
        def hear(summary: ImportSummary, share: float) -> None:
            self.heard.append((summary, share))

        with SqliteStore(self.path) as store:
            return import_log(
                lambda start: Log(rows, start[1]),
                fingerprint,
                store,
                BOOK,
                now_us=NOW_US,
                set_aside=lambda *row: self.aside.append(row),
                progress=progress or hear,
                rows_a_batch=BATCH,
            )

    def table(self, sql: str) -> list[tuple[object, ...]]:
        with SqliteStore(self.path) as store:
            return list(store._database.rows(sql))

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return [(line, reason) for line, reason, _ in self.aside]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "some.db")


def test_each_call_is_priced_at_its_own_instant(desk: Desk) -> None:
    summary = desk.run([call(1, at_us=999), call(2, at_us=1_000), call(3, model="unheard of")])
    assert summary == ImportSummary(rows=3, new=3, unpriced=1, first_us=3, last_us=1_000)
    assert desk.table(
        "SELECT leaf, quantity, billed_pico, price_id FROM charges JOIN accounts ON id = account"
    ) == [
        ("input_tokens", 100, 200_000_000, OLD.price_id),
        ("output_tokens", 10, 100_000_000, OLD.price_id),
        ("input_tokens", 100, 100_000_000, NEW.price_id),
        ("output_tokens", 10, 100_000_000, NEW.price_id),
        ("input_tokens", 100, None, None),
        ("output_tokens", 10, None, None),
    ]
    (facts,) = desk.table(f"SELECT facts FROM prices WHERE price_id = '{NEW.price_id}'")
    assert json.loads(str(facts[0]))["amounts"]["input_tokens"] == 10**12


def test_a_call_without_a_time_is_priced_now_and_graded_an_estimate(desk: Desk) -> None:
    summary = desk.run([call(1, at_us=None)])
    assert (summary.first_us, summary.last_us) == (None, None)
    assert set(desk.table("SELECT price_id, evidence FROM accounts")) == {
        (NEW.price_id, Evidence.ESTIMATED.value)
    }


def test_what_the_provider_says_is_kept_beside_the_computed_cost(desk: Desk) -> None:
    desk.run([call(1, reported_cost=Paid(7), tags=Tags(team="app"))])
    with SqliteStore(desk.path) as store:
        (group,) = store.spend("team")
    assert (group.key, group.billed_pico, group.reported_pico) == ("app", 300_000_000, 7)


def test_importing_twice_changes_nothing(desk: Desk) -> None:
    rows = [call(n, f"q {n}") for n in range(1, 9)]
    desk.run(rows)
    before = desk.table("SELECT * FROM books")
    again = desk.run(rows)
    assert (again.new, again.duplicates, again.resumed_from) == (0, 8, 0)
    assert desk.table("SELECT * FROM books") == before


def test_a_file_that_overlaps_another_adds_only_what_is_new(desk: Desk) -> None:
    rows = [call(n, f"q {n}") for n in range(1, 9)]
    desk.run(rows[:5], "first")
    summary = desk.run([replace(row, line=row.line - 3) for row in rows[3:]], "second")
    assert (summary.new, summary.duplicates) == (3, 2)


ROWS = st.builds(
    call,
    st.just(1),
    st.sampled_from("abc"),
    at_us=st.none() | st.integers(1, 2),
    declared_id=st.just(""),
)


@settings(max_examples=30, deadline=None)
@given(contents=st.lists(ROWS, max_size=9), cut=st.integers(0, 9))
def test_any_log_imported_twice_or_in_part_before_gives_the_same_books(
    tmp_path_factory: pytest.TempPathFactory, contents: list[LoggedCall], cut: int
) -> None:
    rows = [replace(row, line=n) for n, row in enumerate(contents, 1)]
    folder = tmp_path_factory.mktemp("flow")
    once, often = Desk(folder / "once.db"), Desk(folder / "often.db")
    once.run(rows)
    often.run(rows[:cut], "a part of it")
    often.run(rows)
    often.run(rows)
    everything = "SELECT * FROM books ORDER BY exchange_id, place"
    assert often.table(everything) == once.table(everything)
    timed = {(r.at_us, r.request) for r in rows if r.at_us is not None}
    timeless = [r for r in rows if r.at_us is None]
    assert once.table("SELECT count(*) FROM exchanges") == [(len(timed) + len(timeless),)]


def test_the_same_prompt_answered_twice_in_a_table_without_times_is_two_calls(desk: Desk) -> None:
    rows = [call(n, at_us=None) for n in (1, 2, 3)]
    assert desk.run(rows).new == 3
    assert desk.run(rows).duplicates == 3


class PulledPlugError(Exception):
    pass


@pytest.mark.parametrize("timed", [True, False], ids=["with times", "without times"])
@pytest.mark.parametrize("fault", [PulledPlugError, KeyboardInterrupt])
def test_an_interrupted_import_goes_on_after_its_last_whole_batch(
    desk: Desk, fault: type[BaseException], timed: bool
) -> None:
    n = 2 * BATCH + 5
    rows = [call(i, f"q {i % 30}", at_us=i if timed else None) for i in range(1, n + 1)]

    def pull(summary: ImportSummary, _: float) -> None:
        if summary.rows == BATCH:
            raise fault

    with pytest.raises(fault):
        desk.run(rows, progress=pull)
    assert desk.table("SELECT count(*) FROM exchanges") == [(BATCH,)]
    rest = desk.run(rows)
    assert (rest.resumed_from, rest.rows) == (BATCH, n - BATCH)
    assert desk.table("SELECT count(*), count(DISTINCT exchange_id) FROM exchanges") == [(n, n)]
    assert desk.table("SELECT new, duplicates, finished FROM imports") == [(n, 0, 1)]
    assert desk.run(rows).duplicates == n
    assert desk.table("SELECT count(*) FROM occurrences") == [(0,)]


def test_progress_is_told_after_each_batch(desk: Desk) -> None:
    rows = [call(i, f"q {i}") for i in range(1, BATCH + 2)]
    final = desk.run(rows)
    assert [summary.rows for summary, _ in desk.heard] == [BATCH, BATCH + 1]
    assert desk.heard[-1] == (final, 1.0)


def test_broken_rows_are_set_aside_and_the_rest_goes_on(desk: Desk) -> None:
    misfit = call(3, usage_body={"input_tokens": 5, "cached_tokens": 9, "output_tokens": 1})
    absurd = call(4, tokens=10**14)
    summary = desk.run([call(1), BrokenRow(2, "no JSON", "{raw"), misfit, absurd, call(5)])
    assert (summary.rows, summary.new, summary.quarantined) == (5, 2, 3)
    assert desk.aside[0] == (2, "no JSON", "{raw")
    assert [line for line, _ in desk.reasons] == [2, 3, 4]
    assert "its parts are larger" in desk.reasons[1][1]
    assert "more than a million USD" in desk.reasons[2][1]
    assert json.loads(desk.aside[1][2])["usage_body"]["cached_tokens"] == 9


def test_a_row_that_is_set_aside_is_kept_whole(desk: Desk) -> None:
    odd = {"input_tokens": 5, "cached_tokens": 9, "output_tokens": 1, "of": Decimal("1.50")}
    row = replace(call(3, usage_body=odd), tags=Tags("t", team="é"), reported_cost=Paid(7, "EUR"))
    desk.run([row])
    kept = json.loads(desk.aside[0][2])
    assert kept["reported_cost"] == {"pico": 7, "currency": "EUR"}
    assert kept["tags"] == {"task": "t", "team": "é", "customer": "", "feature": "", "region": ""}
    assert kept["usage_body"] == odd | {"of": "1.50"}
    assert [turn["role"] for turn in kept["request"]["messages"]] == ["system", "user"]


def test_text_that_no_database_can_hold_is_set_aside(desk: Desk) -> None:
    summary = desk.run([call(1, "half a \ud83d"), call(2)])
    assert (summary.new, summary.quarantined) == (1, 1)
    assert "cannot be kept" in desk.reasons[0][1]


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (call(1, declared_id="a"), call(2, "other", declared_id="a"), "the id 'a' is in"),
        (
            call(1, declared_id="a"),
            call(2, tokens=9, declared_id="a"),
            "the id 'a' is in the books",
        ),
        (call(1), call(2, tokens=9, at_us=1), "the same request and time is in the books"),
    ],
    ids=["other text", "other counts", "no id, other counts"],
)
def test_the_same_identity_with_other_content_is_set_aside(
    desk: Desk, first: LoggedCall, second: LoggedCall, says: str
) -> None:
    summary = desk.run([first, second])
    assert (summary.rows, summary.new, summary.quarantined) == (2, 1, 1)
    assert desk.reasons[0][0] == 2
    assert desk.reasons[0][1].startswith(says)
    assert (desk.run([first], "alone").duplicates, desk.run([second], "too").quarantined) == (1, 1)


def test_a_call_with_its_own_id_is_one_call_whatever_its_time(desk: Desk) -> None:
    summary = desk.run([call(1, declared_id="a"), call(2, declared_id="a")])
    assert (summary.new, summary.duplicates, summary.quarantined) == (1, 1, 0)


def test_an_empty_log_is_imported_and_holds_nothing(desk: Desk) -> None:
    assert desk.run([]) == ImportSummary()


def test_a_second_import_at_the_same_time_is_refused(desk: Desk) -> None:
    def intrude(_: ImportSummary, __: float) -> None:
        Desk(desk.path).run([call(1)], "another log")

    with pytest.raises(StoreError, match="another process is importing"):
        desk.run([call(1)], progress=intrude)
