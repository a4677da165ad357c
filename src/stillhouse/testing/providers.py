"""What every provider must do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.ports import Provider, Reply

AT_ONCE = 20
_UNDONE = frozenset(
    (
        b"connection",
        b"content-encoding",
        b"keep-alive",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


async def check_provider(
    make: Callable[[], Provider], call: UpstreamCall, streaming: UpstreamCall
) -> None:
    """Check a provider with a call that it answers with 200 and one that it streams.

    `make` gives a provider that nobody has used. Raises AssertionError.
    """
    await _check_sending(make(), call)
    await _check_answers(make(), call, streaming)
    await _check_leaving(make(), call, streaming)
    await _check_closing(make(), call)


async def _check_sending(provider: Provider, call: UpstreamCall) -> None:
    """The moment of sending is told once, waited for, and may say no."""
    noted: list[str] = []

    def at_once() -> None:
        noted.append("at once")

    async def later() -> None:
        await asyncio.sleep(0.001)
        noted.append("later")

    def refused() -> None:
        raise OSError("the disk is full")

    for number, sending in enumerate((at_once, later, at_once), 1):
        reply = await provider.send(call, sending)
        assert len(noted) == number, f"`sending` of call {number} left these notes: {noted}"
        assert await reply.read(), "a call that is answered with 200 has a body"
    try:
        await provider.send(call, refused)
    except OSError:
        pass
    else:
        raise AssertionError("a call was put although `sending` failed")
    await _whole(provider, call)
    await provider.close()


async def _check_answers(provider: Provider, call: UpstreamCall, streaming: UpstreamCall) -> None:
    """Bodies come whole or in chunks, and many calls at once do not hinder each other."""
    reply = await provider.send(call, _unnoted)
    _check_head(reply)
    assert b"".join([chunk async for chunk in reply.chunks()]), "chunks of a body give nothing"
    reply = await provider.send(streaming, _unnoted)
    _check_head(reply)
    kinds = [value for name, value in reply.headers if name == b"content-type"]
    assert kinds == [b"text/event-stream"], f"a stream comes as {kinds}"
    chunks = [chunk async for chunk in reply.chunks()]
    assert all(chunks), "a chunk of a stream is empty"
    assert b"".join(chunks).endswith(b"\n\n"), "a stream does not end with a whole event"
    assert (await (await provider.send(streaming, _unnoted)).read()).endswith(b"\n\n")
    await asyncio.gather(*(_whole(provider, call) for _ in range(AT_ONCE)))
    await provider.close()


def _check_head(reply: Reply) -> None:
    assert reply.status == 200, f"the status is {reply.status}"
    for name, _ in reply.headers:
        assert name == name.lower(), f"the header {name!r} is not in lower case"
        assert name not in _UNDONE, f"the header {name!r} speaks of what was undone"


async def _check_leaving(provider: Provider, call: UpstreamCall, streaming: UpstreamCall) -> None:
    """Whoever leaves a call, at any point, does no harm to the next."""
    reply = await provider.send(streaming, _unnoted)
    async for _ in reply.chunks():
        break
    reply.cancel()
    reply.cancel()
    whole = await provider.send(call, _unnoted)
    await whole.read()
    whole.cancel()
    for turns in range(12):
        task = asyncio.create_task(_whole(provider, call))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await _whole(provider, call)
    await provider.close()


async def _check_closing(provider: Provider, call: UpstreamCall) -> None:
    """Closing waits for what is under way, and may be done twice."""
    reply = await provider.send(call, _unnoted)
    reading = asyncio.create_task(reply.read())
    await provider.close()
    assert await reading, "a call under way lost its body when the provider was closed"
    await provider.close()


async def _whole(provider: Provider, call: UpstreamCall) -> None:
    reply = await provider.send(call, _unnoted)
    assert reply.status == 200, f"the status is {reply.status}"
    here = reply.whole_body()
    body = await reply.read()
    assert body, "a call that is answered with 200 has a body"
    assert here is None or here == body, "a body that is here already is another than the one read"


def _unnoted() -> Awaitable[None] | None:
    return None
