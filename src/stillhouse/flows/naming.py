"""Callers that are told who answered, and callers whose failure is held back for a while."""

from __future__ import annotations

from asyncio import Task
from collections.abc import Callable
from typing import Any

from stillhouse.core.calls import Done, Headers
from stillhouse.flows.house import Caller

ANSWERED_BY = b"x-stillhouse-answered-by"
TEACHER = (ANSWERED_BY, b"teacher")

FAILURE, OUTAGE = 400, 500
"""Where failures begin; and those that are the teacher's, and nothing that a caller could mend."""


class Naming:
    """A caller whose answer says who gave it, in a header field."""

    def __init__(self, caller: Caller, field: tuple[bytes, bytes]) -> None:
        self._caller, self._field = caller, field

    @property
    def gone(self) -> bool:
        """Whether the caller has hung up."""
        return self._caller.gone

    @property
    def push(self) -> Callable[[bytes], bool] | None:
        """As the caller's own."""
        return self._caller.push

    async def ready(self) -> None:
        """Wait until a slow caller reads again."""
        await self._caller.ready()

    def interrupt(self, task: Task[Any] | None) -> None:
        """Which task to cancel when the caller goes."""
        self._caller.interrupt(task)

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Give a whole answer; a failure is nobody's."""
        named = [*headers, self._field] if status < FAILURE else headers
        await self._caller.whole(status, named, body)

    async def begin(self, status: int, headers: Headers) -> None:
        """Begin a stream."""
        await self._caller.begin(status, [*headers, self._field])

    async def piece(self, chunk: bytes) -> None:
        """Pass a piece on."""
        await self._caller.piece(chunk)

    async def end(self, chunk: bytes) -> None:
        """End a stream."""
        await self._caller.end(chunk)


class Holding(Naming):
    """A caller that is not told of a failure yet: `held`, until it is released.

    A stream that breaks off after its beginning is none: the caller has seen it.
    """

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller, TEACHER)
        self.held: tuple[int, Headers, bytes] | None = None

    @property
    def outage(self) -> bool:
        """Whether what is held is the teacher's failure, and not the caller's."""
        return self.held is not None and self.held[0] >= OUTAGE

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Give a whole answer, but hold a failure back."""
        if status >= FAILURE:
            self.held = (status, headers, body)
        else:
            await super().whole(status, headers, body)

    async def release(self) -> None:
        """Tell the caller after all."""
        if self.held is not None:
            await self._caller.whole(*self.held)


class _Unwatched:
    def done(self, done: Done) -> None:
        """Hear nothing."""


UNWATCHED = _Unwatched()
"""A watch that hears nothing."""
