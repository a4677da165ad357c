"""Bodies that nobody writes by accident: none breaks the endpoint, none takes it up for long."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError, ProviderError
from stillhouse.dialects.assemble import assemble
from stillhouse.dialects.canonical import cache_key
from stillhouse.dialects.faults import error_body, stream_error, upstream_message
from stillhouse.dialects.hiding import Hider
from stillhouse.dialects.peek import LONGEST_NAME, peek, with_model, with_usage
from stillhouse.dialects.prompt import text_asked
from stillhouse.dialects.redact import redact_body
from stillhouse.dialects.seen import StreamEye, read_body
from stillhouse.dialects.sse import Splitter
from stillhouse.dialects.translate import Translation, translation
from stillhouse.dialects.unfold import text_answered
from stillhouse.providers.tokens import ShapeCounter
from stillhouse.testing.sockets import ScriptedSocket, answer

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

T = TypeVar("T")

TALKS = (Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES)

ASKED: dict[Wire, dict[str, Any]] = {
    Wire.CHAT: {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "t"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "file", "file": {"file_id": "f"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "r"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "max_tokens": 5,
        "n": 1,
        "stream": True,
        "stream_options": {"include_usage": False},
        "metadata": {"team": "x"},
    },
    Wire.MESSAGES: {
        "model": "m",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "t"},
                    {"type": "image", "source": {"type": "base64", "data": "AA"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "x", "signature": "s"},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c",
                        "content": [{"type": "text", "text": "r"}],
                    }
                ],
            },
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "stream": True,
    },
    Wire.RESPONSES: {
        "model": "m",
        "instructions": "i",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "t"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "x"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "reasoning": {"effort": "low"},
        "max_output_tokens": 9,
        "stream": True,
    },
}
ANSWERED: dict[Wire, dict[str, Any]] = {
    Wire.CHAT: {
        "id": "x",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "hi",
                    "reasoning_content": "r",
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    },
    Wire.MESSAGES: {
        "id": "x",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "x", "signature": "s"},
            {"type": "text", "text": "t"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 1, "server_tool_use": {"x": 1}},
    },
    Wire.RESPONSES: {
        "id": "r",
        "status": "completed",
        "model": "m",
        "output": [
            {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "t"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        ],
        "usage": {"input_tokens": 3, "output_tokens": 1},
    },
}
EVENTS: dict[Wire, list[dict[str, Any]]] = {
    Wire.CHAT: [
        {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"content": ""}}]},
        {"choices": [{"index": 0, "delta": {"content": "h", "reasoning_content": "q"}}]},
        {
            "choices": [
                {"delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}}
            ]
        },
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
    ],
    Wire.MESSAGES: [
        {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use"}},
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": "{}"},
        },
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "x"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ],
    Wire.RESPONSES: [
        {"type": "response.created", "response": {"id": "r", "model": "m", "output": []}},
        {"type": "response.output_item.added", "item": {"type": "message", "id": "m"}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "x"},
        {"type": "response.completed", "response": {"id": "r", "usage": {"input_tokens": 1}}},
    ],
}
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 1e308, 10**30, "", "x", "\0", "\ud800", "\u2028"),
    *([], {}, [None], [[]], [{}], {"type": "x"}, {"type": None}, [{"type": "text"}]),
    *([{"type": "text", "text": None}], "9" * 50, {"a": {"b": [1]}}, {"id": []}),
]
SNIPPETS = (b'"', b"\\", b"{", b"[", b"\0", b"\xff", b"\\ud800", b"1e999", b"NaN", b"\n", b"\r")


class Twister:
    """Twists bodies, the same way for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)

    def value(self, said: Any) -> Any:
        chance = self.chance
        if chance.random() < 0.15:
            return chance.choice(ODD)
        if isinstance(said, dict):
            kept = {n: v for n, v in said.items() if chance.random() > 0.05}
            told = {n: self.value(v) if chance.random() < 0.3 else v for n, v in kept.items()}
            if chance.random() < 0.1:
                told[chance.choice(["type", "role", "x", "\ud800", "index"])] = chance.choice(ODD)
            return told
        if isinstance(said, list):
            return [self.value(one) if chance.random() < 0.4 else one for one in said]
        return said

    def request(self, wire: Wire) -> bytes:
        """A request whose model and turns are there, so that most get past the peek."""
        said = self.value(ASKED[wire])
        said = said if isinstance(said, dict) else {}
        for name in ("model", "messages", "input"):
            if name in ASKED[wire] and self.chance.random() < 0.9:
                twisted = said.get(name)
                right = isinstance(twisted, type(ASKED[wire][name]))
                said[name] = twisted if right and name != "model" else ASKED[wire][name]
        return self.written(said)

    def written(self, said: Any) -> bytes:
        written = bytearray(json.dumps(said).encode())
        if self.chance.random() < 0.2 and len(written) > 20:
            at = self.chance.randrange(len(written) - 6)
            written[at : at + self.chance.randrange(6)] = self.chance.choice(SNIPPETS)
        return bytes(written)

    def stream(self, wire: Wire) -> Iterator[bytes]:
        end = self.chance.choice([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n"])
        events = [b"data: " + self.written(self.value(event)) + end for event in EVENTS[wire]]
        whole = b"".join(event for event in events if self.chance.random() < 0.9)
        cuts = sorted(self.chance.randrange(len(whole) + 1) for _ in range(4))
        for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            yield whole[start:stop]


def heard(story: Callable[..., T], *given: Any) -> T | None:
    """What comes of it; None where it fails in one of the ways in which it may."""
    try:
        return story(*given)
    except (CallerError, ProviderError):
        return None


@pytest.mark.parametrize("seed", range(12))
def test_no_twisted_request_upsets_what_reads_and_changes_it(seed: int) -> None:
    twist, passed = Twister(seed), 0
    for _ in range(60):
        for wire in TALKS:
            body = twist.request(wire)
            ask = heard(peek, body, wire)
            if ask is None:
                continue
            passed += 1
            assert len(ask.model) <= LONGEST_NAME
            assert ask.model.isprintable()
            heard(with_model, body, "other")
            if wire is Wire.CHAT:
                heard(with_usage, body)
            text_asked(body, wire)
            redact_body(body)
            heard(cache_key, body, wire, "t")
            for other in TALKS:
                turned = translation(wire, other)
                if turned is not None:
                    heard(turned.request, body, "m")
    assert passed > 60


@pytest.mark.parametrize("seed", range(12))
def test_no_twisted_answer_upsets_what_reads_and_translates_it(seed: int) -> None:
    twist = Twister(seed)
    for _ in range(25):
        for wire in TALKS:
            body = twist.written(twist.value(ANSWERED[wire]))
            read_body(body, wire)
            text_answered(body, wire)
            redact_body(body)
            upstream_message(body)
            for asking in TALKS:
                turned = translation(asking, wire)
                if turned is None:
                    continue
                asked = twist.request(asking)
                if heard(peek, asked, asking) is None:
                    continue

                heard(partial(turned.answer, body, "m", asked=asked, created=1))
                turned.error(500, body)
                heard(flowed, turned, asked, twist.stream(wire))


def flowed(turned: Translation, asked: bytes, pieces: Iterator[bytes]) -> list[bytes]:
    stream = turned.stream("m", asked=asked, created=1)
    return [*map(stream.feed, pieces), stream.end()]


@pytest.mark.parametrize("seed", range(12))
def test_no_twisted_stream_upsets_the_eye(seed: int) -> None:
    twist = Twister(seed)
    for _ in range(25):
        for wire in TALKS:
            for hides in (False, True):
                eye = StreamEye(wire, hide_usage=hides)
                for piece in twist.stream(wire):
                    eye.feed(piece)
                    assert eye.ended in (True, False)
                eye.rest()
                assert eye.end().model.isprintable()
                eye.text_seen()
                redact_body(eye.stream())
                with suppress(ValueError):
                    assemble(eye.stream(), wire)


@pytest.mark.parametrize("wire", list(Wire))
def test_an_error_can_always_be_told(wire: Wire) -> None:
    for sentence in ("\ud800", "\0\x1b[31m", "é\udfff", '"' * 99):
        json.loads(error_body(wire, 500, "k", sentence))
        assert stream_error(wire, 500, "k", sentence)


# What follows took minutes where each byte is looked at once for every byte before it.

LONG, BIT = 2**22, b"x" * 1024


def test_a_line_without_end_is_looked_at_once() -> None:
    splitter = Splitter()
    assert [event for _ in range(LONG // 1024) for event in splitter.feed(BIT)] == []
    assert [event for _ in range(LONG // 1024) for event in splitter.feed(b"data:" + BIT)] == []
    assert len(list(splitter.feed(b"\n\ndata: 1\n\n"))) == 1


def test_an_event_without_end_is_looked_at_once() -> None:
    hider, eye = Hider(), StreamEye(Wire.CHAT, hide_usage=False)
    assert hider.feed(b'data: {"x":"') == b""
    for _ in range(LONG // 1024):
        assert hider.feed(BIT) == b""
        eye.feed(BIT)
        assert not eye.ended
    assert len(hider.feed(b'"}\n\n')) > LONG
    eye.feed(b"x]\n\n")
    assert not eye.ended
    eye.feed(b"data: [DONE]\n\n")
    assert eye.ended


@pytest.mark.parametrize(
    "text",
    [
        b"a@" * 100_000,
        b"1 " * 100_000,
        b"1" * 200_000,
        b"-" * 200_000,
        b"\\" * 200_000,
        b'"' * 200_000,
        b'\\"' * 100_000,
        b"sk-" * 60_000,
        b"eyJ." * 50_000,
        b"data:a/b;" * 20_000,
        b"[" * 200_000,
        b"A1-" * 60_000,
        b"\n" * 200_000,
        "é".encode() * 100_000,
    ],
    ids=lambda text: text[:4].decode("utf-8", "replace"),
)
def test_no_text_keeps_its_readers_busy(text: bytes) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % text
    for one in (text, body, b"data: " + text + b"\n\n"):
        heard(peek, one, Wire.CHAT)
        redact_body(one)
        upstream_message(one)
        read_body(one, Wire.CHAT)
        eye = StreamEye(Wire.CHAT, hide_usage=True)
        eye.feed(one)
        eye.end()
    ShapeCounter().count(text.decode("utf-8", "replace"))


NESTINGS = (20, *range(880, 1000, 8), 3000, 100_000)
"""Some parsers give up near a depth of 1,000, each at its own."""


@pytest.fixture(scope="module")
def served(harbour: Harbour) -> Served:
    said = json.dumps(ANSWERED[Wire.CHAT]).encode()
    upstream = harbour.moor(ScriptedSocket([answer(said)]))
    place = f'base_url = "{upstream.url}/v1"\nallow_private = true\n'
    return harbour.serve(
        f"""
[upstreams.chat]
{place}
wires = ["chat"]
host = "openai"
[upstreams.messages]
{place}
wires = ["messages"]
host = "anthropic"
[models.chat]
upstream = "chat"
model = "gpt-5-mini"
[models.messages]
upstream = "messages"
model = "claude-sonnet-4-5"
[models.redacted]
upstream = "chat"
model = "gpt-5-mini"
recorded = "redacted"
cache_seconds = 60
[models."*"]
retries = 0
"""
    )


def statuses(served: Served, asked: Iterator[tuple[str, bytes]]) -> list[int]:
    caller = HTTPConnection("127.0.0.1", int(served.url.rpartition(":")[2]), timeout=20)
    found = []
    try:
        for path, body in asked:
            fields = {"authorization": f"Bearer {served.tokens['admin']}"}
            caller.request("POST", path, body, fields)
            with caller.getresponse() as said:
                json.loads(said.read())
                found.append(said.status)
    finally:
        caller.close()
    return found


@pytest.mark.parametrize("model", ["chat", "messages", "redacted"])
def test_no_depth_of_nesting_is_a_fault_of_ours(served: Served, model: str) -> None:
    def nested() -> Iterator[tuple[str, bytes]]:
        turn = b'"messages":[{"role":"user","content":%b}],"max_tokens":9'
        for depth in NESTINGS:
            deep = b"[" * depth + b"]" * depth
            begin = b'{"temperature":0,"model":"%b",' % model.encode()
            yield "/v1/chat/completions", begin + turn % b'"x"' + b',"x":' + deep + b"}"
            yield "/v1/chat/completions", begin + turn % deep + b"}"
            yield "/v1/messages", begin + turn % b'"x"' + b',"tools":' + deep + b"}"
            yield "/v1/messages/count_tokens", begin + turn % deep + b"}"
            yield "/v1/responses", begin + b'"input":' + deep + b"}"
            yield "/v1/embeddings", begin + b'"input":' + deep + b"}"
            yield "/admin/keys", b'{"name":' + deep + b"}"

    assert set(statuses(served, nested())) <= {200, 400, 502}


def test_nothing_odd_in_a_request_is_a_fault_of_ours(served: Served) -> None:
    def odd() -> Iterator[tuple[str, bytes]]:
        for model in (b"chat", b"messages", b"redacted"):
            for said in (
                b'"\\ud800 \\u0000 \\udfff"',
                b'"\xff\xfe"',
                b'"\xed\xa0\x80"',
                b"9" * 5000,
                b"1e999",
                b"-0.0",
                b'{"\\ud800":1}',
                b'[{"type":"text","text":"\\u0000"}]',
            ):
                turns = b'"messages":[{"role":"user","content":%b}],"max_tokens":9' % said
                for more in (b"", b',"stream":true', b',"stream":true,"stream_options":{}'):
                    body = b'{"model":"%b",%b%b}' % (model, turns, more)
                    yield "/v1/chat/completions", body
                    yield "/v1/messages", body.replace(b',"stream":true', b"")
        for body in (b"", b"\0", b"null", b"\xef\xbb\xbf{}", b"[]", b'"' * 99, b"{}{}"):
            yield "/v1/chat/completions", body
            yield "/v1/messages/count_tokens", body
            yield "/admin/keys", body

    def whole() -> Iterator[tuple[str, bytes]]:
        return ((path, body) for path, body in odd() if b'"stream"' not in body)

    assert set(statuses(served, whole())) <= {200, 400, 502}
    caller_says = b"authorization: Bearer %b\r\n" % served.token.encode()
    for path, body in odd():
        if b'"stream"' in body:
            said = served.say(
                b"POST %b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n%b"
                b"content-length: %d\r\n\r\n%b" % (path.encode(), caller_says, len(body), body)
            )
            assert said[9:12] in (b"200", b"400", b"502"), (body, said[:300])
