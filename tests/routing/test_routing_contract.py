from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.serving import InputRange
from stillhouse.routing.contract import in_range, learnt_range, scripts_of

LEARNT = InputRange(longest=20, scripts=("latin",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("Where is my card?", ("latin",)),
        ("4411 !? €", ()),
        ("Où est ma carte – déjà?", ("latin",)),
        ("Где карта?", ("cyrillic",)),
        ("我的卡在哪里", ("han",)),
        ("カードはどこ 東京", ("han", "hiragana", "katakana")),
        ("카드", ("hangul",)),
        ("أين بطاقتي", ("arabic",)),
        ("כרטיס", ("hebrew",)),
        ("मेरा कार्ड", ("devanagari",)),
        ("บัตรของฉัน", ("thai",)),
        ("Η κάρτα", ("greek",)),
        ("ｃａｒｄ ﾊﾝｶｸ", ("katakana", "latin")),
        ("café e\u0301", ("latin",)),
        ("5 µ, 3ª, №, ℃", ()),
        ("👍🏽 ½ ² ⅷ", ()),
        ("card Карта", ("cyrillic", "latin")),
        ("\u02bcn pеrson", ("cyrillic", "latin")),  # the second e is a Cyrillic one
    ],
)
def test_letters_tell_the_writing_system(text: str, expected: tuple[str, ...]) -> None:
    assert scripts_of(text) == expected


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_joined_text_holds_the_writing_systems_of_its_parts(first: str, then: str) -> None:
    assert set(scripts_of(first + then)) == {*scripts_of(first), *scripts_of(then)}
    assert list(scripts_of(first)) == sorted(set(scripts_of(first)))


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_text_is_latin_where_it_holds_a_letter(text: str) -> None:
    assert scripts_of(text) == (("latin",) if any(map(str.isalpha, text)) else ())


@given(st.lists(st.text(max_size=40), min_size=1, max_size=99))
def test_every_row_learnt_from_may_be_asked_about(texts: list[str]) -> None:
    learnt = learnt_range(texts)
    assert [in_range(learnt, text, images=False, tools=False) for text in texts] == [""] * len(
        texts
    )


@pytest.mark.parametrize(
    ("text", "images", "tools", "reason"),
    [
        ("My card?", False, False, ""),
        ("1234567890 1234567890", False, False, "longer than anything learnt from"),
        ("12345678901234567890", False, False, ""),
        ("Карта", False, False, "written in cyrillic"),
        ("Карта 卡 card", False, False, "written in cyrillic and han"),
        ("My card?", True, False, "carries images, none were learnt from"),
        ("My card?", False, True, "carries tools, none were learnt from"),
    ],
)
def test_what_lies_outside_is_named(text: str, images: bool, tools: bool, reason: str) -> None:
    assert in_range(LEARNT, text, images, tools) == reason


def test_images_and_tools_may_be_asked_about_once_learnt_from() -> None:
    learnt = learnt_range(["My card?"], images=True, tools=True)
    assert in_range(learnt, "My card?", images=True, tools=True) == ""
    assert in_range(learnt, "My card?", images=False, tools=False) == ""


def test_nothing_learnt_lets_nothing_through() -> None:
    assert learnt_range([]) == InputRange()
    assert (
        in_range(InputRange(), "a", images=False, tools=False) == "longer than anything learnt from"
    )


def test_a_writing_system_of_a_stray_row_is_not_learnt() -> None:
    texts = ["Where is my card?"] * 199
    assert learnt_range([*texts, "Где карта?"]).scripts == ("latin",)
    assert learnt_range([*texts[:90], "Где карта?"]).scripts == ("cyrillic", "latin")
