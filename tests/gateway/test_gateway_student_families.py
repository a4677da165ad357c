from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.core.calls import Done
from stillhouse.core.catalogue import Wire
from stillhouse.core.serving import Consultation
from stillhouse.core.traffic import Tags
from stillhouse.gateway.metrics import Metrics
from stillhouse.gateway.student_families import (
    MOST_ROWS,
    StudentCounts,
    StudentStatus,
    outcome_of,
    student_families,
    student_gauges,
    write_status,
)

ACCEPTED = Consultation("intent", 2, "a", 0.95, 0.9, "student", True, "certified")


def done(note: Consultation | None, seconds: float = 0.003) -> Done:
    return Done(
        "0" * 32, 0, Wire.CHAT, "m", "k", Tags(), 200, False, (), 0, 1.0, 0.0,
        consultation=note, student_seconds=seconds,
    )  # fmt: skip


def shown(*notes: Consultation | None) -> list[str]:
    """The lines about students that a scrape shows after these requests."""
    metrics = Metrics()
    for note in notes:
        metrics.done(done(note))
    body = metrics.render("")[1].decode()
    return [line for line in body.splitlines() if line.startswith("stillhouse_student")]


def test_requests_of_no_task_are_not_counted() -> None:
    assert shown(None) == []


def test_what_became_of_requests_is_counted_by_version_and_reason() -> None:
    deferred = ACCEPTED._replace(answerer="teacher", reason="below threshold", coin=False)
    late = deferred._replace(label="", reason="the student gave no answer in time")
    vetoed = late._replace(reason="the caller wants no student")
    bridged = ACCEPTED._replace(reason="bridging the teacher's outage", coin=False)
    lines = shown(ACCEPTED, ACCEPTED, deferred, late, vetoed, bridged)
    version = 'task="intent",version="2"'
    for line in (
        f"stillhouse_student_consulted_total{{{version}}} 6",
        f"stillhouse_student_accepted_total{{{version}}} 2",
        f"stillhouse_student_bridged_total{{{version}}} 1",
        f"stillhouse_student_audited_total{{{version}}} 2",
        f"stillhouse_student_unavailable_total{{{version}}} 1",
        f'stillhouse_student_deferred_total{{{version},reason="below_threshold"}} 1',
        f'stillhouse_student_deferred_total{{{version},reason="unavailable"}} 1',
        f'stillhouse_student_deferred_total{{{version},reason="forbidden"}} 1',
        f'stillhouse_student_seconds_bucket{{{version},le="0.002"}} 0',
        f'stillhouse_student_seconds_bucket{{{version},le="0.005"}} 5',
        f"stillhouse_student_seconds_count{{{version}}} 5",
    ):
        assert line in lines, "\n".join(lines)


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("not in the canary", "canary"),
        ("another model was asked for", "another_model"),
        ("another prompt", "another_prompt"),
        ("its certificate is void", "void"),
        ("longer than anything learnt from", "too_long"),
        ("carries images, none were learnt from", "images"),
        ("carries tools, none were learnt from", "tools"),
        ("written in han and thai", "script"),
        ("the version is paused", "idle"),
        ("whatever else somebody may write", "other"),
    ],
)
def test_reasons_are_counted_in_few_words(reason: str, word: str) -> None:
    note = ACCEPTED._replace(answerer="teacher", reason=reason)
    assert outcome_of(note) == ("deferred", word)


def test_no_number_of_versions_fills_the_memory() -> None:
    counts = StudentCounts()
    for version in range(MOST_ROWS + 50):
        counts.done(ACCEPTED._replace(version=version), 0.0)
    assert len(counts.rows) == MOST_ROWS + 1
    consulted = next(iter(student_families(counts.rows)))
    assert sum(map(int, consulted.samples.values())) == MOST_ROWS + 50  # type: ignore[arg-type]


def test_workers_sums_are_one_series(tmp_path: Path) -> None:
    first, second = Metrics(folder=tmp_path), Metrics(folder=tmp_path)
    first.done(done(ACCEPTED))
    second.done(done(ACCEPTED))
    first.publish()
    body = second.render("")[1].decode()
    assert 'stillhouse_student_accepted_total{task="intent",version="2"} 2' in body


def test_what_the_watch_has_left_is_shown(tmp_path: Path) -> None:
    rows = [
        StudentStatus("intent", 2, "serving", 7, 50, 49, 0.25),
        StudentStatus("intent", 3, "shadow"),
    ]
    write_status(tmp_path, rows)
    gauges = {name: read() for name, _, read in student_gauges(tmp_path)}
    second = (("task", "intent"), ("version", "2"))
    third = (("task", "intent"), ("version", "3"))
    assert gauges["stillhouse_student_mode"] == {
        (*second, ("mode", "serving")): 1.0,
        (*third, ("mode", "shadow")): 1.0,
    }
    assert gauges["stillhouse_student_agreement"] == {second: 0.98}
    assert gauges["stillhouse_student_alarm_share"] == {second: 0.25}
    assert gauges["stillhouse_student_shadows_waiting"] == {second: 7.0, third: 0.0}
    aged = {name: read for name, _, read in student_gauges(tmp_path, lambda: 2.0**40)}
    assert aged["stillhouse_student_status_age_seconds"]()[()] > 2**39


def test_without_a_watch_nothing_of_it_is_shown(tmp_path: Path) -> None:
    metrics = Metrics()
    for name, told, read in student_gauges(tmp_path):
        metrics.gauge(name, told, read, shared=True)
    lines = metrics.render("")[1].splitlines()
    assert not [line for line in lines if line.startswith(b"stillhouse_student")]
    assert lines
