"""Builds the head of a request: what every call says alike is put together once."""

from __future__ import annotations

import re

from stillhouse import __version__
from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import CallerError, ConfigError
from stillhouse.providers.dialling import ForwardProxy, Place

_Fields = tuple[tuple[bytes, bytes], ...]

ANTHROPIC_VERSION = b"2023-06-01"
_PATH = re.compile(r"/[!-~]*")
_BODILESS = ("GET", "HEAD", "DELETE")
_METHOD = re.compile(r"[A-Z]{1,16}")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset(
    (
        b"accept-encoding",
        b"authorization",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-api-key",
        b"x-stillhouse-attempt",
    )
)
"""Fields of one connection, of who pays, and our own: never taken from a caller's headers."""
_MOST_KEPT = 1024
_LONGEST_KEPT = 4096
"""Heads that are kept, and bytes of one: callers say what is in them."""


class Heads:
    """Request heads for one upstream."""

    def __init__(
        self, upstream: Upstream, place: Place, proxy: ForwardProxy | None, key: str | None
    ) -> None:
        self._upstream = upstream
        self._place = place
        self._key = key or ""
        self._origin = ""
        self._fixed = [(b"host", place.authority.encode("ascii"))]
        if proxy is not None and not place.secure:
            self._origin = f"http://{place.authority}"
            if proxy.credentials:
                self._fixed.append((b"proxy-authorization", proxy.credentials.encode("ascii")))
        self._own = [_checked(upstream, n, v) for n, v in upstream.headers.items()]
        self._bare: dict[tuple[str, str, Wire], tuple[bytes, frozenset[bytes]]] = {}
        self._kept: dict[tuple[str, str, Wire, _Fields], bytes] = {}
        if key and not _VALUE.fullmatch(key.encode()):
            raise ConfigError(
                f"the key of upstream {upstream.name} holds a control character; "
                f"set {upstream.key_env or 'it'} without line breaks"
            )

    def secret(self, call: UpstreamCall) -> bytes:
        """The key that goes out with a call; empty where none does."""
        passes = call.caller_key and self._upstream.pass_caller_key
        return (call.caller_key if passes else self._key).encode("utf-8")

    def head(self, call: UpstreamCall) -> bytes:
        """The bytes of a call before its body."""
        if call.caller_key and self._upstream.pass_caller_key:
            start, _ = self._compose(call, call.caller_key, call.headers)
        else:
            said = (call.method, call.path, call.wire, call.headers)
            start = self._kept.get(said) or self._remember(said, call)
        rest = "\r\n"
        if call.body or call.method not in _BODILESS:
            rest = f"content-length: {len(call.body)}\r\n\r\n"
        attempt_id = call.attempt_id
        if attempt_id:  # the one field that no two calls share
            if not attempt_id.isprintable():
                raise CallerError(f"the attempt {attempt_id[:40]!r} holds what no header may have")
            rest = f"x-stillhouse-attempt: {attempt_id}\r\n{rest}"
        return start + rest.encode()

    def _remember(self, said: tuple[str, str, Wire, _Fields], call: UpstreamCall) -> bytes:
        """Put the part of a head together that does not differ with each call, and keep it."""
        start = self._start(call)
        if len(start) <= _LONGEST_KEPT:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[said] = start
        return start

    def _start(self, call: UpstreamCall) -> bytes:
        """A caller's headers behind those of every call, unless one replaces one of these."""
        known = (call.method, call.path, call.wire)
        bare = self._bare.get(known)
        if bare is None:
            bare = self._compose(call, self._key, ())
            if len(self._bare) >= _MOST_KEPT:
                self._bare.clear()
            self._bare[known] = bare
        start, names = bare
        for name, value in call.headers:
            if name in names:
                return self._compose(call, self._key, call.headers)[0]
            if _may_pass(name, value):
                start += name + b": " + value + b"\r\n"
        return start

    def _compose(
        self, call: UpstreamCall, key: str, headers: _Fields
    ) -> tuple[bytes, frozenset[bytes]]:
        """A head without its length and its end, and the names of the fields in it."""
        fields = dict(self._fixed)
        fields[b"accept-encoding"] = b"identity"
        fields[b"user-agent"] = b"stillhouse/" + __version__.encode("ascii")
        if call.method not in _BODILESS:
            fields[b"content-type"] = b"application/json"
        fields.update(self._credentials(call.wire, key))
        fields.update(self._own)
        fields.update((name, value) for name, value in headers if _may_pass(name, value))
        lines = [self._request_line(call)]
        lines += [name + b": " + value for name, value in fields.items()]
        return b"\r\n".join([*lines, b""]), frozenset(fields)

    def _request_line(self, call: UpstreamCall) -> bytes:
        if not _METHOD.fullmatch(call.method) or not _PATH.fullmatch(call.path):
            raise CallerError(
                f"{call.method[:20]!r} {call.path[:80]!r} cannot be asked for; a path begins "
                "with / and holds no spaces or control characters"
            )
        path = self._origin + self._place.target + call.path
        if self._place.query:
            path += ("&" if "?" in call.path else "?") + self._place.query
        return f"{call.method} {path} HTTP/1.1".encode("ascii")

    def _credentials(self, wire: Wire, key: str) -> dict[bytes, bytes]:
        secret = key.encode("utf-8")
        if not _VALUE.fullmatch(secret):
            raise CallerError("the provider key holds characters that no header may have")
        if wire is Wire.MESSAGES:
            version = {b"anthropic-version": ANTHROPIC_VERSION}
            if key and self._upstream.options.get("auth") == "bearer":
                return {**version, b"authorization": b"Bearer " + secret}
            return {**version, b"x-api-key": secret} if key else version
        return {b"authorization": b"Bearer " + secret} if key else {}


def _may_pass(name: bytes, value: bytes) -> bool:
    """Whether a caller's header goes upstream; CallerError where it cannot be written safely."""
    if name in _OURS:
        return False
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise CallerError(f"the header {name[:40]!r} holds characters that no header may have")
    return True


def _checked(upstream: Upstream, name: str, value: str) -> tuple[bytes, bytes]:
    """A configured header, safe to write; its value is never repeated in an error."""
    field, content = name.strip().lower().encode("utf-8"), value.strip().encode("utf-8")
    framing = field in _OURS - {b"authorization", b"x-api-key"}
    if framing or not _NAME.fullmatch(field) or not _VALUE.fullmatch(content):
        raise ConfigError(
            f"upstream {upstream.name} sets the header {name[:40]!r}, which cannot be sent; "
            "take it out, or mend its name and value"
        )
    return field, content
