"""Whether the endpoint lives, whether it can take calls, and what it has counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Protocol

from stillhouse.gateway.door import Door
from stillhouse.gateway.http import Answer, Question, RefusedError

_HANDED_ON = (b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip")
"""What proxies add to a request of somebody else."""


class Counted(Protocol):
    """Renders what was counted."""

    def render(self, accept: str = "") -> tuple[bytes, bytes]:
        """Content type and body."""
        ...


class Probes:
    """GET /healthz, /readyz and /metrics."""

    def __init__(
        self, faults: Callable[[], Mapping[str, str]], counted: Counted | None, door: Door
    ) -> None:
        self._faults, self._counted, self._door = faults, counted, door

    async def health(self, asked: Question) -> Answer:
        """The process answers."""
        return Answer.of({"status": "ok"})

    async def ready(self, asked: Question) -> Answer:
        """Calls can be taken; 503 with what stands in the way where they cannot."""
        faults = self._faults()
        if faults:
            return Answer.of({"status": "not ready", "faults": faults}, 503)
        return Answer.of({"status": "ready"})

    async def metrics(self, asked: Question) -> Answer:
        """Prometheus text; for callers on this machine, and for admin keys from anywhere."""
        if self._counted is None:
            raise RefusedError(404, "metrics are switched off; set enabled under [metrics]")
        visitor = self._door.enter(asked.headers)  # refuses a page that calls by another name
        near = _is_loopback(asked.client)
        if near and any(name in _HANDED_ON for name, _ in asked.headers):
            near = False  # it is a proxy that is near
        if not near and (visitor is None or not visitor.key.admin):
            raise RefusedError(403, "metrics are for this machine, and for admin keys")
        kind, body = self._counted.render(asked.header(b"accept").decode("latin-1"))
        return Answer(200, body, kind)


def _is_loopback(client: str) -> bool:
    """Whether a peer is on this machine; a Unix socket has no address.

    >>> _is_loopback("127.0.0.1"), _is_loopback("10.0.0.7")
    (True, False)
    """
    if not client:
        return True
    try:
        return ip_address(client).is_loopback
    except ValueError:
        return False
