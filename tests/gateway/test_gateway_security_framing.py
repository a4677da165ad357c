"""Requests that two readers cut apart differently; connections that take more than a share."""

from __future__ import annotations

import json
import re
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from stillhouse.core.catalogue import Wire
from stillhouse.core.traffic import Completion
from stillhouse.dialects.render import render_body, render_stream
from stillhouse.gateway.connections import MOST_FIELDS, MOST_PIPELINED
from stillhouse.gateway.terms import Terms

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Heard, Said, Served, Vendor

BODY = b'{"model":"gpt-5-mini","messages":[{"role":"user","content":"Sun?"}]}'
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LINE = b"POST /v1/chat/completions HTTP/1.1"
HOST = b"host: localhost\r\n"
CLOSE = b"connection: close\r\n"


def answer(heard: Heard) -> Said:
    if heard.body.get("stream"):
        pieces = render_stream(
            Wire.CHAT, Completion("Up."), answer_id="1", model="m", usage=None, created_s=1
        )
        return 200, {"content-type": "text/event-stream"}, pieces
    body = render_body(
        Wire.CHAT, Completion("Up."), answer_id="1", model="m", usage=None, created_s=1
    )
    return 200, {"content-type": "application/json"}, [body]


@pytest.fixture(scope="module")
def vendor(harbour: Harbour) -> tuple[str, Vendor]:
    return harbour.vendor(answer)


@pytest.fixture(scope="module")
def config(vendor: tuple[str, Vendor]) -> str:
    return (
        f'[server]\nmax_body_bytes = 3000\n[upstreams.up]\nbase_url = "{vendor[0]}"\n'
        'allow_private = true\nmodels = ["*"]\n'
    )


@pytest.fixture(scope="module")
def served(harbour: Harbour, config: str) -> Served:
    return harbour.serve(config)


@pytest.fixture(scope="module")
def tight(harbour: Harbour, config: str) -> Served:
    """An endpoint with room for three connections, and little patience."""
    terms = Terms(max_connections=3, body_seconds=0.2, header_seconds=5, max_header_bytes=4096)
    return harbour.serve(config, terms=terms)


@pytest.fixture(scope="module")
def opened(harbour: Harbour, config: str) -> Served:
    """An endpoint for which no key was made."""
    return harbour.serve(config, usual_keys=False)


def head(served: Served, fields: bytes, line: bytes = LINE, host: bytes = HOST) -> bytes:
    key = b"authorization: Bearer %s\r\n" % served.token.encode()
    return b"%b\r\n%b%b%b\r\n" % (line, host, key, fields)


def statuses(heard: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d)", heard)]


AMBIGUOUS = {
    "a length and chunks": LENGTH + CHUNKED,
    "chunks and a length": CHUNKED + LENGTH,
    "two lengths": LENGTH * 2,
    "two lengths that differ": LENGTH + b"content-length: 5\r\n",
    "a list of lengths": b"content-length: %d, %d\r\n" % (len(BODY), len(BODY)),
    "a length with a sign": b"content-length: +%d\r\n" % len(BODY),
    "a negative length": b"content-length: -1\r\n",
    "a length beyond 64 bits": b"content-length: %d\r\n" % 10**20,
    "a length that is folded": b"content-length:\r\n %d\r\n" % len(BODY),
    "a folded field": b"x-a: b\r\n c\r\n" + LENGTH,
    "a space before the colon": b"x-a : b\r\n" + LENGTH,
    "a space in the coding's name": b"transfer-encoding : chunked\r\n" + LENGTH,
    "an unknown coding": b"transfer-encoding: xchunked\r\n",
    "chunks that are not the last coding": b"transfer-encoding: chunked, identity\r\n",
    "chunks twice": CHUNKED * 2,
    "a NUL in a value": b"x-a: b\0c\r\n" + LENGTH,
    "a NUL in a name": b"x-\0a: b\r\n" + LENGTH,
    "a bare CR": b"x-a: b\rx-b: c\r\n" + LENGTH,
    "a field without a name": b": b\r\n" + LENGTH,
    "two hosts": b"host: localhost\r\n" + LENGTH,
}


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_request_that_could_end_elsewhere_is_refused_and_the_connection_with_it(
    served: Served, vendor: tuple[str, Vendor], fields: bytes
) -> None:
    before = len(vendor[1].heard)
    sent = BODY if b"chunked" not in fields else CHUNKS
    heard = served.say(head(served, fields) + sent + head(served, LENGTH + CLOSE) + BODY)
    assert statuses(heard) == [400]
    assert json.loads(heard.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
    assert len(vendor[1].heard) == before


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"0x4\r\nabcd\r\n",
        b"f" * 17 + b"\r\n",
        b"4\nabcd\n0\n\n",
        b"4\r\nabcde",
    ],
)
def test_chunks_without_a_plain_size_never_become_a_call(served: Served, chunks: bytes) -> None:
    assert statuses(served.say(head(served, CHUNKED) + chunks)) == [400]


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT metadata:80 HTTP/1.1",
        b"POST metadata:80 HTTP/1.1",
        b"POST /v1/\xff HTTP/1.1",
        b"post /v1/chat/completions HTTP/1.1",
        b"POST /v1/chat/completions HTTP/9.9",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_to_this_server_is_no_call(served: Served, line: bytes) -> None:
    assert statuses(served.say(head(served, LENGTH, line) + BODY)) == [400]


def test_an_address_in_the_first_line_is_not_gone_to(
    served: Served, vendor: tuple[str, Vendor]
) -> None:
    line = b"POST http://metadata.internal/v1/chat/completions HTTP/1.1"
    assert statuses(served.say(head(served, LENGTH + CLOSE, line) + BODY)) == [200]
    assert vendor[1].heard[-1].path == "/v1/chat/completions"


@pytest.mark.parametrize("host", [b"", b"host: evil.example\r\n", b"host: localhost.evil\r\n"])
def test_a_name_that_is_not_loopbacks_is_not_answered_to(served: Served, host: bytes) -> None:
    assert statuses(served.say(head(served, LENGTH + CLOSE, host=host) + BODY)) == [421]


UPGRADES = [
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\n",
]


@pytest.mark.parametrize("fields", UPGRADES)
@pytest.mark.parametrize("framing", [LENGTH + b"|" + BODY, CHUNKED + b"|" + CHUNKS])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_body_behind_a_wish_to_upgrade_is_a_body_and_no_second_request(
    served: Served, vendor: tuple[str, Vendor], fields: bytes, framing: bytes, pieces: int
) -> None:
    said, _, body = framing.partition(b"|")
    smuggled = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    before = len(vendor[1].heard)
    first = head(served, fields + said)
    last = head(served, LENGTH + CLOSE) + BODY
    parts = [first + body + last] if pieces == 1 else [first, body, last]
    assert statuses(served.say(*parts)) == [200, 200]
    assert [heard.body["model"] for heard in vendor[1].heard[before:]] == ["gpt-5-mini"] * 2
    unread = head(served, fields + b"content-length: %d\r\n" % len(smuggled))
    ask = head(served, CLOSE, b"GET /readyz HTTP/1.1")
    assert statuses(served.say(unread, smuggled, ask)) == [400, 200]


def test_requests_in_a_row_are_answered_in_their_order(served: Served) -> None:
    wrong = head(served, LENGTH).replace(served.token.encode(), b"sh-no-body") + BODY
    right = head(served, LENGTH) + BODY
    assert statuses(served.say(right + wrong + right + head(served, LENGTH + CLOSE) + BODY)) == [
        *(200, 401),
        *(200, 200),
    ]


def test_more_requests_than_may_wait_end_the_connection(served: Served) -> None:
    ping = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    heard = served.say(head(served, LENGTH) + BODY + ping * 2000)
    assert len(statuses(heard)) <= MOST_PIPELINED + 1


def test_what_follows_the_last_answer_is_not_a_request(
    served: Served, vendor: tuple[str, Vendor]
) -> None:
    before = len(vendor[1].heard)
    heard = served.say(head(served, LENGTH + CLOSE) + BODY + head(served, LENGTH) + BODY)
    assert statuses(heard) == [200]
    assert len(vendor[1].heard) == before + 1


@pytest.mark.parametrize("key", ["right", "wrong"])
@pytest.mark.parametrize("trailers", [b"x-a: b\r\n" * 100, b"x-a: " + b"b" * 800])
def test_trailers_without_end_are_not_kept(served: Served, key: str, trailers: bytes) -> None:
    begun = head(served, CHUNKED).replace(
        b"Bearer ", b"Bearer " if key == "right" else b"Bearer sh-wrong-"
    )
    heard = served.say(begun + b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY), *[trailers * 250] * 8)
    assert statuses(heard)[-1:] in ([401], [431], [])  # cut off, at the latest by the second piece


def test_a_trailer_is_no_header(served: Served, vendor: tuple[str, Vendor]) -> None:
    chunks = b"%x\r\n%b\r\n0\r\nidempotency-key: late\r\n\r\n" % (len(BODY), BODY)
    assert statuses(served.say(head(served, CHUNKED + CLOSE) + chunks)) == [200]
    assert "idempotency-key" not in vendor[1].heard[-1].headers


def test_a_body_is_asked_for_only_of_callers_with_a_key(served: Served) -> None:
    fields = LENGTH + b"expect: 100-continue\r\n" + CLOSE
    assert statuses(served.say(head(served, fields), BODY)) == [100, 200]
    wrong = head(served, fields).replace(served.token.encode(), b"sh-no-body")
    assert statuses(served.say(wrong)) == [401]


def test_an_old_client_is_answered_once(served: Served) -> None:
    line = LINE.replace(b"1.1", b"1.0")
    heard = served.say(head(served, LENGTH, line) + BODY + head(served, LENGTH) + BODY)
    assert statuses(heard) == [200]


@pytest.mark.parametrize(
    ("fields", "body", "status"),
    [
        (b"content-length: 3001\r\n", b"", 413),
        (b"content-length: 9999999999\r\n", b"", 413),
        (CHUNKED, b"bb9\r\n" + b" " * 3001 + b"\r\n0\r\n\r\n", 413),
        (LENGTH + b"content-encoding: gzip\r\n" + CLOSE, BODY, 400),
        (b"x: y\r\n" * (MOST_FIELDS + 1), b"", 431),
        (b"x: " + b"y" * 70_000 + b"\r\n", b"", 431),
    ],
)
def test_what_is_too_large_is_refused(
    served: Served, fields: bytes, body: bytes, status: int
) -> None:
    assert statuses(served.say(head(served, fields) + body)) == [status]


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/messages/count_tokens"])
def test_a_body_that_never_comes_is_not_waited_for(tight: Served, path: bytes) -> None:
    line = b"POST %b HTTP/1.1" % path
    assert statuses(tight.say(head(tight, LENGTH, line))) == [408]
    assert statuses(tight.say(head(tight, LENGTH, line), BODY[:9], b" ")) == [408]


def test_a_refused_callers_body_is_not_waited_for_either(tight: Served) -> None:
    wrong = head(tight, LENGTH).replace(tight.token.encode(), b"sh-no-body")
    assert statuses(tight.say(wrong)) == [401]


def test_connections_at_rest_make_room_for_callers_with_something_to_say(tight: Served) -> None:
    place = ("127.0.0.1", int(tight.url.rpartition(":")[2]))
    with ExitStack() as callers:
        idle = [callers.enter_context(socket.create_connection(place, timeout=9)) for _ in range(9)]
        for _ in range(3):
            assert statuses(tight.say(head(tight, LENGTH + CLOSE) + BODY)) == [200]
        assert [one.recv(99) for one in idle[:6]] == [b""] * 6


def test_where_all_are_being_answered_the_next_one_is_told_so(
    harbour: Harbour, config: str
) -> None:
    full = harbour.serve(config, terms=Terms(max_connections=2))
    place = ("127.0.0.1", int(full.url.rpartition(":")[2]))
    with ExitStack() as callers:
        for _ in range(2):
            one = callers.enter_context(socket.create_connection(place, timeout=9))
            one.sendall(head(full, LENGTH + b"expect: 100-continue\r\n"))
            assert one.recv(99).startswith(b"HTTP/1.1 100 ")
        assert statuses(full.say(b"")) == [503]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"https://evil.example", 421),
        (b"http://localhost.evil.example:4100", 421),
        (b"null", 421),
        (b"http://localhost:3000", 200),
        (b"http://127.0.0.1", 200),
        (b"vscode-webview://x", 200),
    ],
)
def test_a_page_of_another_site_spends_nothing_on_an_endpoint_without_keys(
    opened: Served, vendor: tuple[str, Vendor], origin: bytes, status: int
) -> None:
    before = len(vendor[1].heard)
    fields = HOST + LENGTH + CLOSE + b"content-type: text/plain\r\norigin: %b\r\n" % origin
    heard = opened.say(LINE + b"\r\n" + fields + b"\r\n" + BODY)
    assert statuses(heard) == [status]
    assert len(vendor[1].heard) == before + (status == 200)
    assert b"access-control-" not in heard.lower()


def test_no_page_is_told_that_it_may_read_answers(served: Served) -> None:
    preflight = (
        b"OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\n"
        b"access-control-request-method: POST\r\n" + CLOSE + b"\r\n"
    )
    heard = served.say(preflight)
    assert statuses(heard) == [405]
    assert b"access-control-" not in heard.lower()
