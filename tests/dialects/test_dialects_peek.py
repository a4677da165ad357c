"""What a request asks for, and the one member that is changed on its way."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.dialects.peek import _LONGEST_SHELL, _READERS, _SHELLS, peek, with_model, with_usage

TURN = '{"role":"user","content":"Hi"}'

# Strings that are hard on a byte splicer: quotes, backslashes, the very words it looks for.
HARD = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ['"model"', "model", '\\"model\\":', '{"model":"x"}', ',"model":"y"', "\\", '"']
    ),
    st.sampled_from(["stream_options", '"stream_options":{}', "é", "m\u006fdel", "\u2028", "\x00"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), HARD),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(HARD, st.just("model")), inner, max_size=3),
    ),
    max_leaves=8,
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """A chat body in some writer's style, and what it says."""
    said = draw(st.dictionaries(HARD, VALUES, max_size=5))
    said |= {"model": draw(HARD.filter(bool)), "messages": [draw(VALUES)]}
    order = draw(st.permutations(list(said)))
    style = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    text = json.dumps(
        {name: said[name] for name in order},
        ensure_ascii=draw(st.booleans()),
        separators=style,
        indent=draw(st.sampled_from([None, 2])),
    )
    return text.encode(), said


@given(bodies(), HARD.filter(bool))
def test_another_model_is_named_and_nothing_else_changes(
    body: tuple[bytes, dict[str, Any]], model: str
) -> None:
    sent, said = body
    changed = with_model(sent, model)
    assert json.loads(changed) == {**said, "model": model}
    old, new = (json.dumps(name, ensure_ascii=False) for name in (said["model"], model))
    if old.encode() in sent:  # written as this test writes strings: the other bytes are countable
        assert len(changed) - len(sent) == len(new.encode()) - len(old.encode())


@given(bodies(), st.sampled_from([None, {}, {"x": 1}, {"include_usage": False, "x": '"'}]))
def test_usage_is_asked_for_beside_the_callers_options(
    body: tuple[bytes, dict[str, Any]], options: dict[str, Any] | None
) -> None:
    sent, said = body
    said.pop("stream_options", None)
    if options is not None:
        said["stream_options"] = options
    sent = json.dumps(said).encode()
    asked = json.loads(with_usage(sent))
    assert asked == {**said, "stream_options": {**(options or {}), "include_usage": True}}


def test_usage_that_was_asked_for_leaves_the_body_as_it_is() -> None:
    body = b'{"model":"m","stream_options":{"include_usage":true}}'
    assert with_usage(body) is body


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"cheap","messages":[],"model":"dear"}',
        b'{"mod\\u0065l":"cheap","messages":[],"model":"dear"}',
        b'{"model":"cheap","messages":[],"mod\\u0065l":"dear"}',
        b'{"model":"dear","messages":[],"model":"dear"}',
    ],
)
def test_a_model_named_twice_is_sent_upstream_once(body: bytes) -> None:
    sent = with_model(body, "chosen")
    pairs = json.loads(sent, object_pairs_hook=list)
    assert [value for name, value in pairs if name == "model"] == ["chosen"]


@given(bodies())
def test_peeking_agrees_with_parsing(body: tuple[bytes, dict[str, Any]]) -> None:
    sent, said = body
    model = said["model"]
    if model.isprintable() and model == model.strip() and ".." not in model.split("/"):
        assert peek(sent, Wire.CHAT).model == model
    else:
        with pytest.raises(CallerError, match="the request's model is no name"):
            peek(sent, Wire.CHAT)


@given(st.binary(max_size=60), st.sampled_from(list(Wire)))
def test_no_bytes_break_it(body: bytes, wire: Wire) -> None:
    with contextlib.suppress(CallerError):
        assert peek(body, wire).wire is wire


@pytest.mark.parametrize("wire", list(Wire))
def test_whatever_is_valid_json_gives_an_answer_or_a_sentence(wire: Wire) -> None:
    odd: list[object] = [None, True, 0, -1, 1.5, 1e300, "9", [], {}, {"include_usage": 1}]
    for value in odd:
        members = ("stream", "n", "max_tokens", "max_output_tokens", "temperature", "metadata")
        extra = dict.fromkeys((*members, "service_tier", "stream_options"), value)
        ask = peek(json.dumps({"model": "m", "messages": [], **extra}).encode(), wire)
        assert ask.choices >= 1
        assert ask.stream is (value is True and wire in (Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES))


@pytest.mark.parametrize(
    ("wire", "members", "limit"),
    [
        (Wire.CHAT, {"max_tokens": 7}, 7),
        (Wire.CHAT, {"max_completion_tokens": 8}, 8),
        (Wire.CHAT, {"max_tokens": 7, "max_completion_tokens": 3}, 7),
        (Wire.CHAT, {"max_output_tokens": 5}, None),
        (Wire.MESSAGES, {"max_tokens": 0}, 0),
        (Wire.RESPONSES, {"max_output_tokens": 6, "max_tokens": 9}, 6),
        (Wire.CHAT, {"max_tokens": -1}, None),
        (Wire.CHAT, {"max_tokens": True}, None),
        (Wire.EMBEDDINGS, {"max_tokens": 4}, None),
    ],
)
def test_the_limit_is_each_formats_own(
    wire: Wire, members: dict[str, Any], limit: int | None
) -> None:
    body = json.dumps({"model": "m", "messages": [], **members}).encode()
    assert peek(body, wire).max_output_tokens == limit


@pytest.mark.parametrize(
    ("wire", "members", "same"),
    [
        (Wire.CHAT, {"temperature": 0}, True),
        (Wire.CHAT, {"temperature": 0.0, "seed": 1}, True),
        (Wire.CHAT, {"temperature": -0.0}, True),
        (Wire.CHAT, {"temperature": False}, False),
        (Wire.CHAT, {"seed": 1}, False),
        (Wire.MESSAGES, {"temperature": 1}, False),
        (Wire.RESPONSES, {"temperature": 0}, True),
        (Wire.EMBEDDINGS, {}, True),
        (Wire.DECISIONS, {}, True),
        (Wire.SYSTEMONE, {}, True),
    ],
)
def test_only_repeatable_requests_are_deterministic(
    wire: Wire, members: dict[str, Any], same: bool
) -> None:
    body = json.dumps({"model": "m", "messages": [], **members}).encode()
    assert peek(body, wire).deterministic is same


def test_a_chat_request_is_read() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:x"}}] * 2
    said = {
        "model": "m",
        "messages": [
            {"role": "user", "content": [*parts, {"type": "text", "text": '"image_url"'}]}
        ],
        "stream": True,
        "n": 3,
        "stream_options": {"include_usage": True},
        "service_tier": "flex",
        "metadata": {"team": "cards"},
    }
    ask = peek(json.dumps(said).encode(), Wire.CHAT)
    assert (ask.stream, ask.choices, ask.wants_usage, ask.service_tier) == (True, 3, True, "flex")
    assert (ask.images, ask.metadata) == (2, {"team": "cards"})


@pytest.mark.parametrize(
    ("wire", "part"),
    [
        (Wire.MESSAGES, {"type": "image", "source": {"type": "url", "url": "u"}}),
        (Wire.RESPONSES, {"type": "input_image", "image_url": "u"}),
        (Wire.DECISIONS, {"type": "input_image", "image_url": "u"}),
    ],
)
def test_pictures_are_counted(wire: Wire, part: dict[str, Any]) -> None:
    turns = [{"role": "user", "content": [part, part]}]
    body = json.dumps({"model": "m", "messages": turns, "input": []}).encode()
    assert peek(body, wire).images == 2


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "not JSON"),
        (b'{"model":', "not JSON"),
        (b"[1]", "JSON list"),
        (b"null", "JSON null"),
        (b'{"model":"m","messages":[NaN]}', "NaN"),
        (b'{"messages":[]}', "no model"),
        (b'{"model":7,"messages":[]}', "the model 7"),
        (b'{"model":"","messages":[]}', 'model is ""'),
        (b'{"model":"m"}', "no messages"),
        (b'{"model":"m","messages":"Hi"}', "JSON string as messages"),
        (b'{"model":"\xff","messages":[]}', "not UTF-8"),
        (b'{"model":"m","messages":' + b"[" * 50_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_routed_is_refused_in_a_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(CallerError, match=sentence):
        peek(body, Wire.CHAT)


def test_half_a_surrogate_pair_passes_through() -> None:
    body = b'{"model":"m","n":2,"messages":[{"role":"user","content":"\\ud83d"}]}'
    assert peek(body, Wire.CHAT).choices == 2
    assert b"\\ud83d" in with_model(body, "other")


def test_bytes_that_nobody_looks_at_stay_the_same() -> None:
    body = f' {{"model" : "m",\n"messages":[{TURN}], "n": 1.0, "x": 1E5, "x": 2}} \n'
    assert with_model(body.encode(), "big") == body.replace('"m"', '"big"').encode()


def told(body: bytes, wire: Wire) -> object:
    """What a peek says of a body, or the sentence with which it refuses it."""
    try:
        return peek(body, wire)
    except CallerError as wrong:
        return str(wrong)


def forget() -> None:
    for reader in _READERS.values():
        reader.known.clear()


KEYS = st.one_of(
    st.sampled_from(["model", "messages", "input", "max_tokens", "n", "metadata", "tools", "user"]),
    st.sampled_from(["Model", "N", "background", "temperature", "stream", "service_tier"]),
    st.sampled_from(["mod\\u0065l", "mess\\u0061ges", 'x\\"messages', "inp\\u0075t", "\u017f"]),
)
TALKS = st.sampled_from(
    [
        "[]",
        '""',
        '["x"]',
        '[ {"role": "user", "content": "Hi"} ]',
        '[{"model":"x","Model":"y","messages":["x"],"n":1}]',
        '"the \\"model\\" of \\"messages\\":[]"',
        '["\\ud83d"]',
        '[{"type":"image_url","image_url":{"url":"u"}}]',
        '[{"type" : "image"}, {"type":"input_image"}]',
        "[1e999]",
        "{}",
        "null",
        "7",
        "[oops]",
    ]
)
SMALL = st.one_of(
    TALKS,
    st.sampled_from(["0", "1", "true", '"m"', '"flex"', '"\\ud83d"', '{"include_usage":true}']),
    TALKS.map(lambda talk: f'{{"messages": {talk}, "input":{talk}}}'),
)
SPACES = st.sampled_from(["", " ", "\n\t"])
TALK = "@"


@st.composite
def shells(draw: st.DrawFn) -> str:
    """An object as some caller may write it, with a sign where its conversation goes."""
    members = draw(st.lists(st.tuples(KEYS, SMALL), max_size=4))
    members += [("model", '"gpt-6"'), (draw(st.sampled_from(["messages", "input"])), TALK)]
    before, behind = draw(SPACES), draw(SPACES)
    parts = [
        f'"{key}"{before}:{behind}{value}{before}' for key, value in draw(st.permutations(members))
    ]
    return "{" + ",".join(parts) + "}"


BEYOND = f"[{'9' * 5000}]"  # more digits than a closer look reads


@given(shells(), st.lists(TALKS, min_size=2, max_size=4), st.sampled_from(list(Wire)), st.data())
@example('{"messages":["x"],"model":"m","messages":@}', ["[]", '["x"]', "[]"], Wire.CHAT, None)
@example('{"a":{"messages":@},"model":"m","messages":[]}', ['["x"]', "[]"], Wire.CHAT, None)
@example('{"model":"m","messages":@}', ["[]", '""', "[]"], Wire.CHAT, None)
@example('{"a":{"input":@},"model":"m"}', ["[]", '["x"]'], Wire.RESPONSES, None)
@example('{"a":{"Model":1},"model":"m","messages":@}', ["[]", BEYOND], Wire.CHAT, None)
@example('{"model":"m","messages":@,"Model":"d"}', ["[]", "[1]"], Wire.CHAT, None)
def test_a_remembered_shell_says_what_a_first_look_says(
    shell: str, talks: list[str], wire: Wire, data: st.DataObject | None
) -> None:
    sent = [shell.replace(TALK, talk).encode() for talk in talks]
    if data is not None:  # and a near miss: one byte of it is another
        at = data.draw(st.integers(0, len(sent[0]) - 1))
        sign = data.draw(st.sampled_from([b'"', b"\\", b"[", b",", b" ", b"0", b"m"]))
        sent.append(sent[0][:at] + sign + sent[0][at + 1 :])
    first = []
    for body in sent:
        forget()
        first.append(told(body, wire))
    forget()
    assert [told(body, wire) for body in [*sent, *sent]] == first * 2


def test_what_was_said_of_a_shell_is_said_again_and_its_images_are_counted_anew() -> None:
    forget()
    image = {"type": "image_url", "image_url": {"url": "u"}}
    first, second, third = (
        json.dumps({"model": "m", "messages": turns, "n": 2}).encode()
        for turns in ([TURN], [image, image, TURN], [TURN * 9])
    )
    ask = peek(first, Wire.CHAT)
    assert peek(second, Wire.CHAT) == ask._replace(images=2)
    assert peek(third, Wire.CHAT) is ask
    assert len(_READERS[Wire.CHAT].known) == 1


def test_what_stands_where_a_conversation_might_is_no_conversation() -> None:
    """Further in is a member of that name: what is behind it tells two bodies apart."""
    forget()
    for model in ("cheap", "dear"):
        said: dict[str, object] = {"a": {"messages": []}, "model": model, "messages": ["x" * 30]}
        assert peek(json.dumps(said).encode(), Wire.CHAT).model == model
        further_in: dict[str, object] = {"a": {"input": []}, "model": model}
        assert peek(json.dumps(further_in).encode(), Wire.RESPONSES).model == model
    assert not _READERS[Wire.CHAT].known
    assert not _READERS[Wire.RESPONSES].known


def test_nothing_that_was_refused_is_remembered() -> None:
    forget()
    for members in ('"Model":"x"', '"background":true', '"\\u006eo":1'):
        for wire, key in ((Wire.CHAT, "messages"), (Wire.RESPONSES, "input")):
            told(f'{{"model":"m",{members},"{key}":[]}}'.encode(), wire)
            told(f'{{"model":"","{key}":[]}}'.encode(), wire)
    told(b'{"model":"m","messages":"Hi"}', Wire.CHAT)
    remembered = [shell for reader in _READERS.values() for shell in reader.known]
    assert remembered == [b'{"model":"m","background":true,"messages":[]}']  # chat knows no such


def test_only_so_many_shells_are_remembered_and_no_long_ones() -> None:
    forget()
    known = _READERS[Wire.CHAT].known
    for n in range(_SHELLS + 1):
        peek(b'{"model":"m","user":"%d","messages":[1]}' % n, Wire.CHAT)
    assert len(known) == 1
    peek(b'{"model":"m","user":"%s","messages":[1]}' % (b"x" * _LONGEST_SHELL), Wire.CHAT)
    peek(b'{"model":"m","messages" : 7, "mess\\u0061ges":[]}', Wire.CHAT)
    assert len(known) == 1


def test_messages_with_a_number_beyond_reason_are_refused_in_a_sentence() -> None:
    body = b'{"model": "m", "messages": {"a": %s}}' % (b"9" * 5000)
    with pytest.raises(CallerError, match="a JSON object as messages"):
        peek(body, Wire.CHAT)
