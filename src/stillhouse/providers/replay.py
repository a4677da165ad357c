"""Answers from recorded traffic: the same question gets the answers that were recorded for it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import CallerError, ConfigError
from stillhouse.core.ports import Reply
from stillhouse.core.traffic import Completion, Request, Usage
from stillhouse.providers.canned import (
    EVENTS,
    JSON,
    CannedReply,
    models,
    refusal,
    streams,
    told,
)

ReadRequest = Callable[[bytes, Wire], Request]
_CONVERSATIONS = (Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES)
_SYSTEM = frozenset(("system", "developer"))


class RecordedCall(NamedTuple):
    """One call of a log, as it is played again; `usage` is None where the log holds no counts."""

    request: Request
    completion: Completion
    model: str = ""
    usage: Usage | None = None
    latency_ms: float | None = None


class _Answer(NamedTuple):
    completion: Completion
    model: str
    usage: Usage | None
    latency_ms: float | None


class Recordings:
    """An index of recorded answers: of questions it keeps a digest each, no text.

    Equal answers are kept once, so a log of labels is small whatever its questions' length.
    """

    def __init__(self, calls: Iterable[RecordedCall]) -> None:
        self._answers: dict[bytes, list[_Answer]] = {}
        same: dict[Completion, Completion] = {}
        names: dict[str, str] = {}
        counts: dict[Usage, Usage] = {}
        for call in calls:
            answer = _Answer(
                same.setdefault(call.completion, call.completion),
                names.setdefault(call.model, call.model),
                None if call.usage is None else counts.setdefault(call.usage, call.usage),
                call.latency_ms,
            )
            self._answers.setdefault(digest(call.request), []).append(answer)
        self._places = dict.fromkeys(self._answers, 0)
        self._in_turn = itertools.cycle(a for answers in self._answers.values() for a in answers)
        self.models = tuple(sorted(name for name in names if name))

    def __len__(self) -> int:
        return sum(map(len, self._answers.values()))

    def next_for(self, request: Request) -> _Answer | None:
        """The next answer to a question, from the first again after the last; None if unknown."""
        key = digest(request)
        answers = self._answers.get(key)
        if answers is None:
            return None
        place = self._places[key]
        self._places[key] = (place + 1) % len(answers)
        return answers[place]

    def any(self) -> _Answer | None:
        """The next of all answers, in turn; None where nothing was recorded."""
        return next(self._in_turn, None)


def digest(request: Request) -> bytes:
    """What makes two questions the same: roles and texts of their turns, in order.

    System and developer turns are one, since the dialects name them differently.

    >>> from stillhouse.core.traffic import Message
    >>> digest(Request((Message("developer", "Sort."),))) == digest(
    ...     Request((Message("system", "Sort."),))
    ... )
    True
    """
    hashed = hashlib.blake2b(digest_size=16)
    for turn in request.messages:
        role = "system" if turn.role in _SYSTEM else turn.role
        for part in (role.encode(), turn.text.encode("utf-8", "surrogatepass")):
            hashed.update(len(part).to_bytes(8, "big") + part)
    return hashed.digest()


class ReplayProvider:
    """Stands in for the upstreams of a log.

    `read_request` parses a body as the log's reader did. `latency` of 1 waits as long as was
    recorded (a stream spreads it over its events), 0 not at all, 0.5 half. A question that is not
    in the log gets a 404; with `unknown` of `cycle` it gets the recorded answers in turn.
    """

    def __init__(
        self,
        upstream: Upstream,
        recordings: Recordings,
        read_request: ReadRequest,
        *,
        latency: float = 1.0,
        unknown: str = "refuse",
    ) -> None:
        if unknown not in ("refuse", "cycle"):
            raise ConfigError(
                f"upstream {upstream.name} has unknown = {unknown!r}; use 'refuse' or 'cycle'"
            )
        if latency < 0:
            raise ConfigError(f"upstream {upstream.name} has the latency {latency}; use 0 or more")
        self._upstream = upstream
        self._recordings = recordings
        self._read_request = read_request
        self._latency = latency
        self._cycle = unknown == "cycle"
        self._ids = itertools.count(1)

    async def send(
        self, call: UpstreamCall, sending: Callable[[], Awaitable[None] | None]
    ) -> Reply:
        """Answer from the record."""
        waited = sending()
        if waited is not None:
            await waited
        if call.method == "GET" and call.path == "/models":
            return CannedReply(200, [JSON], [models(self._recordings.models)])
        if call.method != "POST" or call.wire not in _CONVERSATIONS or "count" in call.path:
            return refusal(call.wire, 404, "not_recorded", "a log holds conversations alone")
        try:
            request = self._read_request(call.body, call.wire)
        except CallerError as error:
            return refusal(call.wire, 400, "unreadable", str(error))
        answer = self._recordings.next_for(request)
        if answer is None and self._cycle:
            answer = self._recordings.any()
        if answer is None:
            return refusal(
                call.wire,
                404,
                "not_recorded",
                "the log holds no answer to this conversation; ask what was recorded, or let "
                'unknown ones have the recorded answers in turn (unknown = "cycle")',
            )
        return await self._tell(call, answer)

    async def close(self) -> None:
        """Nothing is held."""

    async def _tell(self, call: UpstreamCall, answer: _Answer) -> Reply:
        name = f"replay-{next(self._ids)}"
        parts = told(call, answer.completion, name, answer.model or call.model, answer.usage)
        seconds = (answer.latency_ms or 0.0) / 1000 * self._latency
        if streams(call):
            return CannedReply(200, [EVENTS], parts, pause_seconds=seconds / len(parts))
        if seconds:
            await asyncio.sleep(seconds)
        return CannedReply(200, [JSON], parts)
