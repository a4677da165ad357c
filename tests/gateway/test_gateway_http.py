from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import (
    CallerError,
    ConfigError,
    ProviderError,
    StillhouseError,
    StoreError,
)
from stillhouse.gateway.app import Limits
from stillhouse.gateway.door import Door, MisdirectedError
from stillhouse.gateway.http import Answer, Handler, Question, RefusedError, Table
from stillhouse.gateway.keys import KeyRing, make_key
from stillhouse.gateway.other import Other

KEY, TOKEN = make_key("rosa", 0)
OPEN = Door(KeyRing(), lambda: 0, lambda: True)
SHUT = Door(KeyRing([KEY]), lambda: 0, lambda: False)


async def nothing(asked: Question) -> Answer:
    return Answer.of({})


def answering(content: object) -> Handler:
    async def handler(asked: Question) -> Answer:
        return Answer.of(content)

    return handler


TABLE = Table(
    {
        ("GET", "/things"): answering("list"),
        ("POST", "/things"): answering("make"),
        ("GET", "/things/*"): answering("one"),
        ("DELETE", "/things/*"): answering("drop"),
        ("GET", "/things/own/*"): answering("own"),
    }
)


@pytest.mark.parametrize(
    ("method", "path", "content", "rest"),
    [
        ("GET", "/things", "list", ""),
        ("HEAD", "/things", "list", ""),
        ("POST", "/things", "make", ""),
        ("GET", "/things/7", "one", "7"),
        ("GET", "/things/a/b", "one", "a/b"),
        ("DELETE", "/things/7", "drop", "7"),
        ("GET", "/things/own/7", "own", "7"),
    ],
)
def test_a_handler_is_found_by_method_and_the_longest_path(
    method: str, path: str, content: str, rest: str
) -> None:
    handler, left, _ = TABLE.find(method, path)
    assert handler is not None
    answer = asyncio.run(_called(handler))
    assert (json.loads(answer.body), left) == (content, rest)


async def _called(handler: Handler) -> Answer:
    return await handler(Question("GET", "/", b"", [], b""))


@pytest.mark.parametrize(
    ("method", "path", "methods"),
    [
        ("PUT", "/things", ("GET", "POST")),
        ("PUT", "/things/7", ("DELETE", "GET")),
        ("GET", "/things/", ()),
        ("GET", "/", ()),
        ("GET", "/thing", ()),
    ],
)
def test_what_is_not_served_says_what_is(method: str, path: str, methods: tuple[str, ...]) -> None:
    assert TABLE.find(method, path) == (None, TABLE.find(method, path)[1], methods)


def test_values_of_a_query_are_read_once_and_decoded() -> None:
    asked = Question("GET", "/", b"by=day&by=model&q=a%20b&empty=", [], b"")
    assert (asked.asked("by"), asked.asked("q"), asked.asked("none", "x")) == ("day", "a b", "x")
    assert asked.asked("empty", "x") == ""


@pytest.mark.parametrize("query", [b"\xff", b"&".join(b"a=1" for _ in range(40))])
def test_a_query_that_cannot_be_read_is_the_callers_fault(query: bytes) -> None:
    with pytest.raises(CallerError, match="query string"):
        Question("GET", "/", query, [], b"").asked("a")


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b"null", b"\xff"])
def test_a_body_that_is_no_object_is_the_callers_fault(body: bytes) -> None:
    with pytest.raises(CallerError, match="body is"):
        Question("POST", "/", b"", [], body).json()


def test_a_question_prints_without_headers_and_body() -> None:
    asked = Question("GET", "/x", b"", [(b"authorization", b"Bearer sh-secret")], b"sh-secret")
    assert "secret" not in repr(asked)


class Exchange:
    """One request over ASGI, and what was answered."""

    def __init__(self, *messages: dict[str, Any], hangs: bool = False) -> None:
        self._messages, self._hangs = list(messages), hangs
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        if self._hangs:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def whole(body: bytes = b"") -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": False}


def scope(method: str, path: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": list(headers)}


def served(
    handler: Callable[[Question], Awaitable[Answer]],
    exchange: Exchange,
    method: str = "POST",
    path: str = "/things",
    *headers: tuple[bytes, bytes],
) -> Exchange:
    other = Other({(method, "/things"): handler}, Limits(100, 0.01), OPEN)
    asyncio.run(other(scope(method, path, *headers), exchange.receive, exchange.send))
    return exchange


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (RefusedError(403, "not yours"), 403),
        (CallerError("not like this"), 400),
        (MisdirectedError("not here"), 421),
        (ConfigError("not set"), 500),
        (StoreError("not now"), 503),
        (ProviderError("not there"), 502),
    ],
)
def test_each_kind_of_failure_has_its_status(fault: StillhouseError, status: int) -> None:
    async def fails(asked: Question) -> Answer:
        raise fault

    exchange = served(fails, Exchange(whole()))
    assert exchange.status == status
    assert json.loads(exchange.body)["error"]["message"] == str(fault)
    assert exchange.headers[b"content-length"] == b"%d" % len(exchange.body)


def test_a_body_that_stays_away_is_given_up() -> None:
    begun = {"type": "http.request", "body": b"{", "more_body": True}
    assert served(nothing, Exchange(begun, hangs=True)).status == 408


def test_a_caller_that_goes_is_told_nothing() -> None:
    begun = {"type": "http.request", "body": b"{", "more_body": True}
    assert served(nothing, Exchange(begun)).sent == []
    assert served(nothing, Exchange()).sent == []


@pytest.mark.parametrize(
    "messages",
    [
        [whole(b"x" * 101)],
        [{"type": "http.request", "body": b"x" * 60, "more_body": True}, whole(b"x" * 60)],
    ],
)
def test_a_body_over_the_limit_is_refused_however_it_comes(messages: list[Any]) -> None:
    exchange = served(nothing, Exchange(*messages))
    assert exchange.status == 413
    assert "100" in json.loads(exchange.body)["error"]["message"]


def test_a_length_over_the_limit_is_refused_unread() -> None:
    exchange = Exchange(hangs=True)
    served(nothing, exchange, "POST", "/things", (b"content-length", b"101"))
    assert exchange.status == 413


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd, gzip"])
def test_a_coded_body_is_refused(coding: bytes) -> None:
    exchange = served(nothing, Exchange(whole()), "POST", "/things", (b"content-encoding", coding))
    assert exchange.status == 400
    assert coding.decode() in json.loads(exchange.body)["error"]["message"]


def test_a_head_is_the_answer_without_its_body() -> None:
    exchange = Exchange(whole())
    other = Other({("GET", "/things"): answering("list")}, Limits(), OPEN)
    asyncio.run(other(scope("HEAD", "/things"), exchange.receive, exchange.send))
    assert (exchange.status, exchange.body) == (200, b"")


def test_a_wrong_method_says_which_are_right() -> None:
    exchange = served(nothing, Exchange(whole()), "POST", "/things")
    assert exchange.status == 200
    exchange = Exchange(whole())
    other = Other({("POST", "/things"): nothing}, Limits(), OPEN)
    asyncio.run(other(scope("DELETE", "/things"), exchange.receive, exchange.send))
    assert (exchange.status, exchange.headers[b"allow"]) == (405, b"POST")


@given(st.text(max_size=300))
def test_an_unknown_path_is_shown_only_where_it_is_harmless(path: str) -> None:
    exchange = Exchange(whole())
    other = Other({}, Limits(), OPEN)
    asyncio.run(other(scope("GET", f"/{path}"), exchange.receive, exchange.send))
    assert exchange.status == 404
    message = json.loads(exchange.body)["error"]["message"]
    assert message.isprintable()
    assert len(message) < 300


def test_what_is_no_http_is_left_alone() -> None:
    exchange = Exchange()
    asyncio.run(Other({}, Limits(), OPEN)({"type": "websocket"}, exchange.receive, exchange.send))
    assert exchange.sent == []


def test_a_body_is_not_read_of_somebody_without_a_key() -> None:
    exchange = Exchange(hangs=True)
    other = Other({("POST", "/things"): nothing}, Limits(), SHUT)
    asyncio.run(other(scope("POST", "/things"), exchange.receive, exchange.send))
    assert exchange.status == 401
    exchange = Exchange(whole())
    key = (b"x-api-key", TOKEN.encode())
    asyncio.run(other(scope("POST", "/things", key), exchange.receive, exchange.send))
    assert exchange.status == 200


def test_a_fault_of_ours_is_told_without_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    async def breaks(asked: Question) -> Answer:
        raise ValueError("sh-secret")

    exchange = served(breaks, Exchange(whole(b"sh-secret")))
    assert exchange.status == 500
    assert b"secret" not in exchange.body
    said = capsys.readouterr().err
    assert "ValueError" in said
    assert "secret" not in said
