"""Tells a web address of notices: signed, once each as far as the receiver cares, no redirects."""

from __future__ import annotations

import hashlib
import hmac
import string
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import msgspec

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Timeouts, Upstream, Wire
from stillhouse.core.errors import UpstreamError
from stillhouse.core.serving import Notice
from stillhouse.providers.http import HttpProvider

TIMEOUTS = Timeouts(connect_seconds=5.0, first_byte_seconds=10.0, total_seconds=10.0)
SECOND_US = 10**6
_PLAIN = string.punctuation + " "


def notice_facts(notice: Notice) -> dict[str, object]:
    """A notice as plain values, the same each time it is told."""
    at = datetime.fromtimestamp(notice.at_us // SECOND_US, UTC)
    return {
        "id": notice.notice_id,
        "kind": notice.kind,
        "task": notice.task,
        "version": notice.version,
        "sentence": notice.sentence,
        "at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "facts": dict(notice.facts),
    }


def notice_body(notice: Notice) -> bytes:
    """A notice as JSON, the same bytes each time it is sent.

    >>> print(notice_body(Notice("n1", "raised", "intent", 2, "Stricter.", 0)).decode())
    {"id":"n1","kind":"raised","task":"intent","version":2,"sentence":"Stricter.",\
"at":"1970-01-01T00:00:00Z","facts":{}}
    """
    return msgspec.json.encode(notice_facts(notice))


def signature(body: bytes, secret: str, at_seconds: int) -> str:
    """What proves who sent a body, and when: HMAC-SHA256 of the time, a full stop and the body.

    >>> signature(b"{}", "secret", 1)[:14]
    't=1,v1=1122767'
    """
    signed = b"%d." % at_seconds + body
    return f"t={at_seconds},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


class Webhook:
    """Sends notices to one address; what it answers with is not read, only whether it is a 2xx.

    Without `allow_private` only public addresses are connected to. `fault` is told, in one
    sentence without a secret, why a notice did not arrive. Use it from one event loop.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        now_us: Callable[[], int],
        *,
        allow_private: bool = False,
        fault: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        parts = urlsplit(url)
        self._path = parts.path or "/"
        self._secret, self._now_us, self._fault = secret, now_us, fault
        self._provider = HttpProvider(
            Upstream(
                "webhook",
                base_url=f"{parts.scheme}://{parts.netloc}",
                timeouts=TIMEOUTS,
                max_concurrency=4,
                allow_private=allow_private,
            )
        )

    async def deliver(self, notice: Notice) -> bool:
        """Send a notice; False where it did not arrive or was not accepted: send it again later."""
        body = notice_body(notice)
        headers = [
            (b"x-stillhouse-event", notice.kind.encode()),
            (b"idempotency-key", quote(notice.notice_id, safe=_PLAIN).encode()),
        ]
        if self._secret:
            signed = signature(body, self._secret, self._now_us() // SECOND_US)
            headers.append((b"x-stillhouse-signature", signed.encode()))
        call = UpstreamCall(Wire.CHAT, "POST", self._path, "", body, headers=tuple(headers))
        try:
            reply = await self._provider.send(call, lambda: None)
        except UpstreamError as failed:
            self._fault(f"notice {notice.notice_id} was not delivered: {failed}")
            return False
        reply.cancel()
        if not 200 <= reply.status < 300:
            self._fault(
                f"notice {notice.notice_id} was answered with status {reply.status}; a receiver "
                "says 200, and redirects are not followed"
            )
            return False
        return True

    async def close(self) -> None:
        """Let the connections go."""
        await self._provider.close()
