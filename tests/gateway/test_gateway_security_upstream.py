"""An upstream that means harm, or has lost its mind: what it says to callers, books and memory."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.flows.fold import Folder
from stillhouse.flows.fold_making import Making
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.store.opening import open_store
from stillhouse.testing.sockets import ScriptedSocket, Then, answer
from stillhouse.wiring import SystemClock
from stillhouse.wiring.folding import bodies, estimated

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

SERVER = os.environ.get("STILLHOUSE_POSTGRES_DSN", "postgresql://postgres@127.0.0.1:5432/test")
OPERATORS = "operator-key-0001-planted"
CALLERS = "callers-own-key-0002-planted"
SAID = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5-mini",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Up."}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
OK = json.dumps(SAID).encode()
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CONFIG = """
[server]
[upstreams.up]
base_url = "{url}/v1"
allow_private = true
key_env = "UP_KEY"
models = ["*"]
wires = ["chat"]
host = "openai"
first_byte_seconds = 5
total_seconds = 8
[upstreams.pass]
base_url = "{url}/v1"
allow_private = true
wires = ["chat"]
pass_caller_key = true
[models.pass]
upstream = "pass"
retries = 0
[models."*"]
retries = 0
"""


@pytest.fixture(scope="module")
def upstream(harbour: Harbour) -> ScriptedSocket:
    return harbour.moor(ScriptedSocket([answer(OK)]))


@pytest.fixture(scope="module")
def served(harbour: Harbour, upstream: ScriptedSocket) -> Served:
    return harbour.serve(CONFIG.format(url=upstream.url), {"UP_KEY": OPERATORS})


def call(
    served: Served, model: str = "gpt-5-mini", token: str = "", fields: bytes = b"", **more: Any
) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and body of an answer."""
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "Sun?"}], **more}
    ).encode()
    heard = served.say(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"authorization: Bearer %b\r\n%bcontent-length: %d\r\n\r\n%b"
        % ((token or served.token).encode(), fields, len(body), body),
        seconds=30.0,
    )
    head, _, rest = heard.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first[9:12]), dict(line.split(": ", 1) for line in lines), rest


def last_of(served: Served) -> Ended:
    ended = [entry for entry in served.entries() if isinstance(entry, Ended)]
    return ended[-1]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


KEPT_FROM_CALLERS = """
access-control-allow-origin: *
access-control-allow-credentials: true
clear-site-data: "*"
cross-origin-resource-policy: cross-origin
keep-alive: timeout=5
location: http://evil.example/
proxy-authenticate: Basic
refresh: 0;url=http://evil.example/
server: evil
set-cookie: a=b
set-cookie2: a=b
trailer: x
upgrade: h2c
www-authenticate: Basic
x-named-by-connection: 1
x-stillhouse-cache: hit
x-stillhouse-exchange: forged
""".strip().splitlines()


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_has_no_say_in_what_browsers_do_and_forges_no_field_of_ours(
    served: Served, upstream: ScriptedSocket, stream: bool
) -> None:
    fields = [*KEPT_FROM_CALLERS, "connection: x-named-by-connection", "x-request-id: r1"]
    whole = answer(OK, headers=fields)
    piece = chunk(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    flowing = EVENTS[:-2] + "\r\n".join([*fields, "", ""]).encode() + piece + b"0\r\n\r\n"
    upstream.scripts = [[flowing if stream else whole]]
    status, headers, _ = call(served, stream=stream)
    assert status == 200
    assert headers["x-request-id"] == "r1"
    assert len(headers["x-stillhouse-exchange"]) == 32
    forbidden = {line.partition(":")[0] for line in KEPT_FROM_CALLERS} - {"x-stillhouse-exchange"}
    assert forbidden & set(headers) == set()


def field(line: bytes) -> bytes:
    return answer(OK).replace(b"\r\n", b"\r\n" + line + b"\r\n", 1)


GARBAGE = {
    "a bare CR": field(b"x-a: b\rset-cookie: evil=1"),
    "a folded field": field(b"x-a: b\r\n set-cookie: evil=1"),
    "a NUL": field(b"x-a: b\0c"),
    "two lengths": field(b"content-length: 3"),
    "a length and chunks": field(b"transfer-encoding: chunked"),
    "an unknown coding": field(b"transfer-encoding: gzip, chunked"),
    "another protocol": b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    "status 0": answer(OK, status=0).replace(b" 0 ", b" 000 "),
    "status 99": answer(OK, status=99).replace(b" 99 ", b" 099 "),
    "status 600": answer(OK, status=600),
    "status 999": answer(OK, status=999),
    "status 1000": answer(OK, status=1000),
    "no status": b"HTTP/1.1 abc OK\r\n\r\n",
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "an unknown compression": answer(OK, headers=["content-encoding: gzip, gzip"]),
    "a compression that is none": answer(OK, headers=["content-encoding: gzip"]),
    "empty gzip members": answer(gzip.compress(b"") * 200_000, headers=["content-encoding: gzip"]),
    "a page": answer(b"<script>alert(1)</script>", headers=["content-type: text/html"]),
    "an answer nested without end": answer(b'{"usage":' + b"[" * 100_000),
}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_answer_is_no_answer_for_the_caller_either(
    served: Served, upstream: ScriptedSocket, said: bytes
) -> None:
    upstream.scripts = [[said, Then.CLOSE]]
    status, headers, body = call(served)
    assert status == 502
    assert headers["content-type"] == "application/json"
    assert "upstream" in json.loads(body)["error"]["message"] or b"answer's" in body
    assert "set-cookie" not in headers
    assert last_of(served).fate is Fate.GARBAGE


WITHOUT_END = {
    "header fields": answer(OK)[:-2].replace(b"\r\n", b"\r\n" + b"x: y\r\n" * 300, 1),
    "a header field": b"HTTP/1.1 200 OK\r\nx-a: " + b"b" * 200_000,
    "interim answers": b"HTTP/1.1 103 Hints\r\nlink: <x>\r\n\r\n" * 9000,
    "a trailer": EVENTS + chunk(b"data: {}\n\n") + b"0\r\nx-a: " + b"b" * 400_000,
    "trailers": EVENTS + chunk(b"data: {}\n\n") + b"0\r\n" + b"x-a: b\r\n" * 60_000,
    "a chunk's name": EVENTS + chunk(b"data: {}\n\n") + b"5;" + b"b" * 400_000,
}


@pytest.mark.parametrize("said", WITHOUT_END.values(), ids=WITHOUT_END)
def test_what_has_no_end_is_not_kept(served: Served, upstream: ScriptedSocket, said: bytes) -> None:
    upstream.scripts = [[said, Then.HANG]]
    status, _, _ = call(served)
    assert status == 502
    assert last_of(served).fate is Fate.TOO_LARGE


def test_a_body_that_swells_without_measure_is_given_up(
    served: Served, upstream: ScriptedSocket
) -> None:
    bomb = gzip.compress(bytes(80 * 2**20))
    upstream.scripts = [[answer(bomb, headers=["content-encoding: gzip"])]]
    status, _, _ = call(served)
    assert status == 502
    assert last_of(served).fate is Fate.TOO_LARGE


def test_nothing_is_followed_to_where_an_upstream_sends(
    harbour: Harbour, served: Served, upstream: ScriptedSocket
) -> None:
    elsewhere = harbour.moor(ScriptedSocket([answer(OK)]))
    for status in (301, 302, 303, 307, 308):
        place = f"location: {elsewhere.url}/v1/chat/completions"
        upstream.scripts = [[answer(b"", status=status, headers=[place])]]
        assert call(served)[0] == 502
    assert elsewhere.connections == 0


def quoting(key: str, status: int) -> bytes:
    said = {"error": {"message": f"no such key {key}", "sent": {"authorization": f"Bearer {key}"}}}
    return answer(json.dumps(said).encode(), status=status)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_key_that_an_upstream_quotes_goes_nowhere(
    served: Served, upstream: ScriptedSocket, status: int
) -> None:
    upstream.scripts = [[quoting(OPERATORS, status)]]
    _, _, body = call(served, "up/gpt-5-mini")
    assert OPERATORS.encode() not in body
    upstream.scripts = [[quoting(CALLERS, status)]]
    fields = b"x-stillhouse-key: %b\r\n" % served.token.encode()
    _, _, body = call(served, "pass", token=CALLERS, fields=fields)
    assert b"Bearer " + CALLERS.encode() in upstream.heads[-1]  # it was sent, and was quoted
    assert CALLERS.encode() not in body
    kept = b"".join(path.read_bytes() for path in (served.folder / "journal").glob("*.journal"))
    for key in (OPERATORS, CALLERS, served.token):
        assert key.encode() not in kept


ODD: list[dict[str, Any]] = [
    {"model": "\ud800"},
    {"model": "a\0b"},
    {"model": "m" * 100_000},
    {"model": {"a": 1}},
    {"service_tier": "\ud800\0"},
    {"service_tier": ["x"]},
    {"usage": {"prompt_tokens": 10**40, "completion_tokens": 1}},
    {"usage": {"prompt_tokens": -5, "completion_tokens": 1}},
    {"usage": {"prompt_tokens": 1e300, "completion_tokens": 1}},
    {"usage": {"prompt_tokens": "3", "completion_tokens": [1]}},
    {"usage": {"prompt_tokens": 3, "completion_tokens": 1, "cost": 1e300}},
    {"usage": {"prompt_tokens": 3, "completion_tokens": 1, "cost": "NaN"}},
    {"usage": {"prompt_tokens": 3, "completion_tokens": 1, "cost": -1}},
    {"usage": {"prompt_tokens": 3, "\ud800": "\udfff", "\0": "\0"}},
    {"usage": {"prompt_tokens": 3, "server_tool_use": {"web_search_requests": 10**18}}},
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": "\0\ud83d \x1a0;"}}]},
    {"choices": [{"message": {"content": {"a": [[[]]]}, "tool_calls": [{}, None, 7]}}]},
    {"choices": "none", "error": {"message": "\ud800" * 5}},
    {"choices": None, "usage": None},
]


@pytest.fixture(params=["sqlite", "postgres"])
def books(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[str]:
    """The place of books that do not exist yet."""
    if request.param == "sqlite":
        yield f"{tmp_path}/books.db"
        return
    psycopg = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    try:
        psycopg.connect(SERVER, connect_timeout=3).close()
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL server answers; set STILLHOUSE_POSTGRES_DSN")
    schema = f"stillhouse_{uuid4().hex}"
    yield f"{SERVER}{'&' if '?' in SERVER else '?'}schema={schema}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


@pytest.fixture(scope="module")
def odd_traffic(harbour: Harbour, upstream: ScriptedSocket) -> Served:
    """An endpoint whose journal holds all the odd answers, to odd questions."""
    served = harbour.serve(CONFIG.format(url=upstream.url), {"UP_KEY": OPERATORS})
    for odd in ODD:
        upstream.scripts = [[answer(json.dumps(SAID | odd).encode())]]
        status, _, body = call(served, user="\0 \ud800 \udfff")
        assert status == 200, (odd, body)
        events = b"".join(
            b"data: " + json.dumps(event).encode() + b"\n\n"
            for event in (
                {"id": {}, "choices": [{"index": [], "delta": {"content": "\0\ud800"}}]},
                {"type": {}, "choices": [{"index": [], "delta": {}, "finish_reason": "stop"}]},
                {**SAID, "choices": [], **odd},
            )
        )
        upstream.scripts = [[EVENTS + chunk(events) + b"0\r\n\r\n"]]
        assert call(served, stream=True)[0] == 200
    return served


def test_every_odd_answer_is_booked_once_in_either_store(odd_traffic: Served, books: str) -> None:
    entries = odd_traffic.entries()
    started = [e.attempt.attempt_id for e in entries if isinstance(e, Started)]
    ended = [e.attempt.attempt_id for e in entries if isinstance(e, Ended)]
    assert sorted(started) == sorted(ended)
    assert len(set(ended)) == 2 * len(ODD)
    with open_store(books) as store:
        making = Making(estimated, lambda _: None, bodies)
        folder = Folder(JournalFolder(odd_traffic.folder / "journal"), store, making)
        done = folder.fold_once(SystemClock().now_us())
        kept = [attempt for exchange in store.exchanges() for attempt in exchange.attempts]
    assert (done.totals.new, done.totals.set_aside, done.totals.interrupted) == (2 * len(ODD), 0, 0)
    assert len(kept) == 2 * len(ODD)
    assert all(len(attempt.model) <= 512 and attempt.model.isprintable() for attempt in kept)
