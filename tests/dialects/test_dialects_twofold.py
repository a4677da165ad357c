"""Members that count twice, or stand there in other letters: found wherever the object is long."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.dialects.peek import peek
from stillhouse.dialects.twofold import refuse_twofold, shell_of

NAMES = st.sampled_from(
    ["model", "Model", "n", "N", "max_tokens", "MAX_tokens", "background", "messages", "user"]
)
TEXTS = st.one_of(
    NAMES,
    st.text(max_size=6),
    st.sampled_from(['"messages":', 'x"messages', '[{"model"', '"],"model":"x"', "\\", "\u017f"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(0, 9), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
MEMBERS = st.lists(st.tuples(st.one_of(NAMES, TEXTS), VALUES), max_size=5)
DECODE = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def written(members: list[tuple[str, object]], colon: str = ":") -> bytes:
    """An object with all these members, also where one of them comes twice."""
    parts = [json.dumps(name) + colon + json.dumps(value) for name, value in members]
    return ("{" + ",".join(parts) + "}").encode()


def is_refused(body: bytes, shell: bytes = b"") -> bool:
    try:
        refuse_twofold(body, shell)
    except CallerError:
        return True
    return False


@given(MEMBERS, VALUES, MEMBERS, st.sampled_from([":", " : ", ":\n\t"]))
@example([("a", {"messages": ["x"]})], ["x"], [("Model", 1)], ":")
@example([('x"messages', ["x"])], ["x"], [("model", 1), ("model", 2)], ":")
@example([], "Model", [("MAX_tokens", 1)], ":")
@example([("user", '"messages":["x"]')], ["x"], [("n", 1), ("n", 2)], ":")
def test_leaving_the_long_member_out_changes_no_verdict(
    before: list[tuple[str, object]], value: object, after: list[tuple[str, object]], colon: str
) -> None:
    body = written([*before, ("messages", value), *after], colon)
    raw = bytes(DECODE(body)["messages"])
    assert is_refused(body, shell_of(body, b'"messages"', raw)) is is_refused(body)


@pytest.mark.parametrize("value", ["7", "123", "null", '{"a": 1}', "true"])
def test_what_does_not_say_where_it_ends_is_not_cut_out(value: str) -> None:
    body = f'{{"model": "m", "input": {value}}}'.encode()
    assert shell_of(body, b'"input"', value.encode()) is body


@pytest.mark.parametrize("name", ["Max_tokens", "max_Completion_tokens", "MAX_OUTPUT_tokens"])
def test_a_limit_in_other_letters_is_refused_also_alone(name: str) -> None:
    assert is_refused(written([("model", "m"), (name, 9)]))


@pytest.mark.parametrize(
    ("wire", "member"),
    [
        (Wire.CHAT, "messages"),
        (Wire.MESSAGES, "messages"),
        (Wire.RESPONSES, "input"),
        (Wire.EMBEDDINGS, "input"),
    ],
)
@pytest.mark.parametrize("value", [[{"content": '"model"', "n": 1, "N": 2, "model": "x"}], []])
def test_a_second_model_is_refused_on_both_sides_of_a_long_member(
    wire: Wire, member: str, value: object
) -> None:
    said: list[tuple[str, object]] = [("model", "cheap"), (member, value)]
    assert peek(written(said), wire).model == "cheap"
    for twice in ([*said, ("model", "dear")], [("MODEL", "dear"), *said]):
        with pytest.raises(CallerError, match="names model twice"):
            peek(written(twice), wire)


@pytest.mark.parametrize("text", ["Hi", 'the "model" of "n" tokens"', ""])
def test_a_text_as_input_hides_no_second_model(text: str) -> None:
    said: list[tuple[str, object]] = [("model", "cheap"), ("input", text)]
    assert peek(written(said), Wire.RESPONSES).model == "cheap"
    with pytest.raises(CallerError, match="names model twice"):
        peek(written([*said, ("Model", "dear")]), Wire.RESPONSES)
