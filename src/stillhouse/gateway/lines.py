"""One line of JSON for each request: who, what, how long, how much; never what was said."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from stillhouse.core.calls import Done, Fate
from stillhouse.core.money import PICO
from stillhouse.core.traffic import Tags
from stillhouse.gateway.backlog import Backlog

_TAGS = ("task", "team", "customer", "feature", "region")
_SAMPLED = 2**32


class Level(StrEnum):
    """Which requests get a line."""

    ALL = "all"
    ERRORS = "errors"
    NONE = "none"


class Lines:
    """A Watch that writes lines to a file descriptor (standard error, or an open file).

    Of the requests that went well a `share` is written, the same for all workers and always the
    same for one id; those that failed always are. Lines are made and written every
    `every_seconds` in a thread of their own, so that a reader that hangs stops no request: what it
    does not take in time is dropped, and the next line says how much.
    """

    def __init__(
        self,
        descriptor: int,
        level: Level = Level.ALL,
        share: float = 1.0,
        every_seconds: float = 0.5,
    ) -> None:
        self._descriptor, self._level = descriptor, level
        self._limit = int(share * _SAMPLED)
        self._told = 0
        self._backlog: Backlog[Done] = Backlog(self._write, "stillhouse-lines", every_seconds)

    def done(self, done: Done) -> None:
        """Take note of a request that has ended."""
        if self._level is Level.NONE:
            return
        if done.status < 400 and not (done.attempts and done.attempts[-1].fate is not Fate.OK):
            if self._level is Level.ERRORS:
                return
            if self._limit < _SAMPLED and int(done.exchange_id[-8:], 16) >= self._limit:
                return
        self._backlog.put(done)

    def close(self) -> None:
        """Write what waits."""
        self._backlog.close()

    def _write(self, batch: list[Done]) -> None:
        lines = [line(done) for done in batch]
        lost = self._backlog.dropped - self._told
        if lost:
            self._told += lost
            lines.append(orjson.dumps({"lines_dropped": lost}) + b"\n")
        left = memoryview(b"".join(lines))
        while left:
            left = left[os.write(self._descriptor, left) :]


def line(done: Done) -> bytes:
    """A request as one line of JSON; `cost_usd` is null where a part of it has no known price.

    Fields that are empty are left out. The model, upstream and fate are those of the last call
    upstream. Error texts are not in it: an upstream's may quote the prompt.
    """
    told: dict[str, object] = {
        "time": _instant(done.at_us),
        "id": done.exchange_id,
        "wire": done.wire,
        "model": done.model,
        "status": done.status,
        "ms": round(done.seconds * 1000, 3),
        "overhead_ms": round(done.overhead_seconds * 1000, 3),
        "cost_usd": None if done.cost_pico is None else _dollars(done.cost_pico),
        "key": done.key_id,
    }
    if done.first_byte_seconds is not None:
        told["first_byte_ms"] = round(done.first_byte_seconds * 1000, 3)
    if done.stream:
        told["stream"] = True
    if done.cached:
        told["cached"] = True
    if done.refused_by:
        told["refused_by"] = done.refused_by
    if done.attempts:
        last = done.attempts[-1]
        told |= {
            "upstream": last.upstream or last.attempt.host,
            "served_by": last.attempt.model,
            "fate": last.fate,
            "attempts": len(done.attempts),
        }
        used = [entry.attempt.usage for entry in done.attempts if entry.attempt.usage is not None]
        told["input_tokens"] = sum(usage.total_input_tokens for usage in used)
        told["output_tokens"] = sum(usage.total_output_tokens for usage in used)
    told |= _said(done.tags)
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def _said(tags: Tags) -> dict[str, str]:
    return {name: value for name in _TAGS if (value := getattr(tags, name))}


def _instant(at_us: int) -> str:
    seconds, micros = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def _dollars(pico: int) -> str:
    """Exact, as text: a binary fraction is none of the amounts that are booked."""
    text = f"{pico // PICO}.{pico % PICO:012d}"
    return text.rstrip("0").rstrip(".")
