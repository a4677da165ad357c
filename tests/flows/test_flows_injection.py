"""Drift put into recorded rows is what was asked for, from where it was asked for, and no other."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import CallerError
from stillhouse.flows.injection import Injection, Kind, inject, mistyped, read_injection
from stillhouse.flows.replay import Recorded

LABELS = ("refund", "track", "cancel")


def row(number: int, label: str = "") -> Recorded:
    label = label or LABELS[number % 3]
    return Recorded(f"r{number}", None, f"please do the {label} number", label, None, None, "old")


ROWS = [row(number) for number in range(300)]


def changed(*injections: Injection, seed: int = 0) -> list[int]:
    """Numbers, from 1, of the rows that are not as they were."""
    found = inject(ROWS, injections, seed)
    return [n for n, pair in enumerate(zip(ROWS, found, strict=True), 1) if pair[0] != pair[1]]


@pytest.mark.parametrize(
    ("words", "kind", "share", "begins", "model"),
    [
        ("shift=0.3", Kind.TEXTS, 0.3, 0.5, ""),
        ("shift=texts:0.3@0.25", Kind.TEXTS, 0.3, 0.25, ""),
        ("shift=words:1@0", Kind.WORDS, 1.0, 0.0, ""),
        ("shift=labels:0.1@500", Kind.LABELS, 0.1, 500, ""),
        ("teacher=gpt-6@0.5", Kind.TEACHER, 1.0, 0.5, "gpt-6"),
        ("teacher=org/model", Kind.TEACHER, 1.0, 0.5, "org/model"),
    ],
)
def test_an_injection_is_read_as_it_is_written(
    words: str, kind: Kind, share: float, begins: float, model: str
) -> None:
    assert read_injection(words) == Injection(kind, share, begins, model)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("drift=0.3", "give shift=SHARE"),
        ("shift=verbs:0.3", "give shift=SHARE"),
        ("shift=teacher:0.3", "give shift=SHARE"),
        ("shift=texts", "whose share is 'texts'"),
        ("shift=nan", "whose share is 'nan'"),
        ("shift=0", "whose share is '0'"),
        ("shift=1.1", "more than 0 and at most 1"),
        ("shift=0.3@", "whose WHEN is ''"),
        ("shift=0.3@1.5", "whose WHEN is '1.5'"),
        ("shift=0.3@-3", "whose WHEN is '-3'"),
        ("shift=0.3@nan", "whose WHEN is 'nan'"),
        ("teacher=", "give shift=SHARE"),
        ("teacher=@0.5", "give shift=SHARE"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_remedy(words: str, sentence: str) -> None:
    with pytest.raises(CallerError, match=sentence):
        read_injection(words)


def test_a_share_and_a_rows_number_say_the_same_first_row() -> None:
    assert Injection(Kind.WORDS, 1.0, 0.5).first_row(300) == 151
    assert Injection(Kind.WORDS, 1.0, 151).first_row(300) == 151
    assert Injection(Kind.WORDS, 1.0, 0.0).first_row(300) == 1


def test_a_row_behind_the_last_one_is_refused() -> None:
    with pytest.raises(CallerError, match="would begin at row 301, and the replay has 300"):
        Injection(Kind.WORDS, 1.0, 301).first_row(300)


@pytest.mark.parametrize("kind", list(Kind))
def test_nothing_changes_before_the_first_row_and_a_share_of_one_changes_all_behind_it(
    kind: Kind,
) -> None:
    numbers = changed(Injection(kind, 1.0, 101, "new"))
    assert min(numbers) >= 101
    # A text of five words has a chance in 32 to be mistyped nowhere.
    assert len(numbers) == 200 if kind is not Kind.WORDS else len(numbers) > 170


@pytest.mark.parametrize("kind", [Kind.TEXTS, Kind.LABELS])
def test_a_share_changes_about_that_many(kind: Kind) -> None:
    assert 60 <= len(changed(Injection(kind, 0.3, 0.0))) <= 120


def test_labels_leave_the_text_and_texts_leave_the_label() -> None:
    for before, after in zip(ROWS, inject(ROWS, [Injection(Kind.LABELS, 1.0, 1)], 0), strict=True):
        assert after.text == before.text
        assert after.label in LABELS
        assert after.label != before.label
    for before, after in zip(ROWS, inject(ROWS, [Injection(Kind.TEXTS, 1.0, 1)], 0), strict=True):
        assert after.label == before.label
        assert before.label not in after.text


def test_another_teacher_leaves_the_answers() -> None:
    found = list(inject(ROWS, [Injection(Kind.TEACHER, 1.0, 300, "new")], 0))
    assert found == [*ROWS[:-1], ROWS[-1]._replace(teacher="new")]


def test_rows_of_one_label_cannot_be_exchanged_and_are_still_mistyped() -> None:
    same = [row(number, "refund") for number in range(9)]
    with pytest.raises(CallerError, match="every row has the same label"):
        list(inject(same, [Injection(Kind.TEXTS, 1.0, 1)], 0))
    assert len(list(inject(same, [Injection(Kind.WORDS, 1.0, 1)], 0))) == 9


def test_another_seed_changes_other_rows_and_the_same_seed_the_same() -> None:
    half = Injection(Kind.LABELS, 0.5, 1)
    assert changed(half, seed=1) == changed(half, seed=1)
    assert changed(half, seed=1) != changed(half, seed=2)


def test_what_else_is_injected_does_not_move_the_chances() -> None:
    half, teacher = Injection(Kind.LABELS, 0.5, 1), Injection(Kind.TEACHER, 1.0, 1, "new")
    alone = [one.label for one in inject(ROWS, [half], 0)]
    assert [one.label for one in inject(ROWS, [teacher, half], 0)] == alone


@given(st.text(max_size=60), st.integers(0, 100))
def test_mistyping_changes_single_letters_alone(text: str, seed: int) -> None:
    typed = mistyped(text, random.Random(seed))
    assert len(typed) == len(text)
    for word, new in zip(text.split(" "), typed.split(" "), strict=True):
        wrong = [pair for pair in zip(word, new, strict=True) if pair[0] != pair[1]]
        assert len(wrong) <= 1
        assert all(before.isalpha() and after.isascii() for before, after in wrong)
