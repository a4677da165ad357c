from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.money import Paid
from stillhouse.core.traffic import BrokenRow, Completion, LoggedCall, Message, Request, Tags
from stillhouse.logs import Position, detect, fingerprint, read
from stillhouse.logs.bodies import TAG_NAMES
from stillhouse.logs.pairs import read_pair

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
texts = st.text(max_size=40)
names = st.text(min_size=1, max_size=12)
counts = st.integers(0, 10**9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**62) | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "name"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@st.composite
def calls(draw: st.DrawFn) -> LoggedCall:
    """Any exchange that the native pair format can hold in OpenAI bodies."""
    tool = draw(st.just("") | names)
    return LoggedCall(
        line=1,
        request=Request(
            messages=tuple(
                Message(role, text)
                for role, text in draw(
                    st.lists(
                        st.tuples(st.sampled_from(["system", "user", "assistant"]), texts),
                        min_size=1,
                        max_size=4,
                    )
                )
            ),
            tools=tuple(draw(st.lists(names, max_size=3))),
            response_format=draw(st.sampled_from(["", "json_object", "json_schema:invoice"])),
        ),
        completion=Completion(
            text=draw(texts),
            tool=tool,
            tool_arguments=draw(texts) if tool else "",
            finish=draw(st.sampled_from(["stop", "length", "tool_calls"])),
        ),
        model=draw(names),
        dialect="openai",
        usage_body=draw(
            st.none()
            | st.fixed_dictionaries({"prompt_tokens": counts, "completion_tokens": counts})
        ),
        declared_id=draw(texts),
        at_us=draw(st.none() | st.integers(0, 4 * 10**15)),
        host=draw(texts),
        latency_ms=draw(st.none() | st.floats(0, 1e9)),
        reported_cost=draw(st.none() | st.integers(0, 10**15).map(Paid)),
        tags=Tags(*[draw(texts) for _ in TAG_NAMES]),
    )


def as_pair(call: LoggedCall) -> bytes:
    """Write a call as a gateway would log it."""
    completion, form = call.completion, call.request.response_format
    message: dict[str, Any] = {"role": "assistant", "content": completion.text}
    if completion.tool:
        function = {"name": completion.tool, "arguments": completion.tool_arguments}
        message["tool_calls"] = [{"type": "function", "function": function}]
    formats = {
        "json_object": {"type": "json_object"},
        "json_schema:invoice": {"type": "json_schema", "json_schema": {"name": "invoice"}},
    }
    cost, at = call.reported_cost, call.at_us
    row = {
        "id": call.declared_id,
        "request": {
            "messages": [{"role": m.role, "content": m.text} for m in call.request.messages],
            "tools": [{"type": "function", "function": {"name": n}} for n in call.request.tools],
            "response_format": formats.get(form),
        },
        "response": {
            "model": call.model,
            "choices": [{"message": message, "finish_reason": completion.finish}],
            "usage": call.usage_body,
        },
        "created_at": None if at is None else (EPOCH + timedelta(microseconds=at)).isoformat(),
        "host": call.host,
        "latency_ms": call.latency_ms,
        "cost_usd": None if cost is None else format(Decimal(cost.pico).scaleb(-12), "f"),
        "metadata": {name: getattr(call.tags, name) for name in TAG_NAMES},
    }
    return orjson.dumps(row)


@given(calls())
def test_what_is_logged_as_a_pair_is_read_back(call: LoggedCall) -> None:
    assert read_pair(orjson.loads(as_pair(call)), 1) == call


@given(
    st.sampled_from(
        [
            ("request",),
            ("request", "messages"),
            ("request", "tools"),
            ("request", "response_format"),
            ("response",),
            ("response", "choices"),
            ("response", "usage"),
            ("response", "model"),
            ("response", "service_tier"),
            ("created_at",),
            ("latency_ms",),
            ("cost_usd",),
            ("metadata",),
            ("headers",),
            ("id",),
        ]
    ),
    json_values,
)
@settings(max_examples=300)
def test_no_value_in_any_place_stops_the_reading(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, ...], value: object
) -> None:
    row: dict[str, Any] = {
        "request": {"messages": [{"role": "user", "content": "Hi"}]},
        "response": {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]},
    }
    good = orjson.dumps(row) + b"\n"
    *outer, last = place
    inside = row
    for name in outer:
        inside = inside[name]
    inside[last] = value
    path = tmp_path_factory.getbasetemp() / "spoilt.jsonl"
    path.write_bytes(good + orjson.dumps(row) + b"\n")
    first, second = read(path, detect(path))
    assert isinstance(first, LoggedCall)
    if isinstance(second, LoggedCall):
        assert all(type(m.text) is str for m in second.request.messages)
        assert type(second.model) is type(second.completion.text) is str
    else:
        assert second.reason


PAIR_ROW = (
    b'{"request": {"messages": [{"role": "user", "content": "%d"}]}, '
    b'"response": {"choices": [{"message": {"content": "hi"}}]}}\n'
)
FILES = {
    "pairs.jsonl": b"".join(PAIR_ROW % n for n in range(4)) + b"{broken\n\n" + PAIR_ROW % 9,
    "table.jsonl": b"".join(b'{"prompt": "%d", "answer": "x"}\n' % n for n in range(6)),
    "table.csv": (
        b'\xef\xbb\xbfprompt,answer\r\n"one\r\nline",x\r\n\r\n"b"bad,x\r\nlast,"y\nz"\r\nend,x'
    ),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("zipped", [False, True])
def test_reading_goes_on_from_any_position(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(FILES[name]) if zipped else FILES[name])
    found = detect(path)
    reader = read(path, found)
    rows, positions = [], [reader.position]
    for row in reader:
        rows.append(row)
        positions.append(reader.position)
    assert len(rows) >= 4
    assert positions[-1] == Position(len(FILES[name]), FILES[name].count(b"\n") + (name[-1] == "v"))
    for done, position in enumerate(positions):
        assert list(read(path, found, position)) == rows[done:]


def test_the_share_read_rises_to_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(PAIR_ROW % n for n in range(9_000)))
    reader = read(path, detect(path))
    shares = [reader.share_read for _ in reader]
    assert shares == sorted(shares)
    assert 0 < shares[len(shares) // 2] < 1
    assert reader.share_read == 1.0


def test_gzip_and_plain_agree(write: Any) -> None:
    for name, content in FILES.items():
        plain, zipped = write(content, name), write(content, f"{name}.gz")
        assert list(read(plain, detect(plain))) == list(read(zipped, detect(zipped)))


def test_lines_are_counted_from_one_with_blank_ones(write: Any) -> None:
    path = write(FILES["pairs.jsonl"])
    rows = list(read(path, detect(path)))
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 7]
    assert [isinstance(row, BrokenRow) for row in rows] == [False] * 4 + [True, False]


def test_a_fingerprint_is_the_hash_of_the_content(write: Any) -> None:
    content = FILES["pairs.jsonl"]
    assert fingerprint(write(content, "a")) == hashlib.sha256(content).hexdigest()
    assert fingerprint(write(content, "a")) == fingerprint(write(content, "b"))
