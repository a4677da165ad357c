"""Sends what waits to be told, in the order in which it happened, until it has arrived."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from stillhouse.core.serving import Notice

AT_ONCE = 100
SOONEST_US = 5 * 10**6
LATEST_US = 3600 * 10**6


class Outbox(Protocol):
    """Where notices wait."""

    def undelivered(self, limit: int, now_us: int) -> Iterable[Notice]:
        """Notices that are due, the oldest first."""
        ...

    def notice_delivered(self, notice_id: str, at_us: int) -> None:
        """A notice has arrived."""
        ...

    def notice_failed(self, notice_id: str, again_us: int) -> None:
        """A notice has not arrived, and is due again at an instant."""
        ...


async def deliver_due(
    outbox: Outbox, send: Callable[[Notice], Awaitable[bool]], now_us: Callable[[], int]
) -> int:
    """Send the notices that are due; how many arrived.

    After one that did not arrive the rest waits for the next time: its receiver is probably away.
    """
    arrived = 0
    for notice in list(outbox.undelivered(AT_ONCE, now_us())):
        if not await send(notice):
            outbox.notice_failed(notice.notice_id, again_us(notice, now_us()))
            break
        outbox.notice_delivered(notice.notice_id, now_us())
        arrived += 1
    return arrived


def again_us(notice: Notice, now_us: int) -> int:
    """When to send a notice again: after as long as it is old, so that the pauses double.

    >>> n = Notice("n", "raised", "t", 1, "", at_us=0)
    >>> [again_us(n, now * 10**6) // 10**6 for now in (0, 5, 10, 20, 86400)]
    [5, 10, 20, 40, 90000]
    """
    return now_us + min(max(now_us - notice.at_us, SOONEST_US), LATEST_US)
