"""What one call over HTTP gives, and how it fails."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import Any

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.calls import Fate, UpstreamCall
from stillhouse.core.catalogue import Timeouts, Upstream, Wire
from stillhouse.core.errors import CallerError, ConfigError, UpstreamError
from stillhouse.providers.http import HttpProvider
from stillhouse.testing.sockets import ScriptedSocket, Step, Then, answer, closed_port

Run = Callable[[Coroutine[Any, Any, None]], None]
CALL = UpstreamCall(Wire.CHAT, "POST", "/chat/completions", "m", b'{"model":"m"}')
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BRIEF = Timeouts(connect_seconds=5, first_byte_seconds=0.05, total_seconds=5)


def at(url: str, **settings: Any) -> Upstream:
    return Upstream("acme", base_url=url, **{"allow_private": True, **settings})


def not_noted() -> None:
    """For calls whose moment of sending does not matter."""


async def ask(
    script: Sequence[Step], call: UpstreamCall = CALL, limit: int = 1 << 20, **settings: Any
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    async with ScriptedSocket(script) as upstream:
        provider = HttpProvider(at(upstream.url, **settings), "sk-1", max_answer_bytes=limit)
        try:
            reply = await provider.send(call, not_noted)
            return reply.status, reply.headers, await reply.read()
        finally:
            await provider.close()


async def fate_of(script: Sequence[Step], limit: int = 1 << 20, **settings: Any) -> Fate:
    with pytest.raises(UpstreamError) as caught:
        await ask(script, limit=limit, **settings)
    assert "acme" in str(caught.value) or "answer" in str(caught.value)
    return caught.value.fate


ANSWERS: dict[str, tuple[Sequence[Step], bytes]] = {
    "a length": ([answer(b"hello")], b"hello"),
    "no bytes": ([answer(b"")], b""),
    "chunks": ([CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"], b"hello"),
    "chunks with extensions and trailers": (
        [CHUNKED + b"5;a=b\r\nhello\r\n0\r\nx-sum: 1\r\nserver-timing: 2\r\n\r\n"],
        b"hello",
    ),
    "HTTP/1.0": ([b"HTTP/1.0 200 OK\r\n\r\nhello", Then.CLOSE], b"hello"),
    "until it closes": ([b"HTTP/1.1 200 OK\r\n\r\nhel", 0.01, b"lo", Then.CLOSE], b"hello"),
    "connection: close": ([answer(b"hello", headers=["connection: close"]), Then.CLOSE], b"hello"),
    "hints before it": (
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" + answer(b"hello")],
        b"hello",
    ),
    "gzip": ([answer(gzip.compress(b"hello"), headers=["content-encoding: gzip"])], b"hello"),
    "two members of gzip": (
        [
            answer(
                gzip.compress(b"hel") + gzip.compress(b"lo"), headers=["content-encoding: x-gzip"]
            )
        ],
        b"hello",
    ),
    "deflate": ([answer(zlib.compress(b"hello"), headers=["content-encoding: deflate"])], b"hello"),
    "deflate without its header": (
        [answer(zlib.compress(b"hello")[2:-4], headers=["content-encoding: deflate"])],
        b"hello",
    ),
    "brotli": ([answer(brotli.compress(b"hello"), headers=["content-encoding: BR"])], b"hello"),
    "an identity coding": ([answer(b"hello", headers=["content-encoding: identity"])], b"hello"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_body_arrives_as_it_was_meant(name: str, run: Run) -> None:
    async def story() -> None:
        script, meant = ANSWERS[name]
        status, headers, body = await ask(script)
        assert (status, body) == (200, meant)
        assert headers == []

    run(story())


@pytest.mark.parametrize("name", ANSWERS)
def test_a_body_arrives_in_chunks_as_it_was_meant(name: str, run: Run) -> None:
    async def story() -> None:
        script, meant = ANSWERS[name]
        async with ScriptedSocket(script) as upstream:
            provider = HttpProvider(at(upstream.url), "sk-1")
            reply = await provider.send(CALL, not_noted)
            assert b"".join([chunk async for chunk in reply.chunks()]) == meant
            await provider.close()
            assert (provider.pool.busy, provider.pool.living) == (0, 0)

    run(story())


@pytest.mark.parametrize("status", [204, 304, 400, 401, 404, 429, 500, 503, 529])
def test_every_status_is_an_answer(status: int, run: Run) -> None:
    async def story() -> None:
        raw = f"HTTP/1.1 {status} x\r\nretry-after: 3\r\n"
        raw += "\r\n" if status in (204, 304) else "content-length: 2\r\n\r\n{}"
        got, headers, body = await ask([raw.encode()])
        assert (got, headers) == (status, [(b"retry-after", b"3")])
        assert body == (b"" if status in (204, 304) else b"{}")

    run(story())


def test_headers_of_one_connection_do_not_pass(run: Run) -> None:
    async def story() -> None:
        fields = [
            "Connection: x-Hop, close",
            "X-HOP: 1",
            "Keep-Alive: timeout=5",
            "X-Request-ID: r",
        ]
        _, headers, _ = await ask(
            [answer(b"", headers=[*fields, "set-cookie: a", "set-cookie: b"])]
        )
        assert headers == [(b"x-request-id", b"r"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]

    run(story())


FAULTS: dict[str, tuple[Sequence[Step], Fate]] = {
    "closes at once": ([Then.CLOSE], Fate.DROPPED),
    "resets at once": ([Then.RESET], Fate.DROPPED),
    "closes within the headers": ([b"HTTP/1.1 200 OK\r\ncontent-", Then.CLOSE], Fate.DROPPED),
    "closes within a length": (
        [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel", Then.CLOSE],
        Fate.TRUNCATED,
    ),
    "resets within a length": (
        [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel", 0.05, Then.RESET],
        Fate.TRUNCATED,
    ),
    "closes within chunks": ([CHUNKED + b"5\r\nhello\r\n", Then.CLOSE], Fate.TRUNCATED),
    "a chunk that is none": ([CHUNKED + b"5\r\nhello\r\nzz\r\n"], Fate.GARBAGE),
    "no HTTP": ([b"SSH-2.0-OpenSSH_9.7\r\n"], Fate.GARBAGE),
    "two lengths": (
        [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"],
        Fate.GARBAGE,
    ),
    "a length and chunks": (
        [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
        Fate.GARBAGE,
    ),
    "an unknown transfer coding": (
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
        Fate.GARBAGE,
    ),
    "another protocol": (
        [b"HTTP/1.1 101 Hm\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"],
        Fate.GARBAGE,
    ),
    "headers without end": ([b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 200_000], Fate.TOO_LARGE),
    "too many headers": ([b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300], Fate.TOO_LARGE),
    "hints without end": ([b"HTTP/1.1 103 Hints\r\n\r\n" * 5000, Then.HANG], Fate.TOO_LARGE),
    "an unknown coding": ([answer(b"x", headers=["content-encoding: zstd"])], Fate.GARBAGE),
    "gzip that is none": ([answer(b"hello", headers=["content-encoding: gzip"])], Fate.GARBAGE),
    "brotli that is none": ([answer(b"\xff" * 99, headers=["content-encoding: br"])], Fate.GARBAGE),
    "half of gzip": (
        [answer(gzip.compress(b"hello" * 99)[:-9], headers=["content-encoding: gzip"])],
        Fate.TRUNCATED,
    ),
    "half of brotli": (
        [answer(brotli.compress(bytes(range(256)))[:-9], headers=["content-encoding: br"])],
        Fate.TRUNCATED,
    ),
    "a long body": ([answer(b"a" * (1 << 20) + b"a")], Fate.TOO_LARGE),
    "gzip that swells": (
        [answer(gzip.compress(b"\0" * (1 << 22)), headers=["content-encoding: gzip"])],
        Fate.TOO_LARGE,
    ),
    "brotli that swells": (
        [answer(brotli.compress(b"\0" * (1 << 22)), headers=["content-encoding: br"])],
        Fate.TOO_LARGE,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_fate(name: str, run: Run) -> None:
    async def story() -> None:
        script, fate = FAULTS[name]
        assert await fate_of(script) is fate

    run(story())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_fate_for_a_reader_of_chunks(name: str, run: Run) -> None:
    async def story() -> None:
        script, fate = FAULTS[name]
        async with ScriptedSocket(script) as upstream:
            provider = HttpProvider(at(upstream.url), max_answer_bytes=1 << 20)
            with pytest.raises(UpstreamError) as caught:
                async for _ in (await provider.send(CALL, not_noted)).chunks():
                    pass
            assert caught.value.fate is fate
            await provider.close()

    run(story())


def test_what_came_before_a_cut_is_still_handed_over(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([CHUNKED + b"5\r\nhello\r\n", Then.CLOSE]) as upstream:
            provider = HttpProvider(at(upstream.url))
            chunks = (await provider.send(CALL, not_noted)).chunks()
            assert await anext(chunks) == b"hello"
            with pytest.raises(UpstreamError, match="in the middle"):
                await anext(chunks)
            await provider.close()

    run(story())


@pytest.mark.parametrize(
    ("script", "timeouts", "fate"),
    [
        ([Then.HANG], BRIEF, Fate.FIRST_BYTE_TIMEOUT),
        ([b"HTTP/1.1 200 OK\r\n", Then.HANG], BRIEF, Fate.FIRST_BYTE_TIMEOUT),
        ([Then.HANG], Timeouts(total_seconds=0.05), Fate.TOTAL_TIMEOUT),
        ([CHUNKED, b"1\r\na\r\n", Then.HANG], Timeouts(total_seconds=0.1), Fate.TOTAL_TIMEOUT),
    ],
)
def test_each_wait_has_its_end(
    script: Sequence[Step], timeouts: Timeouts, fate: Fate, run: Run
) -> None:
    async def story() -> None:
        assert await fate_of(script, timeouts=timeouts) is fate

    run(story())


def test_a_slow_body_outlives_the_wait_for_its_first_byte(run: Run) -> None:
    async def story() -> None:
        drip: list[Step] = [0.02, b"1\r\na\r\n"]
        slow = [CHUNKED, *drip * 8, b"0\r\n\r\n"]
        _, _, body = await ask(slow, timeouts=BRIEF)
        assert body == b"a" * 8

    run(story())


def test_a_closed_port_refuses_before_anything_is_sent(run: Run) -> None:
    async def story() -> None:
        noted: list[int] = []
        provider = HttpProvider(at(f"http://127.0.0.1:{closed_port()}"))
        with pytest.raises(UpstreamError) as caught:
            await provider.send(CALL, lambda: noted.append(1))
        assert (caught.value.fate, noted, provider.pool.busy) == (Fate.REFUSED, [], 0)
        await provider.close()

    run(story())


def test_an_unknown_name_is_a_fault_of_its_own(run: Run) -> None:
    async def story() -> None:
        provider = HttpProvider(at("http://nobody.invalid"))
        with pytest.raises(UpstreamError) as caught:
            await provider.send(CALL, not_noted)
        assert caught.value.fate is Fate.DNS
        assert not caught.value.fate.sent

    run(story())


def test_a_head_answer_has_no_body_to_wait_for(run: Run) -> None:
    async def story() -> None:
        status, _, body = await ask(
            [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"],
            CALL._replace(method="HEAD", body=b""),
        )
        assert (status, body) == (200, b"")

    run(story())


def test_an_answer_before_the_request_is_through_ends_the_call(run: Run) -> None:
    async def story() -> None:
        large = CALL._replace(body=b"x" * 20_000_000)
        script: list[Step] = [answer(b"no", status=413), Then.HANG]
        async with ScriptedSocket(script, early=True) as upstream:
            provider = HttpProvider(at(upstream.url))
            reply = await provider.send(large, not_noted)
            assert (reply.status, await reply.read()) == (413, b"no")
            await provider.close()
            assert provider.pool.living == 0

    run(story())


def test_a_large_body_goes_both_ways(run: Run) -> None:
    async def story() -> None:
        large = bytes(range(256)) * 40_000
        async with ScriptedSocket([answer(large)]) as upstream:
            provider = HttpProvider(at(upstream.url))
            reply = await provider.send(CALL._replace(body=large), not_noted)
            assert await reply.read() == large
            assert upstream.bodies == [large]
            await provider.close()

    run(story())


async def head_of(call: UpstreamCall, key: str | None = "sk-1", **settings: Any) -> list[str]:
    path = settings.pop("path", "/v1")
    async with ScriptedSocket([answer(b"")]) as upstream:
        provider = HttpProvider(at(upstream.url + path, **settings), key)
        await (await provider.send(call, not_noted)).read()
        await provider.close()
        return upstream.heads[0].decode("latin-1").split("\r\n")


def test_each_wire_has_its_credentials(run: Run) -> None:
    async def story() -> None:
        lines = await head_of(CALL)
        assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
        assert "authorization: Bearer sk-1" in lines
        assert "accept-encoding: identity" in lines
        messages = await head_of(CALL._replace(wire=Wire.MESSAGES))
        assert {"x-api-key: sk-1", "anthropic-version: 2023-06-01"} < set(messages)
        assert not [line for line in messages if line.startswith("authorization")]
        bare = await head_of(CALL, key=None)
        assert not [line for line in bare if line.startswith("authorization")]

    run(story())


def test_configured_headers_and_a_query_go_with_every_call(run: Run) -> None:
    async def story() -> None:
        azure = {"headers": {"Api-Key": "a-1"}, "path": "/openai?api-version=2026-01-01"}
        lines = await head_of(CALL._replace(path="/models?limit=2"), key=None, **azure)
        assert lines[0] == "POST /openai/models?limit=2&api-version=2026-01-01 HTTP/1.1"
        assert "api-key: a-1" in lines

    run(story())


def test_a_callers_headers_pass_but_never_those_of_the_connection(run: Run) -> None:
    async def story() -> None:
        headers = (
            (b"user-agent", b"theirs/1"),
            (b"x-stillhouse-attempt", b"forged"),
            (b"host", b"elsewhere"),
            (b"content-length", b"0"),
            (b"transfer-encoding", b"chunked"),
            (b"authorization", b"Bearer theirs"),
        )
        lines = await head_of(CALL._replace(headers=headers))
        assert "user-agent: theirs/1" in lines
        assert not [line for line in lines if line.startswith("x-stillhouse")]
        assert "elsewhere" not in "".join(lines)
        assert "theirs" not in "".join(line for line in lines if line.startswith("auth"))
        assert [line for line in lines if line.startswith("content-length")] == [
            f"content-length: {len(CALL.body)}"
        ]

    run(story())


def test_a_callers_own_key_is_used_only_where_it_may_pass(run: Run) -> None:
    async def story() -> None:
        own = CALL._replace(caller_key="sk-own")
        assert "authorization: Bearer sk-1" in await head_of(own)
        assert "authorization: Bearer sk-own" in await head_of(own, pass_caller_key=True)
        assert "authorization: Bearer sk-1" in await head_of(CALL, pass_caller_key=True)

    run(story())


@pytest.mark.parametrize(
    "call",
    [
        CALL._replace(path="/x HTTP/1.1\r\nhost: evil\r\n\r\n"),
        CALL._replace(path="chat"),
        CALL._replace(method="POST /"),
        CALL._replace(headers=((b"x-a", b"1\r\nhost: evil"),)),
        CALL._replace(headers=((b"x a", b"1"),)),
    ],
)
def test_nothing_is_smuggled_into_a_request(call: UpstreamCall, run: Run) -> None:
    async def story() -> None:
        with pytest.raises(CallerError):
            await head_of(call)

    run(story())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "ftp://a"}, "scheme 'ftp'"),
        ({"base_url": "http://"}, "without a host"),
        ({"base_url": "http://a:99999"}, "no URL"),
        ({"base_url": "https://me:secret@a"}, "credentials"),
        ({"base_url": "https://a", "proxy": "socks5://b"}, "scheme 'socks5'"),
        ({"base_url": "https://a", "ca_file": "/nowhere.pem"}, "ca_file '/nowhere.pem'"),
        ({"base_url": "http://a", "headers": {"x-a": "1\n2"}}, "header 'x-a'"),
        ({"base_url": "http://a", "headers": {"Host": "b"}}, "header 'Host'"),
    ],
)
def test_an_upstream_that_cannot_be_used_is_refused_when_it_is_made(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        HttpProvider(Upstream("acme", **settings))
    assert "secret" not in str(caught.value)
    assert "acme" in str(caught.value)


def test_a_key_with_a_line_break_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="control character") as caught:
        HttpProvider(at("http://127.0.0.1"), "sk-1\n")
    assert "sk-1" not in str(caught.value)


@settings(max_examples=60)
@given(
    body=st.binary(max_size=60),
    sizes=st.lists(st.integers(1, 20), max_size=8),
    cuts=st.lists(st.integers(0, 300), max_size=12),
    coding=st.sampled_from(["", "gzip", "br", "deflate"]),
)
def test_the_pieces_in_which_an_answer_comes_do_not_matter(
    body: bytes, sizes: list[int], cuts: list[int], coding: str
) -> None:
    coded = {"": bytes, "gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress}
    left, chunks = coded[coding](body), []
    for size in [*sizes, len(left) + 1]:
        chunks.append(left[:size])
        left = left[size:]
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\ncontent-encoding: %s\r\n\r\n" % (
        coding.encode() or b"identity"
    )
    raw += b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
    raw += b"0\r\n\r\n"
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(raw)}), len(raw)]
    script = [raw[start:stop] for start, stop in pairwise(places)]

    async def story() -> None:
        assert (await ask(script))[2] == body

    asyncio.run(story())
