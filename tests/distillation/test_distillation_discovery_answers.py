from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.learning import AnswerShape
from stillhouse.core.traffic import Completion
from stillhouse.distillation.answers import (
    MOST_ANSWERS,
    AnswerSpace,
    AnswerTally,
    normalise_label,
    read_answer,
)


def tally(*texts: str, tools: tuple[str, ...] = ()) -> AnswerTally:
    counted = AnswerTally()
    for text in texts:
        counted.add(read_answer(Completion(text=text)))
    for tool in tools:
        counted.add(read_answer(Completion(tool=tool)))
    return counted


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("card arrival", "card arrival"),
        ("Card_Arrival", "card arrival"),
        ("  card   arrival\n", "card arrival"),
        ('"card arrival."', "card arrival"),
        ("**card arrival**", "card arrival"),
        ("«Straße»!", "strasse"),
        ("ＹＥＳ。", "yes"),
        ("reverted card payment?", "reverted card payment"),
        ("+", "+"),
        ("?", "?"),
        ("", ""),
    ],
)
def test_a_label_is_written_one_way(written: str, label: str) -> None:
    assert normalise_label(written) == label


@given(st.text(max_size=40))
def test_a_normalised_label_stays_as_it_is(text: str) -> None:
    assert normalise_label(normalise_label(text)) == normalise_label(text)


@given(st.text(max_size=30), st.sampled_from(['"{}"', " {}. ", "{}\n", "`{}`"]))
def test_wrapping_a_label_does_not_change_it(text: str, wrapping: str) -> None:
    plain = normalise_label("a" + text + "b")
    assert normalise_label(wrapping.format("a" + text + "b")) == plain


@pytest.mark.parametrize(
    ("completion", "shape"),
    [
        (Completion(text="Refund."), AnswerShape.LABELS),
        (Completion(text='{"a": 1}'), AnswerShape.FIELDS),
        (Completion(text='```json\n{"a": 1}\n```'), AnswerShape.FIELDS),
        (Completion(text='{"a": 1'), AnswerShape.LABELS),
        (Completion(text='["a"]'), AnswerShape.LABELS),
        (Completion(text="One line.\nAnother."), AnswerShape.TEXT),
        (Completion(text="word " * 40), AnswerShape.TEXT),
        (Completion(text="I look it up", tool="search"), AnswerShape.TOOL),
    ],
)
def test_an_answer_is_read_by_its_form(completion: Completion, shape: AnswerShape) -> None:
    assert read_answer(completion).shape is shape


def test_records_with_other_spaces_and_key_order_are_the_same_answer() -> None:
    one, other = (Completion(text='{"a": 1, "b": "x"}'), Completion(text='{"b":"x","a":1}'))
    assert read_answer(one).value == read_answer(other).value


def test_a_label_set_is_found_despite_stray_answers() -> None:
    strays = ["I am not sure about this one.\nCould be both.", "spam or ham", "none of them"]
    space = tally(*["Spam", "ham."] * 48, *strays).space("")
    assert space == AnswerSpace(AnswerShape.LABELS, ("ham", "spam"))


def test_a_rare_label_counts_if_the_prompt_names_it() -> None:
    answers = tally(*["spam", "ham"] * 20, "needs a person")
    assert answers.space("").labels == ("ham", "spam")
    for prompt in ("spam, ham or needs_a_person.", "Say:\n- spam\n- ham\n- Needs a person - rare"):
        assert answers.space(prompt).labels == ("ham", "needs a person", "spam")


@pytest.mark.parametrize(
    "texts",
    [
        [f"title number {i} of many" for i in range(50)],
        ["yes"] * 30 + ["It depends on the weather.\nAsk again."] * 10,
        ["yes"] * 30 + [f"maybe {i}" for i in range(12)],
        [""] * 30,
        [],
    ],
)
def test_open_answers_are_text(texts: list[str]) -> None:
    assert tally(*texts).space("").shape is AnswerShape.TEXT


def test_fields_come_with_their_share_and_in_the_order_they_are_written() -> None:
    records = ['{"vendor": "A", "total": 1}'] * 15 + [
        '{"vendor": "B", "due": null, "total": 2}'
    ] * 5
    space = tally(*records, '{"oddity": 1}', "no document").space("")
    assert space.shape is AnswerShape.FIELDS
    assert list(space.presence) == ["vendor", "total", "due"]
    assert space.presence["due"] == pytest.approx(5 / 21)


def test_a_task_that_mostly_calls_tools_has_the_tools_as_labels() -> None:
    space = tally("Hello!", tools=("book", "search", "book")).space("")
    assert space == AnswerSpace(AnswerShape.TOOL, ("book", "search"))


def test_answers_beyond_the_limit_are_no_label_set_and_are_let_go() -> None:
    answers = tally(*(f"answer {i}" for i in range(MOST_ANSWERS + 1)), *["yes"] * 10)
    assert answers.space("").shape is AnswerShape.TEXT
    assert not answers.labels


@pytest.mark.parametrize(
    ("texts", "space", "share"),
    [
        (["yes", "no", "perhaps"], AnswerSpace(AnswerShape.LABELS, ("no", "yes")), 2 / 3),
        (['{"a": 1}', '{"b": 1}'], AnswerSpace(AnswerShape.FIELDS, presence={"a": 1.0}), 1 / 2),
        (["yes"] * 9, AnswerSpace(AnswerShape.TEXT), 0.0),
        (["once", "upon", "a time"], AnswerSpace(AnswerShape.TEXT), 1.0),
        ([], AnswerSpace(AnswerShape.LABELS, ("no", "yes")), 0.0),
    ],
)
def test_answers_are_held_against_another_answer_space(
    texts: list[str], space: AnswerSpace, share: float
) -> None:
    assert tally(*texts).share_within(space) == pytest.approx(share)
