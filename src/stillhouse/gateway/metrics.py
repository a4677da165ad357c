"""Counts what the endpoint does, for Prometheus: a few microseconds a request, bounded in size.

All series of a request are counted in one row, and rows are summed into families only when they
are scraped. Every worker counts for itself; with several of them each leaves its counts in a file
every second, and the one that is scraped adds the others' up.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from stillhouse.core.calls import Done, Ended, Fate
from stillhouse.gateway.exposition import OPENMETRICS, TEXT, asks_for_openmetrics, exposition
from stillhouse.gateway.families import (
    BOUNDS,
    OVERHEAD_BOUNDS,
    Call,
    Gauge,
    Row,
    Snapshot,
    families,
    process,
)
from stillhouse.gateway.student_families import StudentCounts

OTHER = "other"
MOST_NAMES = 256
MOST_ROWS = 4096
FRESH_SECONDS = 5.0
AT_ONCE = 16
"""So many requests are counted in one go."""

LONG = 64 * 2**10
"""Of an answer, what may be held until its request is counted."""

Reading = Mapping[tuple[tuple[str, str], ...], float] | float


class Metrics:
    """A Watch that counts; `render` gives what Prometheus scrapes.

    `models` are the public names that are served. A name that is none of them is counted by itself
    once a call of it has succeeded, as `other` before; so are names beyond the first 256 and
    whatever would make more than 4,096 rows, so that no caller can fill the memory. `folder` is
    where workers leave their counts; without one this is the only worker. A worker that finds no
    other alive there takes what is left of an earlier run away, and all counts begin at nothing.
    """

    def __init__(
        self,
        models: Iterable[str] = (),
        folder: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._models = set(models)
        self._called: set[str] = set()
        self._teams = {""}
        self._rows: dict[tuple[str, str, int, str], Row] = {}
        self._calls: dict[tuple[str, str, str, str, int], Call] = {}
        self._refusals: dict[str, int] = {}
        self._waiting: list[Done] = []
        self._students = StudentCounts()
        self._gauges: list[tuple[str, str, Callable[[], Reading], bool]] = []
        self._folder, self._clock = folder, clock
        self._worker = f"{os.getpid()}-{time.time_ns():x}"
        if not any(
            not other.leaving and other.at >= clock() - FRESH_SECONDS for other in self._others()
        ):
            self._begin_anew()

    def gauge(
        self, name: str, told: str, read: Callable[[], Reading], *, shared: bool = False
    ) -> None:
        """Show what `read` returns at each scrape: one value, or one for each set of labels.

        Values are summed over the workers; what all of them share (the lag of the folding) is shown
        as the scraped one reads it. A reading that fails is left out.
        """
        self._gauges.append((name, told, read, shared))

    def know(self, models: Iterable[str]) -> None:
        """Learn the public names of a new catalogue; those known before stay."""
        self._models.update(models)

    def done(self, done: Done) -> None:
        """Take note of a request that has ended.

        Requests are counted a few at a time: one right after the other costs a third of what one
        among a thousand other things does.
        """
        waiting = self._waiting
        waiting.append(done)
        if len(waiting) >= AT_ONCE or (done.attempts and len(done.attempts[-1].answer) > LONG):
            self._count_waiting()

    def _count_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            self._count(done)

    def _count(self, done: Done) -> None:
        row = self._rows.get((done.wire, done.model, done.status, done.tags.team))
        if row is None:
            row = self._new_row(done)
        row.requests += 1
        row.seconds[bisect_left(BOUNDS, done.seconds)] += 1
        row.seconds_total += done.seconds
        overhead = done.overhead_seconds
        row.overhead[bisect_left(OVERHEAD_BOUNDS, overhead)] += 1
        row.overhead_total += overhead
        if done.first_byte_seconds is not None:
            row.first_byte[bisect_left(BOUNDS, done.first_byte_seconds)] += 1
            row.first_byte_total += done.first_byte_seconds
        if done.cached:
            row.cached += 1
        if done.refused_by:
            self._refusals[done.refused_by] = self._refusals.get(done.refused_by, 0) + 1
        if done.cost_pico is None:
            row.unpriced += 1
        if done.consultation is not None:
            self._students.done(done.consultation, done.student_seconds)
        self._count_calls(row, done)

    def _count_calls(self, row: Row, done: Done) -> None:
        for entry in done.attempts:
            attempt = entry.attempt
            status = entry.status
            call = self._calls.get(
                (entry.upstream, attempt.model, entry.fate, attempt.kind, status)
            )
            if call is None:
                call = self._new_call(entry)
            call.calls += 1
            if attempt.latency_ms is not None:
                seconds = attempt.latency_ms / 1000
                call.seconds[bisect_left(BOUNDS, seconds)] += 1
                call.seconds_total += seconds
            tokens = row.tokens
            for charge in entry.charges:
                if charge.unit == "tokens":
                    leaf = charge.leaf
                    tokens[leaf] = tokens.get(leaf, 0) + charge.quantity
                if charge.billed is not None:
                    row.cost_pico += charge.billed.pico
            if entry.avoided_pico:
                row.avoided[entry.basis] = row.avoided.get(entry.basis, 0) + entry.avoided_pico

    def publish(self, *, leaving: bool = False) -> None:
        """Leave this worker's counts where the others find them; to be called every second.

        A worker that leaves keeps its counts there, so that no sum ever falls. What it counted in
        its last second is lost where it is killed. A full disk costs the figures, not the service.
        """
        if self._folder is None:
            return
        with suppress(OSError):
            new = self._folder / f".metrics-{self._worker}.new"
            new.touch(mode=0o600)
            new.write_bytes(msgspec.json.encode(self._snapshot(leaving=leaving)))
            new.rename(self._folder / f"metrics-{self._worker}.json")

    def render(self, accept: str = "") -> tuple[bytes, bytes]:
        """The content type and the body of an answer to a scrape, summed over all workers."""
        openmetrics = asks_for_openmetrics(accept)
        counted = families([self._snapshot(), *self._others()], self._read(shared=True))
        body = exposition(counted, openmetrics=openmetrics)
        return OPENMETRICS if openmetrics else TEXT, body

    def _begin_anew(self) -> None:
        for path in self._folder.glob("metrics-*.json") if self._folder is not None else ():
            with suppress(OSError):
                path.unlink()

    def _others(self) -> Iterable[Snapshot]:
        """What the other workers have counted; gauges only of those that are alive."""
        if self._folder is None:
            return
        fresh = self._clock() - FRESH_SECONDS
        for path in sorted(self._folder.glob("metrics-*.json")):
            if path.stem == f"metrics-{self._worker}":
                continue
            with suppress(OSError, msgspec.DecodeError):
                other = msgspec.json.decode(path.read_bytes(), type=Snapshot)
                if other.leaving or other.at < fresh:
                    other.gauges = []
                yield other

    def _snapshot(self, *, leaving: bool = False) -> Snapshot:
        self._count_waiting()
        worker = self._worker.partition("-")[0]
        return Snapshot(
            worker,
            self._clock(),
            leaving,
            list(self._rows.values()),
            list(self._calls.values()),
            self._refusals,
            [*self._read(shared=False), *process(worker)],
            self._students.rows,
        )

    def _read(self, *, shared: bool) -> Iterable[Gauge]:
        for name, told, read, is_shared in self._gauges:
            if is_shared is shared:
                with suppress(Exception):  # whatever a part cannot say is not shown
                    values = read()
                    if not isinstance(values, Mapping):
                        values = {(): values}
                    yield from (Gauge(name, told, key, float(v)) for key, v in values.items())

    def _new_row(self, done: Done) -> Row:
        model = _bounded(done.model, self._models, worth=done.status < 400)
        team = _bounded(done.tags.team, self._teams, worth=done.status < 400)
        if len(self._rows) >= MOST_ROWS:
            model = team = OTHER
        key = (str(done.wire), model, done.status, team)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = Row(key[0], model, str(done.status), team)
        return row

    def _new_call(self, entry: Ended) -> Call:
        model = _bounded(entry.attempt.model, self._called, worth=entry.fate is Fate.OK)
        if len(self._calls) >= MOST_ROWS:
            model = OTHER
        fate, kind, status = str(entry.fate), str(entry.attempt.kind), entry.status
        key = (entry.upstream, model, fate, kind, status)
        call = self._calls.get(key)
        if call is None:
            shown = str(status) if status else ""
            call = self._calls[key] = Call(entry.upstream, model, fate, kind, shown)
        return call


def _bounded(name: str, known: set[str], *, worth: bool) -> str:
    """A name as it is shown: as it is where it is known or worth learning."""
    if name in known:
        return name
    if worth and len(known) < MOST_NAMES:
        known.add(name)
        return name
    return OTHER
