"""Opens connections: names resolved and checked, proxies gone through, TLS spoken."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import Upstream
from stillhouse.core.errors import ConfigError, UpstreamError

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)
_Address = tuple[int, tuple[Any, ...]]
_ANSWER_OF_A_PROXY = 16 * 1024
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")
"""Where all public IPv6 addresses lie; what else there is wraps others, or is for nearby."""


class Place(NamedTuple):
    """Where an upstream is: `target` is the base URL's path, `query` is added to every path."""

    secure: bool
    host: str
    port: int
    target: str
    query: str

    @property
    def authority(self) -> str:
        """The value of `host`: the port is named where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


class ForwardProxy(NamedTuple):
    """An HTTP proxy; `credentials` is the value of `proxy-authorization`, or empty."""

    host: str
    port: int
    credentials: str


def place_of(upstream: Upstream) -> Place:
    """Read an upstream's base URL.

    >>> place_of(Upstream("a", base_url="https://api.example.com/v1"))
    Place(secure=True, host='api.example.com', port=443, target='/v1', query='')
    """
    parts = _split(upstream, upstream.base_url, "base_url")
    if parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"upstream {upstream.name} has a base_url of the scheme {parts.scheme!r}; "
            "write http:// or https://"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"upstream {upstream.name} has credentials in its base_url; name the key in key_env"
        )
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    target = parts.path.rstrip("/")
    return Place(secure, _ascii_host(upstream, parts), port, target, parts.query)


def proxy_for(upstream: Upstream, place: Place) -> ForwardProxy | None:
    """The proxy that calls go through: the configured one, else the environment's.

    `proxy = "direct"` goes without, whatever HTTP_PROXY and HTTPS_PROXY say; NO_PROXY holds for
    proxies of the environment alone.
    """
    address = upstream.proxy
    if address == "direct":
        return None
    if not address:
        address = getproxies_environment().get("https" if place.secure else "http", "")
        if not address or proxy_bypass(f"{place.host}:{place.port}"):
            return None
    if "://" not in address:
        address = f"http://{address}"
    parts = _split(upstream, address, "proxy")
    if parts.scheme != "http":
        raise ConfigError(
            f"upstream {upstream.name} has a proxy of the scheme {parts.scheme!r}; "
            "only proxies that are spoken to by http:// are known"
        )
    credentials = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = "Basic " + base64.b64encode(pair.encode()).decode()
    return ForwardProxy(_ascii_host(upstream, parts), parts.port or 80, credentials)


def tls_for(upstream: Upstream) -> ssl.SSLContext:
    """The TLS settings of an upstream: the system's trust, or its `ca_file` alone."""
    try:
        return _context(upstream.verify_tls, upstream.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"upstream {upstream.name} has the ca_file {upstream.ca_file!r}, which cannot be read "
            f"({error}); give a file of PEM certificates"
        ) from error


@lru_cache(maxsize=64)
def _context(verify: bool, ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialler:
    """Opens connections to one upstream.

    Without `allow_private` only public addresses are connected to: the address that was checked is
    the one that is used, so a name that resolves otherwise a moment later gains nothing. A proxy
    is the operator's choice and is not checked; behind it the proxy resolves the name, and only an
    upstream that is written as an address can be judged here.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.place = place_of(upstream)
        self.proxy = proxy_for(upstream, self.place)
        self._name = upstream.name
        self._seconds = upstream.timeouts.connect_seconds
        self._allow_private = upstream.allow_private
        self._tls = tls_for(upstream) if self.place.secure else None

    async def dial(self, make: Callable[[], _Protocol]) -> _Protocol:
        """Open a connection for a protocol that `make` gives; UpstreamError, nothing sent."""
        try:
            async with asyncio.timeout(self._seconds):
                sock = await self._reach()
                try:
                    if self.proxy is not None and self.place.secure:
                        await self._tunnel(sock, self.proxy)
                except BaseException:
                    sock.close()
                    raise
                return await self._speak(sock, make)
        except TimeoutError:
            raise UpstreamError(
                Fate.CONNECT_TIMEOUT,
                f"upstream {self._name} could not be connected to within {self._seconds:g} s "
                "(timeouts.connect_seconds)",
            ) from None

    async def _reach(self) -> socket.socket:
        """A TCP connection to the upstream or its proxy."""
        if self.proxy is not None:
            if not self._allow_private:
                with suppress(ValueError):
                    self._refuse_private([self.place.host])
            addresses = await self._resolve(self.proxy.host, self.proxy.port)
        else:
            addresses = await self._resolve(self.place.host, self.place.port)
            if not self._allow_private:
                public = [a for a in addresses if not is_private(str(a[1][0]))]
                if not public:
                    self._refuse_private([str(address[0]) for _, address in addresses])
                addresses = public
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        failure: OSError | None = None
        for left, (family, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                async with asyncio.timeout((deadline - loop.time()) / left):
                    return await _connect(loop, family, address)
            except TimeoutError:
                if left == 1:
                    raise
            except OSError as error:
                failure = error
        raise self._refused(failure)

    def _refused(self, failure: OSError | None) -> UpstreamError:
        where = "its proxy" if self.proxy is not None else f"port {self.place.port}"
        why = failure.strerror if failure is not None and failure.strerror else "no address"
        return UpstreamError(
            Fate.REFUSED, f"upstream {self._name} refused the connection to {where}: {why}"
        )

    def _refuse_private(self, hosts: list[str]) -> None:
        for host in hosts:
            if is_private(host):
                raise UpstreamError(
                    Fate.REFUSED,
                    f"upstream {self._name} is at {host}, which is no public address; "
                    "set allow_private = true if it is meant",
                )

    async def _resolve(self, host: str, port: int) -> list[_Address]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
        except (OSError, UnicodeError) as error:
            raise UpstreamError(
                Fate.DNS,
                f"upstream {self._name} has the host {host!r}, which no name server knows "
                f"({getattr(error, 'strerror', None) or error}); check base_url and proxy",
            ) from error
        return [(family, address) for family, _, _, _, address in found]

    async def _tunnel(self, sock: socket.socket, proxy: ForwardProxy) -> None:
        """Ask a proxy for a way through to the upstream (CONNECT)."""
        loop = asyncio.get_running_loop()
        place = self.place
        target = f"[{place.host}]" if ":" in place.host else place.host
        lines = [f"CONNECT {target}:{place.port} HTTP/1.1", f"host: {target}:{place.port}"]
        if proxy.credentials:
            lines.append(f"proxy-authorization: {proxy.credentials}")
        answer = b""
        try:
            await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode("latin-1"))
            while b"\r\n\r\n" not in answer and len(answer) < _ANSWER_OF_A_PROXY:
                data = await loop.sock_recv(sock, 4096)
                if not data:
                    break
                answer += data
        except OSError as error:
            raise self._refused(error) from error
        head, ended, rest = answer.partition(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0].split(b" ", 2)[1:2]
        if not ended or rest or status != [b"200"]:
            said = status[0][:3].decode("latin-1") if status else "nothing"
            raise UpstreamError(
                Fate.REFUSED,
                f"the proxy of upstream {self._name} answered {said!r} to CONNECT; "
                "check its address, its credentials and what it lets through",
            )

    async def _speak(self, sock: socket.socket, make: Callable[[], _Protocol]) -> _Protocol:
        """Put the protocol on a connected socket, by TLS where the upstream has it."""
        loop = asyncio.get_running_loop()
        try:
            if self._tls is None:
                _, protocol = await loop.create_connection(make, sock=sock)
            else:
                _, protocol = await loop.create_connection(
                    make, sock=sock, ssl=self._tls, server_hostname=self.place.host
                )
        except ssl.SSLCertVerificationError as error:
            raise self._untrusted(error.verify_message) from error
        except (OSError, EOFError) as error:
            sock.close()
            raise self._untrusted(getattr(error, "reason", None) or str(error)) from error
        except BaseException:
            sock.close()
            raise
        return protocol

    def _untrusted(self, why: str) -> UpstreamError:
        return UpstreamError(
            Fate.TLS,
            f"upstream {self._name} could not be spoken to by TLS ({why}); "
            "check base_url, ca_file and the certificate's names",
        )


async def _connect(
    loop: asyncio.AbstractEventLoop, family: int, address: tuple[Any, ...]
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def is_private(host: str) -> bool:
    """Whether an IP address is no public one; addresses inside other addresses are unwrapped.

    >>> [is_private(a) for a in ("8.8.8.8", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1")]
    [False, True, True, True]
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is not None:
            return is_private(str(inner))
        if address not in _UNICAST:
            return True
    return not address.is_global or address.is_multicast


def _split(upstream: Upstream, url: str, setting: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(
            f"upstream {upstream.name} has a {setting} that is no URL ({error})"
        ) from error
    if not parts.hostname or port == 0:
        raise ConfigError(
            f"upstream {upstream.name} has a {setting} without a host; write https://host/path"
        )
    return parts


def _ascii_host(upstream: Upstream, parts: SplitResult) -> str:
    host = parts.hostname or ""
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ConfigError(f"upstream {upstream.name} has the host {host!r}: {error}") from error
