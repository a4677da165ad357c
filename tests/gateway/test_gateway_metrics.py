from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.calls import Done, Ended, Fate
from stillhouse.core.catalogue import Deployment, Wire
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Attempt, AttemptKind, Evidence, Tags
from stillhouse.gateway.exposition import (
    Family,
    Histogram,
    Labels,
    asks_for_openmetrics,
    exposition,
)
from stillhouse.gateway.families import breakers, folding
from stillhouse.gateway.metrics import MOST_NAMES, MOST_ROWS, Metrics
from stillhouse.routing.health import Health
from stillhouse.routing.outcomes import Outcome

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")
META = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(body: bytes, *, openmetrics: bool = False) -> Series:
    """Read an exposition as strictly as its grammar is written; asserts what must hold."""
    text = body.decode()
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    if openmetrics:
        assert lines.pop() == "# EOF"
    series: Series = {}
    types: dict[str, str] = {}
    family = ""
    for line in lines:
        if line.startswith("#"):
            meta = META.fullmatch(line)
            assert meta, line
            if meta[1] == "TYPE":
                assert meta[2] == family, "TYPE follows HELP of the same family"
                assert meta[2] not in types, "a family stands in one place"
                types[meta[2]] = meta[3]
            else:
                family = meta[2]
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        kind = types[family]
        endings = {
            "counter": ("_total",) if openmetrics else ("",),
            "gauge": ("",),
            "histogram": ("_bucket", "_sum", "_count"),
        }[kind]
        assert sample[1] in [family + ending for ending in endings], line
        if kind == "counter":
            assert sample[1].endswith("_total")
        labels = tuple(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample[2] or ""))
        assert len(dict(labels)) == len(labels), "each label once"
        key = (sample[1], labels)
        assert key not in series, f"{key} is written twice"
        series[key] = float(sample[3])
        assert kind == "gauge" or series[key] >= 0
    _check_histograms(series, [name for name, kind in types.items() if kind == "histogram"])
    return series


def _check_histograms(series: Series, names: list[str]) -> None:
    for name in names:
        of_labels: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        for (sample, labels), value in series.items():
            if sample == f"{name}_bucket":
                assert labels[-1][0] == "le"
                of_labels.setdefault(labels[:-1], []).append((float(labels[-1][1]), value))
        for labels, buckets in of_labels.items():
            assert buckets == sorted(buckets)
            assert [count for _, count in buckets] == sorted(count for _, count in buckets)
            assert buckets[-1] == (math.inf, series[f"{name}_count", labels])
            assert (f"{name}_sum", labels) in series


def value(series: Series, name: str, **labels: str) -> float:
    """Sum of all series of a name that have these labels."""
    return sum(
        number
        for (sample, its), number in series.items()
        if sample == name and labels.items() <= dict(its).items()
    )


def charge(leaf: str, quantity: int, pico: int | None) -> Charge:
    source = CostSource.UNPRICED if pico is None else CostSource.COMPUTED
    cost = None if pico is None else Paid(pico)
    return Charge(f"a:{leaf}", "a", leaf, quantity, "tokens", cost, source, Evidence.REPORTED)


def ended(
    fate: Fate = Fate.OK, status: int = 200, pico: int | None = 1_500, **more: object
) -> Ended:
    attempt = Attempt("a", str(more.pop("model", "m-2026")), latency_ms=120.0)
    charges = (charge("input_tokens", 10, pico), charge("output_tokens", 2, pico))
    return Ended("e", attempt, charges, fate, status, upstream="acme", **more)  # type: ignore[arg-type]


def done(**more: object) -> Done:
    told: dict[str, object] = {
        "exchange_id": "0" * 32,
        "at_us": 0,
        "wire": Wire.CHAT,
        "model": "m",
        "key_id": "k",
        "tags": Tags(team="core"),
        "status": 200,
        "stream": False,
        "attempts": (ended(),),
        "cost_pico": 3_000,
        "seconds": 0.12,
        "overhead_seconds": 0.00009,
        "first_byte_seconds": 0.11,
    }
    return Done(**(told | more))  # type: ignore[arg-type]


def scraped(metrics: Metrics) -> Series:
    return parsed(metrics.render()[1])


def test_a_request_is_counted_in_every_family() -> None:
    metrics = Metrics(["m"])
    metrics.done(done(attempts=(ended(Fate.STATUS, 503, 0), ended())))
    series = scraped(metrics)
    mine = {"model": "m", "team": "core"}
    assert value(series, "stillhouse_requests_total", wire="chat", status="200", **mine) == 1
    assert value(series, "stillhouse_attempts_total", upstream="acme", fate="ok") == 1
    assert value(series, "stillhouse_attempts_total", fate="status", status="503") == 1
    assert value(series, "stillhouse_tokens_total", leaf="input_tokens", **mine) == 20
    assert value(series, "stillhouse_cost_usd_total", **mine) == pytest.approx(3e-9)
    assert value(series, "stillhouse_unpriced_requests_total", **mine) == 0
    assert value(series, "stillhouse_overhead_seconds_bucket", le="0.0001") == 1
    assert value(series, "stillhouse_overhead_seconds_bucket", le="5e-05") == 0
    assert value(series, "stillhouse_request_duration_seconds_sum", model="m") == 0.12
    assert value(series, "stillhouse_time_to_first_byte_seconds_count", model="m") == 1
    assert value(series, "stillhouse_attempt_duration_seconds_count", upstream="acme") == 2


def test_a_part_without_a_price_is_unpriced_and_in_no_sum() -> None:
    metrics = Metrics(["m"])
    metrics.done(done(attempts=(ended(pico=None),), cost_pico=None))
    series = scraped(metrics)
    assert value(series, "stillhouse_unpriced_requests_total") == 1
    assert value(series, "stillhouse_cost_usd_total") == 0
    assert value(series, "stillhouse_tokens_total", leaf="input_tokens") == 10


def test_what_was_avoided_stands_apart_from_what_was_paid() -> None:
    metrics = Metrics(["m"])
    hit = Ended(
        *("e", Attempt("a", "m", kind=AttemptKind.CACHE), (), Fate.OK, 200),
        avoided_pico=5 * 10**12,
        basis="price of m",
    )
    metrics.done(done(attempts=(hit,), cost_pico=0, cached=True))
    series = scraped(metrics)
    assert value(series, "stillhouse_avoided_usd_total", model="m", basis="price of m") == 5
    assert value(series, "stillhouse_cost_usd_total") == 0
    assert value(series, "stillhouse_cache_hits_total") == 1


def test_costs_are_summed_exactly_and_written_whole() -> None:
    metrics = Metrics(["m"])
    for _ in range(3):
        metrics.done(done(attempts=(ended(pico=10**30 + 1),)))
    written = re.search(r"stillhouse_cost_usd_total\{.*\} (\S+)", metrics.render()[1].decode())
    assert written
    assert written[1] == "6000000000000000000.000000000006"


def test_refusals_are_counted_without_the_names_of_their_quotas() -> None:
    metrics = Metrics(["m"])
    for name in ("ada", "bob:with:colons"):
        metrics.done(done(status=429, attempts=(), refused_by=f"key:{name}:cost:day:hard"))
    series = scraped(metrics)
    labels = {"scope": "key", "unit": "cost", "window": "day"}
    assert value(series, "stillhouse_refusals_total", **labels) == 2
    assert "ada" not in metrics.render()[1].decode()


def test_an_unknown_model_is_other_until_a_call_of_it_succeeds() -> None:
    metrics = Metrics(["m"])
    metrics.done(done(model="made up", status=404, attempts=()))
    metrics.done(done(model="real"))
    metrics.done(done(model="real", status=500))
    series = scraped(metrics)
    assert value(series, "stillhouse_requests_total", model="other") == 1
    assert value(series, "stillhouse_requests_total", model="real") == 2
    assert value(series, "stillhouse_requests_total", model="made up") == 0


def test_no_caller_can_make_more_series_than_the_limits() -> None:
    metrics = Metrics(["m"])
    for n in range(MOST_NAMES * 3):
        metrics.done(done(tags=Tags(team=f"team-{n}"), model=f"model-{n}"))
    series = scraped(metrics)
    teams = {dict(labels)["team"] for name, labels in series if name == "stillhouse_requests_total"}
    assert len(teams) <= MOST_NAMES + 1
    assert value(series, "stillhouse_requests_total") == MOST_NAMES * 3
    crossed = Metrics([f"model-{n}" for n in range(100)])
    for n in range(100 * 100):
        crossed.done(done(tags=Tags(team=f"team-{n // 100}"), model=f"model-{n % 100}"))
    series = scraped(crossed)
    assert sum(name == "stillhouse_requests_total" for name, _ in series) <= MOST_ROWS + 30
    assert value(series, "stillhouse_requests_total") == 100 * 100


@given(st.text(max_size=30), st.text(max_size=30), st.floats(0, 1e6), st.floats(0, 1e6))
def test_any_names_and_times_give_a_scrape_that_parses(
    model: str, team: str, seconds: float, overhead: float
) -> None:
    metrics = Metrics()
    metrics.done(
        done(model=model, tags=Tags(team=team), seconds=seconds, overhead_seconds=overhead)
    )
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        _, body = metrics.render(accept)
        series = parsed(body, openmetrics=bool(accept))
        assert value(series, "stillhouse_requests_total") == 1


def test_openmetrics_is_given_to_those_who_ask_for_it() -> None:
    metrics = Metrics()
    metrics.done(done())
    plain_type, plain = metrics.render("text/plain")
    open_type, opened = metrics.render(
        "application/openmetrics-text;version=1.0.0;q=0.75,*/*;q=0.1"
    )
    assert plain_type.startswith(b"text/plain; version=0.0.4")
    assert open_type.startswith(b"application/openmetrics-text; version=1.0.0")
    assert b"# EOF" not in plain
    assert b"# TYPE stillhouse_requests counter" in opened
    parsed(opened, openmetrics=True)
    assert not asks_for_openmetrics("*/*")


def test_gauges_are_read_at_each_scrape_and_one_that_fails_is_left_out() -> None:
    metrics, now = Metrics(), [1.0]
    metrics.gauge("stillhouse_requests_in_flight", "Under way.", lambda: now[0])
    metrics.gauge("stillhouse_broken", "Fails.", lambda: 1 / 0)
    metrics.gauge("stillhouse_breaker", "Open.", lambda: {(("upstream", "acme"),): 2.0})
    assert value(scraped(metrics), "stillhouse_requests_in_flight") == 1
    now[0] = 7.0
    series = scraped(metrics)
    assert value(series, "stillhouse_requests_in_flight") == 7
    assert value(series, "stillhouse_breaker", upstream="acme") == 2
    assert "stillhouse_broken" not in {name for name, _ in series}
    assert value(series, "process_resident_memory_bytes") > 10**6


def test_workers_are_added_up_whichever_of_them_is_scraped(tmp_path: Path) -> None:
    workers = [Metrics(["m"], tmp_path) for _ in range(3)]
    for count, worker in enumerate(workers, 1):
        worker.gauge("stillhouse_requests_in_flight", "Under way.", lambda: 1)
        worker.gauge("stillhouse_fold_lag", "Shared.", lambda: 9, shared=True)
        for _ in range(count):
            worker.done(done(attempts=(ended(pico=10**24),)))
        worker.publish()
    for worker in workers:
        series = scraped(worker)
        assert value(series, "stillhouse_requests_total") == 6
        assert value(series, "stillhouse_cost_usd_total") == 12 * 10**12
        assert value(series, "stillhouse_requests_in_flight") == 3
        assert value(series, "stillhouse_fold_lag") == 9
        assert value(series, "stillhouse_overhead_seconds_count") == 6


def test_a_worker_that_has_gone_keeps_its_counts_and_loses_its_gauges(tmp_path: Path) -> None:
    now = [1000.0]
    gone, left, killed = (Metrics(["m"], tmp_path, lambda: now[0]) for _ in range(3))
    for worker in (gone, left, killed):
        worker.gauge("stillhouse_requests_in_flight", "Under way.", lambda: 1)
        worker.done(done())
        worker.publish()
    assert value(scraped(left), "stillhouse_requests_in_flight") == 3
    gone.publish(leaving=True)
    assert value(scraped(left), "stillhouse_requests_in_flight") == 2
    now[0] += 60.0
    series = scraped(left)
    assert value(series, "stillhouse_requests_in_flight") == 1
    assert value(series, "stillhouse_requests_total") == 3


def test_what_an_earlier_run_left_is_taken_away_once_no_worker_is_alive(tmp_path: Path) -> None:
    now = [1000.0]
    old = Metrics(["m"], tmp_path, lambda: now[0])
    old.done(done())
    old.publish()
    beside = Metrics(["m"], tmp_path, lambda: now[0])
    assert value(scraped(beside), "stillhouse_requests_total") == 1
    now[0] += 60.0
    new = Metrics(["m"], tmp_path, lambda: now[0])
    assert value(scraped(new), "stillhouse_requests_total") == 0
    assert list(tmp_path.glob("metrics-*")) == []


def test_a_file_that_is_broken_or_missing_costs_no_scrape(tmp_path: Path) -> None:
    worker = Metrics(["m"], tmp_path)
    (tmp_path / "metrics-1-a.json").write_bytes(b'{"worker": "1", "at"')
    (tmp_path / "metrics-2-b.json").write_bytes(b"[]")
    worker.done(done())
    assert value(scraped(worker), "stillhouse_requests_total") == 1
    absent = Metrics(["m"], tmp_path / "absent")
    absent.publish()
    assert value(scraped(absent), "stillhouse_requests_total") == 0


def test_the_numbers_of_the_folding_are_read_from_its_file(tmp_path: Path) -> None:
    status = {"lag_seconds": 1.5, "entries": 7, "behind": False, "state": "folding"}
    (tmp_path / "fold.json").write_text(json.dumps(status))
    read = folding(tmp_path, now=lambda: (tmp_path / "fold.json").stat().st_mtime + 2.0)
    assert read == {
        (("figure", "lag_seconds"),): 1.5,
        (("figure", "entries"),): 7.0,
        (("figure", "behind"),): 0.0,
        (("figure", "status_age_seconds"),): 2.0,
    }
    metrics = Metrics()
    metrics.gauge("stillhouse_fold", "Folding.", lambda: folding(tmp_path / "absent"), shared=True)
    assert value(scraped(metrics), "stillhouse_fold") == 0


def test_breakers_are_shown_while_they_are_not_closed() -> None:
    health, now = Health(), [0.0]
    for one, status in ((Deployment("acme", "m"), 429), (Deployment("zeta", "m"), 200)):
        health.began(one, 0.0)
        health.ended(one, Outcome(Fate.STATUS, status, 9.0), 0.0, 0.0)
    metrics = Metrics()
    metrics.gauge("stillhouse_breaker", "Not closed.", lambda: breakers(health, now[0]))
    series = scraped(metrics)
    assert value(series, "stillhouse_breaker") == 1
    assert value(series, "stillhouse_breaker", upstream="acme", model="m", state="open") == 1
    now[0] = 9.0
    assert value(scraped(metrics), "stillhouse_breaker", state="half_open") == 1


def test_values_that_are_no_plain_numbers_are_written_as_the_format_says() -> None:
    values = (math.inf, -math.inf, math.nan)
    odd: dict[Labels, float] = {(("n", str(n)),): number for n, number in enumerate(values)}
    written = exposition([Family("odd", "gauge", "back\\slash\nline", odd)]).decode()
    assert written == (
        '# HELP odd back\\\\slash\\nline\n# TYPE odd gauge\nodd{n="0"} +Inf\nodd{n="1"} -Inf\n'
        'odd{n="2"} NaN\n'
    )
    histogram = Family("h", "histogram", "H.", {(): Histogram([1, 2, 0], 4.5)}, (0.5, 1.0))
    assert parsed(exposition([histogram]))["h_count", ()] == 3
    assert exposition([]) == b""
