"""Requests that are no model calls: read whole, answered whole, found by method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from stillhouse.core.errors import CallerError
from stillhouse.gateway.caller import Send


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of(cls, content: object, status: int = 200) -> Answer:
        """JSON."""
        return cls(status, msgspec.json.encode(content))

    async def send(self, send: Send) -> None:
        """Give it."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class RefusedError(CallerError):
    """A request that is answered with a status of its own, and with further header fields."""

    def __init__(
        self, status: int, sentence: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers


@dataclass(frozen=True, slots=True)
class Question:
    """A request with its body; `rest` is what a path ending in `*` left over."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)
    client: str = ""
    rest: str = ""

    def header(self, name: bytes) -> bytes:
        """The first field of this name, empty where there is none."""
        return next((value for field, value in self.headers if field == name), b"")

    def asked(self, name: str, default: str = "") -> str:
        """A value of the query string."""
        try:
            query = self.query.decode("ascii")
            values = parse_qs(query, keep_blank_values=True, max_num_fields=32).get(name)
        except (UnicodeDecodeError, ValueError) as broken:
            raise CallerError(f"the query string cannot be read: {broken}") from broken
        return values[0] if values else default

    def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        try:
            content = msgspec.json.decode(self.body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
            raise CallerError(f"the body is not JSON: {broken}") from broken
        if not isinstance(content, dict):
            raise CallerError("the body is JSON, but no object")
        return content


Handler = Callable[[Question], Awaitable[Answer]]


class Table:
    """Handlers by method and path; a path that ends in `*` takes whatever follows."""

    def __init__(self, rows: Mapping[tuple[str, str], Handler]) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        self._open: list[tuple[str, dict[str, Handler]]] = []
        for (method, path), handler in rows.items():
            if path.endswith("*"):
                known = next((found for head, found in self._open if head == path[:-1]), None)
                if known is None:
                    known = {}
                    self._open.append((path[:-1], known))
                known[method] = handler
            else:
                self._exact.setdefault(path, {})[method] = handler
        self._open.sort(key=lambda row: -len(row[0]))

    def find(self, method: str, path: str) -> tuple[Handler | None, str, tuple[str, ...]]:
        """The handler, what a `*` stood for, and the methods that the path has; none: 404."""
        methods, rest = self._exact.get(path), ""
        if methods is None:
            for head, found in self._open:
                if path.startswith(head) and len(path) > len(head):
                    methods, rest = found, path[len(head) :]
                    break
        if methods is None:
            return None, "", ()
        wanted = "GET" if method == "HEAD" and "HEAD" not in methods else method
        return methods.get(wanted), rest, tuple(sorted(methods))
