from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.learning import Row, TrainSet
from stillhouse.distillation.dataset import (
    RAREST_LABEL,
    Answered,
    assemble,
    build,
    grouped,
    rehearsal_split,
    repeats,
)
from stillhouse.risk.refusal import Repeats

WORDS = ("card", "refund", "rate", "pin", "limit", "fee", "app", "cash", "phone", "order")
ROWS = [
    Row("r0", "where is my card", "card", 0, 0),
    Row("r1", "where is my refund", "refund", 1, 1),
    Row("r2", "when is the refund due", "refund", 2, 2),
    Row("r3", "the card is gone", "card", 3, 3),
]


@st.composite
def traffic(draw: st.DrawFn) -> list[Answered]:
    """Answered requests in which texts come again and some have a declared group."""
    texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
    row = st.tuples(texts, st.sampled_from("abc"), st.sampled_from(["", "", "g1", "g2", "g3"]))
    return [
        Answered(f"r{n}", text, answer, group)
        for n, (text, answer, group) in enumerate(draw(st.lists(row, max_size=60)))
    ]


def distinct(n: int) -> list[Answered]:
    """Requests of which no two are alike."""
    return [Answered(f"r{i}", f"{i * 7919} of {i * 104_729}", "ab"[i % 2]) for i in range(n)]


@settings(deadline=None)
@given(traffic(), st.sets(st.integers(0, 59)))
def test_no_group_straddles_two_sets(rows: list[Answered], chosen: set[int]) -> None:
    data = build("t", rows, {f"r{n}" for n in chosen if n < len(rows)})
    sets = [{row.group for row in part.rows} for part in (data.train, data.calibration, data.test)]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]
    texts = [{row.text for row in part.rows} for part in (data.train, data.calibration, data.test)]
    assert not texts[0] & (texts[1] | texts[2])
    assert not texts[1] & texts[2]


@settings(deadline=None)
@given(traffic())
def test_sets_follow_one_another_in_time_by_the_first_rows_of_their_groups(
    rows: list[Answered],
) -> None:
    data = build("t", rows)
    first: dict[int, int] = {}
    for row in grouped(rows):
        first.setdefault(row.group, row.position)
    ends = -1
    for part in (data.train, data.calibration, data.test):
        positions = [row.position for row in part.rows]
        assert positions == sorted(positions)
        starts = [first[row.group] for row in part.rows]
        assert min(starts, default=ends + 1) > ends
        ends = max([ends, *starts])


@settings(deadline=None)
@given(traffic())
def test_every_row_is_in_one_set_unless_its_label_is_too_rare_to_learn(
    rows: list[Answered],
) -> None:
    data = build("t", rows)
    parts = (data.train, data.calibration, data.test)
    placed = [row.row_id for part in parts for row in part.rows]
    assert len(placed) == len(set(placed))
    left_out = [row for row in rows if row.row_id not in placed]
    assert all(row.answer not in data.labels for row in left_out)
    for label in data.labels:
        assert sum(row.label == label for row in data.train.rows) >= RAREST_LABEL


def test_sixty_per_cent_train_a_quarter_calibrates_and_the_rest_tests() -> None:
    data = build("t", distinct(1_000))
    sizes = [len(part.rows) for part in (data.train, data.calibration, data.test)]
    assert sizes == [600, 250, 150]


def test_rows_kept_for_the_test_leave_none_of_their_group_behind() -> None:
    rows = [*distinct(400), Answered("copy", "0 OF  0", "a"), Answered("mate", "x", "a", "g")]
    rows[7] = replace(rows[7], group="g")
    data = build("t", rows, for_test={"r0", "mate"})
    assert [row.row_id for row in data.test.rows] == ["r0", "mate"]
    placed = {row.row_id for part in (data.train, data.calibration) for row in part.rows}
    assert not placed & {"r0", "mate", "copy", "r7"}
    assert len(placed) == 398
    assert len(data.calibration.rows) == pytest.approx(0.25 * 398, abs=1)


def test_near_duplicates_and_declared_groups_are_joined_in_chains() -> None:
    rows = [
        Answered("r0", "where is my card", "a"),
        Answered("r1", "something else", "a", "ann"),
        Answered("r2", "Where is  my card", "a", "ann"),
        Answered("r3", "nothing of the sort", "a", "bob"),
        Answered("r4", "something else", "a"),
    ]
    groups = [row.group for row in grouped(rows)]
    assert groups[0] == groups[1] == groups[2] == groups[4] != groups[3]


def test_answers_are_compared_in_one_spelling() -> None:
    rows = [Answered("r0", "a", ' "Card_Arrival." '), Answered("r1", "b", "card arrival")]
    assert {row.label for row in grouped(rows)} == {"card arrival"}


def test_a_label_seen_once_is_left_to_the_teacher() -> None:
    once = Row("r4", "what is the rate", "rate", 4, 4)
    data = assemble("t", [*ROWS, once], [replace(once, row_id="r5")], [])
    assert data.labels == ("card", "refund")
    assert once not in data.train.rows
    assert len(data.calibration.rows) == 1


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize(
    "change",
    [{"row_id": "other"}, {"text": "where is my cart"}, {"label": "refund"}, {"group": 9}],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_changes_with_any_content(part: int, change: dict[str, str | int]) -> None:
    sets = [ROWS, ROWS, ROWS]
    changed = [list(rows) for rows in sets]
    changed[part][0] = replace(ROWS[0], **change)  # type: ignore[arg-type]
    assert assemble("t", *changed).digest != assemble("t", *sets).digest


def test_the_digest_changes_with_the_task_the_order_and_the_set_of_a_row() -> None:
    digests = {
        assemble("t", ROWS[:2], ROWS[2:], []).digest,
        assemble("u", ROWS[:2], ROWS[2:], []).digest,
        assemble("t", ROWS[:2][::-1], ROWS[2:], []).digest,
        assemble("t", ROWS[:3], ROWS[3:], []).digest,
        assemble("t", ROWS[:2], [], ROWS[2:]).digest,
    }
    assert len(digests) == 5
    assert assemble("t", ROWS[:2], ROWS[2:], []).digest in digests


def test_no_text_can_pass_for_the_border_between_two_rows() -> None:
    one, two = Row("a", "x", "y", 0, 0), Row("b", "z", "y", 0, 0)
    joined = [Row("a", f"x\n0\tb\ty\t{two.text}", "y", 0, 0), Row("a", "x')(0, 'b'", "y", 0, 0)]
    digests = {assemble("t", rows, [], []).digest for rows in ([one, two], *[[j] for j in joined])}
    assert len(digests) == 3


def test_any_text_has_a_digest() -> None:
    assert assemble("t", [replace(ROWS[0], text="\0 🎉 \ud800")], [], []).digest


@settings(deadline=None)
@given(traffic())
def test_the_rehearsal_holds_whole_groups_out(rows: list[Answered]) -> None:
    train = TrainSet(tuple(grouped(rows)))
    kept, apart = rehearsal_split(train)
    assert sorted([*kept.rows, *apart.rows], key=lambda row: row.position) == list(train.rows)
    assert not {row.group for row in kept.rows} & {row.group for row in apart.rows}
    assert bool(apart.rows) == bool(train.rows)


def test_the_rehearsal_holds_about_a_fifth_out_and_always_the_same() -> None:
    train = TrainSet(tuple(grouped(distinct(2_000))))
    kept, apart = rehearsal_split(train)
    assert len(apart.rows) == pytest.approx(400, abs=80)
    assert rehearsal_split(train) == (kept, apart)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([], Repeats(0, 0)),
        ([("a", "x"), ("b", "x")], Repeats(0, 0)),
        ([("a", "x"), ("a", "X."), ("a ", "y")], Repeats(2, 1)),
        ([("a", "x"), ("b", "x"), ("a", "y"), ("b", "x")], Repeats(2, 1)),
    ],
)
def test_repeats_are_pairs_of_answers_to_the_very_same_text(
    answers: list[tuple[str, str]], found: Repeats
) -> None:
    assert repeats(Answered(str(n), *pair) for n, pair in enumerate(answers)) == found
