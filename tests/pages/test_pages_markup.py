"""Text never becomes markup, and markup is well-formed."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.pages.markup import Markup, group, tag

TEXT = st.text(st.characters(exclude_categories=()), max_size=60)


@given(TEXT, TEXT)
def test_any_text_survives_a_strict_parser(content: str, attribute: str) -> None:
    written = tag("p", content, title=attribute)
    parsed = ElementTree.fromstring(written)
    assert len(parsed) == 0
    assert set(parsed.attrib) == {"title"}
    if (content + attribute).isprintable():
        assert (parsed.text or "") == content
        assert parsed.get("title") == attribute


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "a & b")) == "<p><b>a &amp; b</b></p>"


def test_markup_joined_to_text_by_hand_is_escaped_again() -> None:
    assert tag("p", tag("b", "x") + "<i>") == "<p>&lt;b&gt;x&lt;/b&gt;&lt;i&gt;</p>"


def test_parts_keep_their_order() -> None:
    assert group("<", Markup("<br/>"), ">") == "&lt;<br/>&gt;"
