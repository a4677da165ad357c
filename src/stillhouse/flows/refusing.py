"""What a caller is told where there is no answer: in one sentence, in its own wire format."""

from __future__ import annotations

from typing import NamedTuple

from stillhouse.core.calls import Headers
from stillhouse.core.errors import CallerError, StillhouseError
from stillhouse.dialects.faults import error_body
from stillhouse.flows.house import Asked, Caller

JSON = (b"content-type", b"application/json")
_NO_RETRY = (b"x-should-retry", b"false")
SDK_PATIENCE_SECONDS = 60.0
"""The vendors' SDKs take no longer Retry-After to heart, and would ask again within seconds."""


class Refusal(NamedTuple):
    """An answer that is a failure: what the caller is told, in the caller's own wire format."""

    status: int
    kind: str
    sentence: str
    retry_after_seconds: float | None = None
    refused_by: str = ""


def said(failed: StillhouseError) -> Refusal:
    """What a caller is told of a failure of ours or of theirs."""
    if isinstance(failed, CallerError):
        return Refusal(400, "invalid_request", str(failed))
    return Refusal(503, "overloaded", str(failed))


def when_to_ask_again(status: int, after_seconds: float | None) -> Headers:
    """The header fields that say when asking again may help, and to the vendors' SDKs if at all.

    >>> when_to_ask_again(429, 2.0)
    [(b'retry-after', b'2')]
    >>> when_to_ask_again(429, None), when_to_ask_again(400, None)
    ([(b'x-should-retry', b'false')], [])
    """
    headers: Headers = []
    if after_seconds is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(after_seconds + 0.5))))
    if status == 429 and (after_seconds is None or after_seconds > SDK_PATIENCE_SECONDS):
        headers.append(_NO_RETRY)
    return headers


async def tell(caller: Caller, asked: Asked, refusal: Refusal) -> None:
    """Give a caller a failure in its own wire format."""
    body = error_body(asked.ask.wire, refusal.status, refusal.kind, refusal.sentence)
    headers: Headers = [
        JSON,
        (b"content-length", b"%d" % len(body)),
        (b"x-stillhouse-exchange", asked.exchange_id.encode()),
    ]
    headers += when_to_ask_again(refusal.status, refusal.retry_after_seconds)
    await caller.whole(refusal.status, headers, body)
