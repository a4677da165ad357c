"""Connections: kept, shared out, found dead, and never left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stillhouse.core.calls import Fate, UpstreamCall
from stillhouse.core.catalogue import Timeouts, Upstream, Wire
from stillhouse.core.errors import UpstreamError
from stillhouse.providers.http import HttpProvider
from stillhouse.providers.reply import HIGH_WATER, HttpReply
from stillhouse.testing.sockets import ScriptedSocket, Step, Then, answer

Run = Callable[[Coroutine[Any, Any, None]], None]
CALL = UpstreamCall(Wire.CHAT, "POST", "/chat/completions", "m", b'{"model":"m"}')
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def at(url: str, **settings: Any) -> Upstream:
    return Upstream("acme", base_url=url, allow_private=True, **settings)


def not_noted() -> None:
    """For calls whose moment of sending does not matter."""


async def ask(provider: HttpProvider, call: UpstreamCall = CALL) -> bytes:
    return await (await provider.send(call, not_noted)).read()


async def settled(figure: Callable[[], object]) -> None:
    """Wait until a figure has stopped to change."""
    last, same = figure(), 0
    while same < 20:
        await asyncio.sleep(0.005)
        now = figure()
        last, same = now, same + 1 if now == last else 0


def test_one_connection_serves_calls_one_after_another(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a")]) as upstream:
            provider = HttpProvider(at(upstream.url))
            for _ in range(20):
                assert await ask(provider) == b"a"
            assert (upstream.connections, provider.pool.living) == (1, 1)
            await provider.close()
            await upstream.quiet()
            assert provider.pool.living == 0

    run(story())


def test_answers_never_reach_the_wrong_caller(run: Run) -> None:
    async def story() -> None:
        scripts: list[list[Step]] = [[answer(b"%d" % place), 0.0] for place in range(300)]
        async with ScriptedSocket(*scripts) as upstream:
            provider = HttpProvider(at(upstream.url, max_concurrency=7))

            async def one(number: int) -> None:
                got = await ask(provider, CALL._replace(body=b"%d" % number))
                assert upstream.bodies[int(got)] == b"%d" % number

            await asyncio.gather(*map(one, range(300)))
            assert upstream.connections <= 7
            await provider.close()

    run(story())


def test_a_reset_between_calls_is_found_before_the_next_is_written(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a"), Then.RESET]) as upstream:
            provider = HttpProvider(at(upstream.url))
            for _ in range(5):
                assert await ask(provider) == b"a"
                await upstream.quiet()
            assert upstream.connections == len(upstream.heads) == 5
            await provider.close()

    run(story())


def test_an_end_is_seen_though_the_loop_has_not_told_of_it(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a"), Then.CLOSE]) as upstream:
            provider = HttpProvider(at(upstream.url))
            for _ in range(20):
                assert await ask(provider) == b"a"
                while upstream.open:
                    await asyncio.sleep(0)
            await provider.close()

    run(story())


def test_a_connection_that_dies_once_bytes_have_left_is_not_asked_again(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a")], [Then.CLOSE], [answer(b"c")]) as upstream:
            provider = HttpProvider(at(upstream.url))
            assert await ask(provider) == b"a"
            with pytest.raises(UpstreamError) as caught:
                await ask(provider)
            assert caught.value.fate is Fate.DROPPED
            assert len(upstream.heads) == 2
            assert await ask(provider) == b"c"
            await provider.close()

    run(story())


def test_a_connection_that_dies_before_bytes_leave_is_replaced_unnoticed(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a"), 0.01, Then.CLOSE], [answer(b"b")]) as upstream:
            provider = HttpProvider(at(upstream.url))
            assert await ask(provider) == b"a"
            noted: list[int] = []

            async def journal() -> None:
                noted.append(1)
                await upstream.quiet()
                await asyncio.sleep(0.02)

            reply = await provider.send(CALL, journal)
            assert await reply.read() == b"b"
            assert (noted, upstream.connections) == ([1], 2)
            await provider.close()

    run(story())


def test_a_journal_that_refuses_sends_nothing_and_frees_its_turn(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a")]) as upstream:
            provider = HttpProvider(at(upstream.url, max_concurrency=1))

            def full() -> None:
                raise OSError("the disk is full")

            for _ in range(3):
                with pytest.raises(OSError, match="full"):
                    await provider.send(CALL, full)
            assert upstream.heads == []
            assert await ask(provider) == b"a"
            await provider.close()

    run(story())


def test_bytes_that_nobody_asked_for_end_a_connection(run: Run) -> None:
    async def story() -> None:
        twice: list[Step] = [answer(b"a") + answer(b"stolen"), Then.HANG]
        async with ScriptedSocket(
            twice, [answer(b"b"), 0.01, b"HTTP/1.1 408 x\r\n\r\n"]
        ) as upstream:
            provider = HttpProvider(at(upstream.url))
            assert await ask(provider) == b"a"
            assert await ask(provider) == b"b"
            while provider.pool.living:
                await asyncio.sleep(0.005)
            assert await ask(provider) == b"b"
            assert upstream.connections == 3
            await provider.close()

    run(story())


def test_trailers_do_not_turn_up_as_headers_of_the_next_answer(run: Run) -> None:
    async def story() -> None:
        chunked = CHUNKED + b"1\r\na\r\n0\r\nset-cookie: evil\r\n\r\n"
        async with ScriptedSocket([chunked], [answer(b"b", headers=["x-b: 1"])]) as upstream:
            provider = HttpProvider(at(upstream.url))
            first = await provider.send(CALL, not_noted)
            assert (await first.read(), first.headers) == (b"a", [])
            second = await provider.send(CALL, not_noted)
            assert (await second.read(), second.headers) == (b"b", [(b"x-b", b"1")])
            assert upstream.connections == 1
            await provider.close()

    run(story())


def test_calls_over_the_limit_wait_their_turn(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([0.002, answer(b"a")]) as upstream:
            provider = HttpProvider(at(upstream.url, max_concurrency=3))
            most = 0

            async def one() -> None:
                nonlocal most
                reply = await provider.send(CALL, not_noted)
                most = max(most, provider.pool.busy)
                await reply.read()

            await asyncio.gather(*(one() for _ in range(30)))
            assert (most, provider.pool.busy) == (3, 0)
            assert upstream.connections <= 3
            await provider.close()

    run(story())


def test_whoever_waits_too_long_for_a_turn_was_never_sent(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([Then.HANG]) as upstream:
            brief = Timeouts(first_byte_seconds=0.05)
            provider = HttpProvider(at(upstream.url, max_concurrency=1, timeouts=brief))
            outcomes = await asyncio.gather(ask(provider), ask(provider), return_exceptions=True)
            fates = [error.fate for error in outcomes if isinstance(error, UpstreamError)]
            assert fates[0] is Fate.FIRST_BYTE_TIMEOUT
            assert not fates[1].sent or fates[1] is Fate.FIRST_BYTE_TIMEOUT
            assert len(upstream.heads) == sum(fate.sent for fate in fates)
            await provider.close()
            assert provider.pool.busy == 0

    run(story())


def test_whoever_leaves_the_queue_holds_no_turn(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([0.02, answer(b"a")]) as upstream:
            provider = HttpProvider(at(upstream.url, max_concurrency=1))
            tasks = [asyncio.create_task(ask(provider)) for _ in range(10)]
            await asyncio.sleep(0.005)
            for task in tasks[1::2]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert [o for o in outcomes if isinstance(o, bytes)] == [b"a"] * 5
            assert provider.pool.busy == 0
            await provider.close()

    run(story())


@pytest.mark.parametrize("script", [[Then.HANG], [CHUNKED, b"1\r\na\r\n", Then.HANG]])
def test_cancelling_a_call_closes_its_connection(script: list[Step], run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket(script) as upstream:
            provider = HttpProvider(at(upstream.url, max_concurrency=1))
            for _ in range(3):
                task = asyncio.create_task(ask(provider))
                while not upstream.open or task.done():
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await upstream.quiet()
            assert provider.pool.busy == 0
            await provider.close()

    run(story())


def test_giving_an_answer_up_closes_its_connection_and_is_harmless_later(run: Run) -> None:
    async def story() -> None:
        endless: list[Step] = [CHUNKED, b"1\r\na\r\n", Then.HANG]
        async with ScriptedSocket(endless, [answer(b"b")]) as upstream:
            provider = HttpProvider(at(upstream.url))
            reply = await provider.send(CALL, not_noted)
            assert await anext(aiter(reply.chunks())) == b"a"
            reply.cancel()
            reply.cancel()
            await upstream.quiet()
            assert provider.pool.busy == provider.pool.living == 0
            whole = await provider.send(CALL, not_noted)
            assert await whole.read() == b"b"
            whole.cancel()
            assert provider.pool.living == 1
            await provider.close()

    run(story())


def test_a_slow_reader_holds_the_upstream_back(run: Run) -> None:
    async def story() -> None:
        size, pieces = 1 << 20, 48
        piece = b"%x\r\n%s\r\n" % (size, b"a" * size)
        async with ScriptedSocket([CHUNKED, *[piece] * pieces, b"0\r\n\r\n"]) as upstream:
            provider = HttpProvider(at(upstream.url))
            reply = await provider.send(CALL, not_noted)
            assert isinstance(reply, HttpReply)
            await settled(lambda: upstream.sent_bytes)
            held = upstream.sent_bytes
            assert held < size * pieces / 2
            assert reply.buffered <= HIGH_WATER + (1 << 18)
            read = 0
            async for chunk in reply.chunks():
                assert len(chunk) <= HIGH_WATER + (1 << 18)
                read += len(chunk)
            assert read == size * pieces
            await provider.close()

    run(story())


def test_resting_connections_are_let_go_in_time(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([0.005, answer(b"a")]) as upstream:
            provider = HttpProvider(at(upstream.url), idle_seconds=0.02)
            await asyncio.gather(*(ask(provider) for _ in range(5)))
            assert provider.pool.living == 5
            await upstream.quiet()
            while provider.pool.living:
                await asyncio.sleep(0.005)
            await provider.close()

    run(story())


def test_what_the_peer_says_of_its_patience_is_believed(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a", headers=["keep-alive: timeout=1"])]) as upstream:
            provider = HttpProvider(at(upstream.url), idle_seconds=0.1)
            await ask(provider)
            await upstream.quiet()
            await provider.close()

    run(story())


def test_closing_waits_for_calls_under_way(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([0.02, answer(b"a")]) as upstream:
            provider = HttpProvider(at(upstream.url))
            await ask(provider)
            task = asyncio.create_task(ask(provider))
            await asyncio.sleep(0.005)
            await provider.close()
            assert task.done()
            assert await task == b"a"
            assert provider.pool.living == 0
            await provider.close()

    run(story())


def test_a_thousand_faulty_calls_leave_nothing_behind(run: Run) -> None:
    async def story() -> None:
        scripts: list[list[Step]] = [
            [answer(b"a")],
            [Then.RESET],
            [CHUNKED, Then.CLOSE],
            [b"nonsense\r\n\r\n"],
            [answer(b"a"), Then.CLOSE],
        ]
        async with ScriptedSocket(*scripts * 200) as upstream:
            provider = HttpProvider(at(upstream.url, max_concurrency=16))

            async def one(place: int) -> None:
                task = asyncio.create_task(ask(provider))
                if place % 7 == 0:
                    await asyncio.sleep(0)
                    task.cancel()
                try:
                    assert await task == b"a"
                except UpstreamError:
                    pass
                except asyncio.CancelledError:
                    assert place % 7 == 0

            await asyncio.gather(*map(one, range(1000)))
            assert provider.pool.busy == 0
            await provider.close()
            assert provider.pool.living == 0
            await upstream.quiet()

    run(story())
