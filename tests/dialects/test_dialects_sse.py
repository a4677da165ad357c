"""Events out of bytes, however those were cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.dialects.sse import Event, Splitter, encode, events

LINES = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b"data",
        b"data:  two spaces",
        b"event: ping",
        b"event:",
        b": comment",
        b"id: 7",
        b"id: \x00",
        b"retry: 10",
        b"unknown: field",
        "data: \u00fc\u2028".encode(),
        b"",
        b"",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(LINES, ENDS), max_size=20))
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return bom + b"".join(line + end for line, end in lines)


@given(streams(), st.lists(st.integers(0, 200), max_size=8))
def test_any_cutting_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    splitter = Splitter()
    found: list[Event] = []
    at = 0
    for cut in sorted(min(cut, len(stream)) for cut in cuts):
        found += splitter.feed(stream[at:cut])
        at = cut
    found += splitter.feed(stream[at:])
    found += splitter.end()
    assert found == events(stream)


@given(streams())
def test_byte_by_byte_gives_the_same_events(stream: bytes) -> None:
    splitter = Splitter()
    found = [event for byte in stream for event in splitter.feed(bytes([byte]))]
    assert [*found, *splitter.end()] == events(stream)


@given(
    st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"), max_size=9),
    st.lists(st.binary(max_size=9).filter(lambda line: not {10, 13} & set(line)), min_size=1),
)
def test_what_is_written_is_read_back(name: str, lines: list[bytes]) -> None:
    name = name.removeprefix(" ")
    data = b"\n".join(lines)
    assert events(encode(name, data)) == [Event(name, data)]


@given(st.one_of(streams(), st.binary(max_size=9)))
def test_an_event_alone_is_read_as_one_among_others(stream: bytes) -> None:
    alone = b"data: %s\n\n" % stream
    assert events(alone) == events(b": comment\n" + alone)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_understood(end: bytes) -> None:
    stream = end.join([b"event: a", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""])
    assert events(stream) == [Event("a", b"1\n2"), Event("", b"3")]


def test_an_event_whose_blank_line_is_missing_comes_at_the_end() -> None:
    splitter = Splitter()
    assert list(splitter.feed(b"data: [DONE]")) == []
    assert list(splitter.end()) == [Event("", b"[DONE]")]
    assert list(splitter.end()) == []


def test_comments_and_events_without_data_are_none() -> None:
    assert events(b": OPENROUTER PROCESSING\n\nevent: ping\n\n\n\ndata:\n\n") == [Event("", b"")]
