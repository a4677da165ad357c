from __future__ import annotations

import asyncio
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.serving import Notice
from stillhouse.flows.notices import LATEST_US, SOONEST_US, again_us, deliver_due

NOW = 10**12


def notice(name: str, at_us: int = NOW) -> Notice:
    return Notice(name, "raised", "t", 1, "Stricter.", at_us)


class Waiting:
    """An outbox in memory."""

    def __init__(self, *waiting: Notice) -> None:
        self.due = {one.notice_id: (one.at_us, one) for one in waiting}

    def undelivered(self, limit: int, now_us: int) -> Iterable[Notice]:
        return [one for at_us, one in self.due.values() if at_us <= now_us][:limit]

    def notice_delivered(self, notice_id: str, at_us: int) -> None:
        del self.due[notice_id]

    def notice_failed(self, notice_id: str, again_us: int) -> None:
        self.due[notice_id] = (again_us, self.due[notice_id][1])


class Receiver:
    """Accepts all but some."""

    def __init__(self, *refused: str) -> None:
        self.refused = {*refused}
        self.seen: list[str] = []

    async def __call__(self, told: Notice) -> bool:
        self.seen.append(told.notice_id)
        return told.notice_id not in self.refused


def deliver(outbox: Waiting, receiver: Receiver, now_us: int = NOW) -> int:
    return asyncio.run(deliver_due(outbox, receiver, lambda: now_us))


def test_what_is_due_is_sent_once_in_order() -> None:
    outbox, receiver = Waiting(notice("a"), notice("b"), notice("c", NOW + 1)), Receiver()
    assert deliver(outbox, receiver) == 2
    assert deliver(outbox, receiver) == 0
    assert receiver.seen == ["a", "b"]
    assert [*outbox.due] == ["c"]


def test_after_a_failure_the_rest_waits_for_the_next_time_and_the_failed_one_longer() -> None:
    outbox, receiver = Waiting(notice("a"), notice("b")), Receiver("a")
    assert deliver(outbox, receiver) == 0
    assert receiver.seen == ["a"]
    assert deliver(outbox, receiver, NOW + 1) == 1
    assert receiver.seen == ["a", "b"]
    receiver.refused.clear()
    assert deliver(outbox, receiver, NOW + SOONEST_US) == 1
    assert outbox.due == {}


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_notice_is_never_sent_again_at_once_nor_later_than_in_an_hour(at: int, now: int) -> None:
    pause = again_us(notice("a", at), now) - now
    assert SOONEST_US <= pause <= LATEST_US
