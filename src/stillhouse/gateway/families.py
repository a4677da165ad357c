"""What is counted, and under which names Prometheus sees it."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from stillhouse import __version__
from stillhouse.core.money import PICO
from stillhouse.gateway.exposition import Family, Histogram, Labels
from stillhouse.gateway.student_families import StudentRow, student_families
from stillhouse.routing.health import BreakerState, Health

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of durations that are mostly an upstream's, in seconds."""

OVERHEAD_BOUNDS = (
    *(0.00005, 0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075),
    *(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
"""Upper bounds of the endpoint's own time, in seconds."""


class Row(msgspec.Struct):
    """All that is counted of requests with the same wire, model, status and team."""

    wire: str
    model: str
    status: str
    team: str
    requests: int = 0
    cached: int = 0
    unpriced: int = 0
    cost_pico: int = 0
    seconds: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds_total: float = 0.0
    first_byte: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    first_byte_total: float = 0.0
    overhead: list[int] = msgspec.field(default_factory=lambda: [0] * (len(OVERHEAD_BOUNDS) + 1))
    overhead_total: float = 0.0
    tokens: dict[str, int] = msgspec.field(default_factory=dict)
    avoided: dict[str, int] = msgspec.field(default_factory=dict)


class Call(msgspec.Struct):
    """All that is counted of calls to one model at one upstream that ended alike."""

    upstream: str
    model: str
    fate: str
    kind: str
    status: str
    calls: int = 0
    seconds: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds_total: float = 0.0


class Gauge(msgspec.Struct):
    """One reading of something that goes up and down."""

    name: str
    help: str
    labels: Labels
    value: float


class Snapshot(msgspec.Struct):
    """What one worker has counted so far; `at` is seconds since 1970."""

    worker: str
    at: float
    leaving: bool
    rows: list[Row]
    calls: list[Call]
    refusals: dict[str, int]
    gauges: list[Gauge]
    students: list[StudentRow] = []


_Amounts = dict[Labels, int]
_Histograms = dict[Labels, Histogram]


def families(snapshots: Iterable[Snapshot], shared: Iterable[Gauge] = ()) -> list[Family]:
    """Sum what the workers have counted into families, each series once."""
    taken = list(snapshots)
    rows = [row for snapshot in taken for row in snapshot.rows]
    return [
        *_of_requests(rows),
        *_of_money(rows),
        _of_refusals(taken),
        *_of_calls([call for snapshot in taken for call in snapshot.calls]),
        *student_families(row for snapshot in taken for row in snapshot.students),
        *_of_gauges([*(gauge for snapshot in taken for gauge in snapshot.gauges), *shared]),
        Family("stillhouse_build", "gauge", "Version.", {(("version", __version__),): 1}),
    ]


def _of_requests(rows: Sequence[Row]) -> Iterable[Family]:
    requests: _Amounts = {}
    cached: _Amounts = {}
    seconds: _Histograms = {}
    first_byte: _Histograms = {}
    overhead: _Histograms = {}
    for row in rows:
        wire, model, team = ("wire", row.wire), ("model", row.model), ("team", row.team)
        _add(requests, (wire, model, ("status", row.status), team), row.requests)
        if row.cached:
            _add(cached, (wire, model, team), row.cached)
        _merge(seconds, (wire, model), row.seconds, row.seconds_total)
        _merge(first_byte, (wire, model), row.first_byte, row.first_byte_total)
        _merge(overhead, (wire,), row.overhead, row.overhead_total)
    yield Family("stillhouse_requests_total", "counter", "Requests that have ended.", requests)
    yield Family("stillhouse_cache_hits_total", "counter", "Answered from the cache.", cached)
    yield Family(
        *("stillhouse_request_duration_seconds", "histogram"),
        "From a request's first byte to its answer's last.",
        seconds,
        BOUNDS,
    )
    yield Family(
        *("stillhouse_time_to_first_byte_seconds", "histogram"),
        "From the call upstream to the first byte of its answer.",
        first_byte,
        BOUNDS,
    )
    yield Family(
        *("stillhouse_overhead_seconds", "histogram"),
        "The endpoint's own time: a request's duration less the wait for upstreams.",
        overhead,
        OVERHEAD_BOUNDS,
    )


def _of_money(rows: Sequence[Row]) -> Iterable[Family]:
    tokens: _Amounts = {}
    cost: _Amounts = {}
    unpriced: _Amounts = {}
    avoided: _Amounts = {}
    for row in rows:
        who = (("model", row.model), ("team", row.team))
        for leaf, count in row.tokens.items():
            _add(tokens, (*who, ("leaf", leaf)), count)
        _add(cost, who, row.cost_pico)
        _add(unpriced, who, row.unpriced)
        for basis, pico in row.avoided.items():
            _add(avoided, (("model", row.model), ("basis", basis)), pico)
    yield Family("stillhouse_tokens_total", "counter", "Tokens by disjoint leaf.", tokens)
    told = "Paid or owed, in dollars: the priced charges, failed calls included."
    yield Family("stillhouse_cost_usd_total", "counter", told, _dollars(cost))
    told = "Requests of which a part has no known price and is in no sum."
    yield Family("stillhouse_unpriced_requests_total", "counter", told, unpriced)
    told = "What cached answers would have cost, in dollars: on no invoice, not part of the cost."
    yield Family("stillhouse_avoided_usd_total", "counter", told, _dollars(avoided))


def _of_refusals(snapshots: Sequence[Snapshot]) -> Family:
    """Quota ids are `scope:name:unit:window:kind`; names are left out, since there may be many."""
    refusals: _Amounts = {}
    for snapshot in snapshots:
        for quota_id, count in snapshot.refusals.items():
            parts = quota_id.split(":")
            unit, window = parts[-3:-1] if len(parts) >= 5 else ("", "")
            labels = (("scope", parts[0]), ("unit", unit), ("window", window))
            _add(refusals, labels, count)
    return Family("stillhouse_refusals_total", "counter", "Refused by a quota.", refusals)


def _of_calls(calls: Sequence[Call]) -> Iterable[Family]:
    ended: _Amounts = {}
    seconds: _Histograms = {}
    for call in calls:
        place = (("upstream", call.upstream), ("model", call.model))
        end = (("fate", call.fate), ("kind", call.kind), ("status", call.status))
        _add(ended, (*place, *end), call.calls)
        _merge(seconds, place, call.seconds, call.seconds_total)
    yield Family("stillhouse_attempts_total", "counter", "Calls upstream that have ended.", ended)
    yield Family(
        *("stillhouse_attempt_duration_seconds", "histogram"),
        "From a call upstream to its answer's last byte.",
        seconds,
        BOUNDS,
    )


def _of_gauges(gauges: Sequence[Gauge]) -> Iterable[Family]:
    summed: dict[str, dict[Labels, float]] = {}
    told: dict[str, str] = {}
    for gauge in gauges:
        told.setdefault(gauge.name, gauge.help)
        of_name = summed.setdefault(gauge.name, {})
        of_name[gauge.labels] = of_name.get(gauge.labels, 0.0) + gauge.value
    for name in sorted(summed):
        kind = "counter" if name.endswith("_total") else "gauge"
        yield Family(name, kind, told[name], summed[name])


def process(worker: str) -> list[Gauge]:
    """Memory and processor time of this process."""
    labels = (("worker", worker),)
    return [
        Gauge("process_resident_memory_bytes", "Memory in use.", labels, _resident_bytes()),
        Gauge("process_cpu_seconds_total", "Processor time used.", labels, time.process_time()),
    ]


def folding(journal: Path, now: Callable[[], float] = time.time) -> dict[Labels, float]:
    """The numbers in the folder process's `fold.json`, and how old they are in seconds."""
    status = journal / "fold.json"
    told = msgspec.json.decode(status.read_bytes(), type=dict[str, object])
    figures: dict[Labels, float] = {
        (("figure", name),): float(value)
        for name, value in told.items()
        if isinstance(value, int | float)
    }
    figures[(("figure", "status_age_seconds"),)] = now() - status.stat().st_mtime
    return figures


def breakers(health: Health, now: float) -> dict[Labels, float]:
    """The breakers that are not closed; summed over workers, how many see it so."""
    return {
        (("upstream", one.upstream), ("model", one.model), ("state", str(one.state))): 1.0
        for one in health.standings(now)
        if one.state is not BreakerState.CLOSED
    }


def _resident_bytes() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:  # not Linux: the most that it ever was, there in bytes
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return float(pages * resource.getpagesize())


def _add(amounts: _Amounts, labels: Labels, amount: int) -> None:
    amounts[labels] = amounts.get(labels, 0) + amount


def _merge(into: _Histograms, labels: Labels, counts: Sequence[int], total: float) -> None:
    before = into.get(labels)
    if before is not None:
        counts = [a + b for a, b in zip(before.counts, counts, strict=True)]
        total += before.total
    into[labels] = Histogram(counts, total)


def _dollars(amounts: _Amounts) -> dict[Labels, str]:
    """Exact decimals: what reads them may round, this does not."""
    return {labels: f"{pico // PICO}.{pico % PICO:012d}" for labels, pico in amounts.items()}
