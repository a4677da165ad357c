from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.distillation.duplicates import near_duplicate_groups

LETTER = (
    "Dear support, I ordered a blue kettle on the third of May and it has still not arrived. The "
    "tracking page says that it left your warehouse, but the courier knows nothing of it. Please "
    "tell me where it is, or send another one. Kind regards, {}"
)
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(["ja", "nein", "Where is my card?", "WHERE is  my card?"]),
        st.sampled_from(["Ann", "Bob", "Cleo"]).map(LETTER.format),
    ),
    max_size=12,
)


def together(*texts: str) -> bool:
    return len(set(near_duplicate_groups(texts))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is my card?", "Where is my card?"),
        ("Where is my card?", "  where IS\tmy\ncard? "),
        ("ok", "OK "),
        ("", "  "),
        (LETTER.format("Ann"), LETTER.format("Bob")),
        (LETTER.format("Ann"), LETTER.format("Ann").replace("kettle", "kettles")),
    ],
)
def test_texts_that_say_nearly_the_same_share_a_group(one: str, other: str) -> None:
    assert together(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is my card?", "I lost my phone"),
        ("Where is my card?", "Where is my refund?"),
        ("yes", "no"),
        ("yes", "yes!"),
        ("", "a"),
        ("I want to top up my account", "I want to close down my account"),
        (LETTER.format("Ann"), LETTER.format("Ann")[: len(LETTER) // 2]),
    ],
)
def test_texts_that_say_something_else_do_not(one: str, other: str) -> None:
    assert not together(one, other)


def test_a_chain_of_near_duplicates_is_one_group() -> None:
    words = LETTER.split()
    drifting = [" ".join(words[n:] + ["again"] * n) for n in range(4)]
    assert together(*drifting)


def test_groups_are_numbered_in_the_order_of_their_first_texts() -> None:
    texts = ["b question?", "a question!", "B QUESTION?", "third thing", "a question!"]
    assert near_duplicate_groups(texts) == [0, 1, 0, 2, 1]


def test_no_texts_make_no_groups() -> None:
    assert near_duplicate_groups([]) == []


@settings(deadline=None)
@given(TEXTS)
def test_equal_texts_always_share_a_group_and_every_text_has_one(texts: list[str]) -> None:
    groups = near_duplicate_groups(texts)
    assert len(groups) == len(texts)
    assert sorted(set(groups)) == list(range(len(set(groups))))
    home: dict[str, int] = {}
    for text, group in zip(texts, groups, strict=True):
        assert home.setdefault(" ".join(text.lower().split()), group) == group


@settings(deadline=None)
@given(TEXTS)
def test_a_text_of_other_words_after_them_changes_no_group(texts: list[str]) -> None:
    other = "an entirely unrelated remark about gardening in winter"
    assert near_duplicate_groups([*texts, other])[:-1] == near_duplicate_groups(texts)


def test_near_duplicates_are_found_however_many_texts_stand_between_them() -> None:
    between = [f"question {n * 7919} about item {n * 104_729}" for n in range(200)]
    groups = near_duplicate_groups([LETTER.format("Ann"), *between, LETTER.format("Bob")])
    assert groups[0] == groups[-1]
    assert groups.count(groups[0]) == 2


def test_thousands_of_different_texts_stay_apart() -> None:
    texts = [f"question {n * 7919} about item {n * 104_729} in hall {n * 31}" for n in range(3_000)]
    assert len(set(near_duplicate_groups(texts))) > 2_900
