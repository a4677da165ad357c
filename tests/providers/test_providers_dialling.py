"""How an upstream is reached: names, private addresses, proxies, TLS."""

from __future__ import annotations

import asyncio
import base64
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.calls import Fate, UpstreamCall
from stillhouse.core.catalogue import Timeouts, Upstream, Wire
from stillhouse.core.errors import UpstreamError
from stillhouse.providers.dialling import is_private
from stillhouse.providers.http import HttpProvider
from stillhouse.testing.sockets import ScriptedSocket, Then, answer, closed_port

Run = Callable[[Coroutine[Any, Any, None]], None]
CALL = UpstreamCall(Wire.CHAT, "POST", "/chat/completions", "m", b'{"model":"m"}')


def not_noted() -> None:
    """For calls whose moment of sending does not matter."""


async def ask(url: str, **settings: Any) -> bytes:
    provider = HttpProvider(
        Upstream("acme", base_url=url, **{"allow_private": True, **settings}), "sk-1"
    )
    try:
        return await (await provider.send(CALL, not_noted)).read()
    finally:
        await provider.close()
        assert provider.pool.busy == provider.pool.living == 0


async def failure_of(url: str, **settings: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await ask(url, **settings)
    return caught.value


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_an_address_that_is_not_public_is_known(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_a_public_address_is_known(address: str) -> None:
    assert not is_private(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "2130706433"])
def test_private_addresses_are_refused_unless_they_are_meant(host: str, run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"secret")]) as upstream:
            error = await failure_of(f"http://{host}:{upstream.port}", allow_private=False)
            assert error.fate in (Fate.REFUSED, Fate.DNS)
            if error.fate is Fate.REFUSED:
                assert "allow_private" in str(error)
            assert upstream.connections == 0

    run(story())


def test_a_name_is_reached_at_the_address_that_answers(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a")]) as upstream:
            assert await ask(f"http://localhost:{upstream.port}") == b"a"
            assert f"host: localhost:{upstream.port}" in upstream.heads[0].decode()

    run(story())


def test_a_redirect_is_an_answer_and_is_not_followed(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"x")]) as elsewhere:
            moved = answer(b"moved", status=307, headers=[f"location: {elsewhere.url}"])
            async with ScriptedSocket([moved]) as upstream:
                assert await ask(upstream.url) == b"moved"
            assert elsewhere.connections == 0

    run(story())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an own authority and two certificates of it, one for this host."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    (folder / "other").write_text("subjectAltName=DNS:elsewhere.example\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    for words in (
        ["req", "-x509", *key, "-subj", "/CN=Own", "-keyout", "ca.key", "-out", "ca.pem"],
        ["req", *key, "-subj", "/CN=localhost", "-keyout", "host.key", "-out", "host.csr"],
        ["x509", "-req", "-in", "host.csr", *signed, "-extfile", "names", "-out", "host.pem"],
        ["x509", "-req", "-in", "host.csr", *signed, "-extfile", "other", "-out", "other.pem"],
    ):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def served(certificates: Path) -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "host.pem", certificates / "host.key")
    context.set_alpn_protocols(["http/1.1"])
    return context


def test_an_own_authority_is_trusted_where_it_is_named(
    certificates: Path, served: ssl.SSLContext, run: Run
) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a" * 300_000)], tls=served) as upstream:
            ours = str(certificates / "ca.pem")
            assert await ask(upstream.url, ca_file=ours) == b"a" * 300_000
            named = f"https://localhost:{upstream.port}"
            assert await ask(named, ca_file=ours) == b"a" * 300_000

    run(story())


def test_an_unknown_authority_is_trusted_only_unseen(served: ssl.SSLContext, run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a")], tls=served) as upstream:
            error = await failure_of(upstream.url)
            assert error.fate is Fate.TLS
            assert upstream.heads == []
            assert await ask(upstream.url, verify_tls=False) == b"a"

    run(story())


def test_a_certificate_for_another_name_is_refused(certificates: Path, run: Run) -> None:
    async def story() -> None:
        other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        other.load_cert_chain(certificates / "other.pem", certificates / "host.key")
        async with ScriptedSocket([answer(b"a")], tls=other) as upstream:
            error = await failure_of(upstream.url, ca_file=str(certificates / "ca.pem"))
            assert error.fate is Fate.TLS
            assert "not valid for" in str(error)

    run(story())


def test_a_port_without_tls_is_a_tls_fault(run: Run) -> None:
    async def story() -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            assert (await failure_of(f"https://127.0.0.1:{port}")).fate is Fate.TLS
        await asyncio.sleep(0.01)

    run(story())


def test_a_port_that_closes_during_the_handshake_is_a_tls_fault(run: Run) -> None:
    async def story() -> None:
        async def slam(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(slam, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            assert (await failure_of(f"https://127.0.0.1:{port}")).fate is Fate.TLS
        await asyncio.sleep(0.01)

    run(story())


def test_a_handshake_that_never_ends_is_a_connect_timeout(run: Run) -> None:
    async def story() -> None:
        arrived = asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            arrived.set()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            brief = Timeouts(connect_seconds=0.1)
            error = await failure_of(f"https://127.0.0.1:{port}", timeouts=brief)
            assert error.fate is Fate.CONNECT_TIMEOUT
            await arrived.wait()

    run(story())


class Proxy:
    """A proxy that joins what CONNECT asks for, and remembers what it was asked."""

    def __init__(self, credentials: str = "", says: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self.asked: list[str] = []
        self._needs = base64.b64encode(credentials.encode()).decode()
        self._says = says
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            if self._needs and f"proxy-authorization: Basic {self._needs}" not in head:
                writer.write(b"HTTP/1.1 407 No\r\n\r\n")
            else:
                writer.write(self._says)
                host, _, port = head.split()[1].rpartition(":")
                there, out = await asyncio.open_connection(host, int(port))
                await asyncio.gather(self._join(reader, out), self._join(there, writer))
        writer.close()
        self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


def test_tls_goes_through_a_proxy_by_connect(served: ssl.SSLContext, run: Run) -> None:
    async def story() -> None:
        async with (
            ScriptedSocket([answer(b"a")], tls=served) as upstream,
            Proxy("me:p@ss") as proxy,
        ):
            through = f"http://me:p%40ss@127.0.0.1:{proxy.port}"
            assert await ask(upstream.url, proxy=through, verify_tls=False) == b"a"
            assert proxy.asked[0].startswith(f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.1\r\n")
            assert "sk-1" not in proxy.asked[0]
            assert "proxy-authorization" not in upstream.heads[0].decode()

    run(story())


@pytest.mark.parametrize("says", [b"HTTP/1.1 403 No\r\n\r\n", b"hm\r\n\r\n", b""])
def test_a_proxy_that_says_no_is_a_refusal(says: bytes, run: Run) -> None:
    async def story() -> None:
        async with Proxy(says=says) as proxy:
            through = f"http://127.0.0.1:{proxy.port}"
            error = await failure_of(f"https://127.0.0.1:{closed_port()}", proxy=through)
            assert error.fate is Fate.REFUSED
            assert "proxy" in str(error)

    run(story())


def test_a_proxy_that_wants_credentials_is_a_refusal_that_shows_none(run: Run) -> None:
    async def story() -> None:
        async with Proxy("me:right") as proxy:
            through = f"http://me:wrong@127.0.0.1:{proxy.port}"
            error = await failure_of("https://127.0.0.1:1", proxy=through)
            assert (error.fate, "407" in str(error)) == (Fate.REFUSED, True)
            assert "wrong" not in str(error)

    run(story())


def test_plain_http_asks_a_proxy_for_the_whole_url(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a")]) as proxy:
            through = f"http://me:pw@127.0.0.1:{proxy.port}"
            assert await ask("http://models.example/v1", proxy=through) == b"a"
            head = proxy.heads[0].decode()
            assert head.startswith("POST http://models.example/v1/chat/completions HTTP/1.1\r\n")
            assert "host: models.example\r\n" in head
            assert "proxy-authorization: Basic bWU6cHc=\r\n" in head

    run(story())


def test_the_environments_proxy_is_used_unless_something_speaks_against_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with (
            ScriptedSocket([answer(b"proxy")]) as proxy,
            ScriptedSocket([answer(b"direct")]) as upstream,
        ):
            monkeypatch.setenv("http_proxy", proxy.url)
            assert await ask(upstream.url) == b"proxy"
            assert await ask(upstream.url, proxy="direct") == b"direct"
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            assert await ask(upstream.url) == b"direct"

    run(story())


def test_behind_a_proxy_a_private_address_is_still_refused(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([answer(b"a")]) as proxy:
            settings = {"proxy": proxy.url, "allow_private": False}
            error = await failure_of("http://169.254.169.254/latest", **settings)
            assert (error.fate, proxy.connections) == (Fate.REFUSED, 0)
            assert await ask("http://models.example", **settings) == b"a"

    run(story())


def test_a_full_backlog_is_a_connect_timeout(run: Run) -> None:
    async def story() -> None:
        error = await failure_of(
            "http://127.0.0.1:9", proxy="", timeouts=Timeouts(connect_seconds=0.0)
        )
        assert error.fate in (Fate.CONNECT_TIMEOUT, Fate.REFUSED)
        assert not error.fate.sent

    run(story())


def test_the_end_of_a_hanging_upstream_is_no_leak(run: Run) -> None:
    async def story() -> None:
        async with ScriptedSocket([Then.HANG]) as upstream:
            brief = Timeouts(first_byte_seconds=0.03)
            assert (await failure_of(upstream.url, timeouts=brief)).fate is Fate.FIRST_BYTE_TIMEOUT
            await upstream.quiet()

    run(story())
