from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from stillhouse.core.calls import Done, Ended, Fate
from stillhouse.core.catalogue import Wire
from stillhouse.core.traffic import Attempt, Tags, Usage
from stillhouse.gateway.backlog import Backlog
from stillhouse.gateway.lines import Level, Lines, line

SECRET = "sk-live-0123456789abcdef"
PROMPT = "what the caller said"


def ended(fate: Fate = Fate.OK, status: int = 200) -> Ended:
    usage = Usage(input_tokens=10, cache_read_tokens=5, output_tokens=2, reasoning_tokens=1)
    return Ended(
        *("e", Attempt("a", "m-2026", host="acme", usage=usage), (), fate, status),
        answer=PROMPT,
        usage_body=PROMPT,
        error=f"{PROMPT} {SECRET}",
        upstream="acme-eu",
    )


def done(number: int = 0, **more: Any) -> Done:
    told: dict[str, Any] = {
        "exchange_id": f"{number:032x}",
        "at_us": 1_782_000_000_000_001,
        "wire": Wire.CHAT,
        "model": "m",
        "key_id": "key-1",
        "tags": Tags(team="core", customer='a"b\nc'),
        "status": 200,
        "stream": False,
        "attempts": (ended(Fate.STATUS, 503), ended()),
        "cost_pico": 1_500_000,
        "seconds": 0.1234567,
        "overhead_seconds": 0.00009,
        "traceparent": SECRET,
    }
    return Done(**(told | more))


def written(records: Iterable[Done], path: Path, **more: Any) -> list[dict[str, Any]]:
    """What is in the file after these requests."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        lines = Lines(descriptor, **more)
        for record in records:
            lines.done(record)
        lines.close()
    finally:
        os.close(descriptor)
    return [json.loads(text) for text in path.read_bytes().splitlines()]


def test_a_line_says_who_what_how_long_and_how_much() -> None:
    assert json.loads(line(done())) == {
        "time": "2026-06-21T00:00:00.000001Z",
        "id": "0" * 32,
        "wire": "chat",
        "model": "m",
        "status": 200,
        "ms": 123.457,
        "overhead_ms": 0.09,
        "cost_usd": "0.0000015",
        "key": "key-1",
        "upstream": "acme-eu",
        "served_by": "m-2026",
        "fate": "ok",
        "attempts": 2,
        "input_tokens": 30,
        "output_tokens": 6,
        "team": "core",
        "customer": 'a"b\nc',
    }


def test_a_line_is_one_line_and_holds_no_prompt_no_answer_and_no_secret() -> None:
    text = line(done(stream=True, first_byte_seconds=0.1, cached=True, refused_by="key:k:cost"))
    assert text.count(b"\n") == 1
    assert text.endswith(b"\n")
    assert PROMPT.encode() not in text
    assert SECRET.encode() not in text


def test_an_unknown_cost_is_null_and_no_cost_is_nothing() -> None:
    assert json.loads(line(done(cost_pico=None)))["cost_usd"] is None
    assert json.loads(line(done(cost_pico=0)))["cost_usd"] == "0"
    assert json.loads(line(done(cost_pico=12 * 10**12)))["cost_usd"] == "12"


def test_a_request_that_never_went_upstream_has_a_line_too() -> None:
    told = json.loads(line(done(attempts=(), status=429, refused_by="key:k:cost:day:hard")))
    assert told["refused_by"] == "key:k:cost:day:hard"
    assert "upstream" not in told


def test_every_request_is_written_once_and_in_order(tmp_path: Path) -> None:
    told = written((done(n) for n in range(500)), tmp_path / "log")
    assert [int(row["id"], 16) for row in told] == list(range(500))


def test_errors_only_and_nothing_are_levels(tmp_path: Path) -> None:
    some = [done(0), done(1, status=404), done(2, status=502), done(3)]
    errors = written(some, tmp_path / "errors", level=Level.ERRORS)
    assert [row["status"] for row in errors] == [404, 502]
    assert written(some, tmp_path / "none", level=Level.NONE) == []


def test_a_share_is_written_by_the_id_and_every_failure_is(tmp_path: Path) -> None:
    step = 2**32 // 1000
    good = [done(n * step) for n in range(1000)]
    told = written(good, tmp_path / "share", share=0.1)
    assert len(told) == pytest.approx(100, abs=2)
    assert written(good, tmp_path / "again", share=0.1) == told
    failed = [done(n * step, status=500) for n in range(100)]
    assert len(written(failed, tmp_path / "failed", share=0.0)) == 100


def test_what_a_slow_reader_does_not_take_is_dropped_and_said(tmp_path: Path) -> None:
    many = [done(n) for n in range(8192 + 100)]
    told = written(many, tmp_path / "log", every_seconds=60.0)
    assert len(told) == 8193
    assert told[-1] == {"lines_dropped": 100}


def test_a_closed_descriptor_stops_no_request() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    lines = Lines(writing)
    lines.done(done())
    lines.close()
    os.close(writing)


def test_a_backlog_works_in_a_thread_and_in_batches() -> None:
    seen: list[list[int]] = []
    worked = Event()

    def work(batch: list[int]) -> None:
        seen.append(batch)
        worked.set()

    backlog = Backlog(work, "test", every_seconds=0.01)
    backlog.put(1)
    assert worked.wait(10)
    backlog.put(2)
    backlog.close()
    backlog.close()
    assert [number for batch in seen for number in batch] == [1, 2]


def test_a_batch_that_fails_is_counted_and_the_next_one_is_worked_on() -> None:
    seen: list[int] = []

    def work(batch: list[int]) -> None:
        if 13 in batch:
            raise OSError("unlucky")
        seen.extend(batch)

    backlog = Backlog(work, "test", every_seconds=60.0)
    backlog.put(13)
    backlog.put(1)
    backlog.flush()
    backlog.put(2)
    backlog.close()
    assert seen == [2]
    assert backlog.failed == 2


def test_work_that_hangs_does_not_keep_the_process_from_ending() -> None:
    release = Event()
    backlog: Backlog[int] = Backlog(lambda batch: assert_set(release), "test", every_seconds=0.001)
    backlog.put(1)
    backlog.close(seconds=0.05)
    release.set()


def assert_set(event: Event) -> None:
    assert event.wait(10)
