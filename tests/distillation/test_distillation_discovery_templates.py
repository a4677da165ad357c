from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.distillation.templates import BARE, NUMBER, families, fixed, induce, masked, tokens

SAID = [
    "Where is my parcel?",
    "the lamp is broken",
    "I was charged twice, please help",
    "Can you deliver to a boat?",
    "Thanks for nothing",
    "my code does not work!",
    "Is the oven loud",
    "Wrong size. Again.",
]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("Sort this mail: {}", "Sort this mail: {text}"),
        ("{}\n\nAnswer yes or no.", "{text}\n\nAnswer yes or no."),
        ("Mail:\n{}\n--\nDesk:", "Mail:\n{text}\n--\nDesk:"),
        ('Sort """{}""" now', 'Sort """{text}""" now'),
        ("Answer in 2 words.\nMail: {}", "Answer in 2 words.\nMail: {text}"),
        ("{}", "{text}"),
    ],
)
def test_constant_parts_make_the_template_and_the_rest_is_the_slot(form: str, text: str) -> None:
    template = induce([form.format(said) for said in SAID])
    assert template.text == text
    assert [template.slot(form.format(said)) for said in SAID] == SAID


@pytest.mark.parametrize(
    "opening",
    ["Ticket {}: ", "Case AB-{}/7 of 2026-04-{:02d}\n", "On {1:d} March 2026, no. {0} said:\n"],
)
def test_numbers_dates_and_ids_that_vary_belong_to_the_template(opening: str) -> None:
    texts = [opening.format(4000 + 7 * i, i + 1) + said for i, said in enumerate(SAID)]
    template = induce(texts)
    assert template.slot(opening.format(1, 28) + "anything else") == "anything else"
    assert "#" in template.text


def test_several_slots_are_joined_by_line_breaks() -> None:
    texts = [f"Name: {a}\nComplaint: {b}\nEnd" for a, b in zip(SAID, SAID[::-1], strict=True)]
    template = induce(texts)
    assert template.text == "Name: {text}\nComplaint: {text}\nEnd"
    assert template.slot("Name: Jo\nComplaint: too late\nEnd") == "Jo\ntoo late"


def test_one_text_in_ten_may_look_different() -> None:
    texts = [f"Mail: {said} {i % 3}" for i, said in enumerate(SAID * 3)]
    template = induce([*texts, "something else"])
    assert template.slot("Mail: x") == "x"
    assert template.slot("something else") is None


def test_where_only_the_numbers_vary_the_numbers_are_the_slot() -> None:
    template = induce([f"What is {i} plus {i * 7}?" for i in range(9)])
    assert template.slot("What is 12 plus 30?") == "12 plus 30?"


def test_marks_that_end_a_sentence_belong_to_the_slot() -> None:
    texts = [f"Mail: <<{said.rstrip('.?!')}.>>" for said in SAID]
    assert induce(texts).slot("Mail: <<Really?>>") == "Really?"


def test_too_few_different_texts_have_no_template() -> None:
    assert induce(["Mail: a", "Mail: b"] * 20) is BARE


def test_a_sign_that_also_stands_for_numbers_is_no_number() -> None:
    texts = [f'Drop the label "#" from 12 of this: {said}' for said in SAID]
    assert [induce(texts).slot(text) for text in texts] == SAID


def test_a_fixed_template_fits_its_text_with_other_numbers_and_no_other() -> None:
    template = fixed("Prompt 1.2 of 3 May 2026:\nbe kind")
    assert template.slot("Prompt 1.3 of 14 June 2026:\n\nbe kind ") == ""
    assert template.slot("Prompt 1.3 of 14 June 2026: be rude") is None


@given(st.lists(st.text(max_size=60), max_size=30), st.text(max_size=60))
def test_any_texts_have_a_template_and_no_text_breaks_it(texts: list[str], other: str) -> None:
    slot = induce(texts).slot(other)
    assert slot is None or len(slot) <= len(other)


@given(st.text(max_size=60))
def test_masking_twice_changes_nothing(text: str) -> None:
    assert masked(masked(text)) == masked(text)


def test_texts_are_sorted_by_the_instructions_they_open_or_close_with() -> None:
    texts = [
        *(f"Which desk takes this mail:\n{said}" for said in SAID),
        *(f"{said}\n\nIs the mail above about money?" for said in SAID),
        *SAID,
    ]
    assert sorted(families(texts)) == [list(range(8)), list(range(8, 16))]


def test_instructions_that_begin_alike_are_two_families() -> None:
    texts = [
        f"Read the customer's mail and name the {what}:\n{said}"
        for what in ("desk", "mood")
        for said in SAID
    ]
    assert sorted(families(texts)) == [list(range(8)), list(range(8, 16))]


def test_people_who_begin_alike_make_no_family() -> None:
    assert families([f"Hi, I have a question. {said}" for said in SAID[:4]] + SAID) == []


@given(st.text(st.sampled_from("a1_-./:, \u0661\u00e9"), max_size=14))
def test_a_number_is_matched_in_one_way_and_is_no_other_than_it_was(text: str) -> None:
    several_ways = re.compile(r"\w*\d\w*(?:[-./:,]\w*\d\w*)*")
    numbers = [text[t.start : t.end] for t in tokens(text) if t.key == NUMBER]
    assert numbers == several_ways.findall(text)
