from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from stillhouse.store.access import Access

WORKER = Path(__file__).with_name("quota_worker.py")
DSN = os.environ.get("STILLHOUSE_POSTGRES_DSN", "postgresql://postgres@127.0.0.1:5432/test")
COST = "everybody::cost:total:hard@0"
PLACES = "everybody::concurrent:now:hard@0"
REQUESTS = "team:red:requests:total:hard@0"
MOST = 1000


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "s.db.access")
        return
    psycopg = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    try:
        connection = psycopg.connect(DSN, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL server answers; set STILLHOUSE_POSTGRES_DSN")
    schema = f"stillhouse_{uuid4().hex}"
    with connection:
        yield f"{DSN}{'&' if '?' in DSN else '?'}schema={schema}"
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


class Worker:
    """A process that spends, and what its journal says that it spent."""

    def __init__(
        self, place: str, name: str, callers: int, cap: int, folder: Path, killed_at: int = 0
    ) -> None:
        self._journal = folder / name
        words = (place, name, str(callers), str(cap), str(self._journal), str(killed_at))
        self._process = subprocess.Popen([sys.executable, str(WORKER), *words])

    @property
    def calls(self) -> list[int]:
        return [int(line) for line in self._journal.read_text().splitlines()]

    def end(self, how: int = 0) -> None:
        assert self._process.wait(60) == how


def test_callers_of_two_processes_never_pass_the_cap_and_can_use_it_up(
    place: str, tmp_path: Path
) -> None:
    cap = 400_500
    workers = [Worker(place, name, 32, cap, tmp_path) for name in ("w1", "w2")]
    for worker in workers:
        worker.end()
    spent = sum(sum(worker.calls) for worker in workers)
    assert cap - MOST < spent <= cap
    with Access(place) as access:
        counters = access.counters()
        assert access.workers() == {}
    assert (counters[COST].spent, counters[COST].leased, counters[COST].over) == (spent, 0, 0)
    assert counters[REQUESTS].spent == sum(len(worker.calls) for worker in workers)
    assert counters[PLACES].leased == 0


def test_a_killed_worker_leaves_its_lease_counted_until_its_journal_settles_it(
    place: str, tmp_path: Path
) -> None:
    cap = 300_000
    killed = Worker(place, "killed", 32, cap, tmp_path, killed_at=60_000)
    killed.end(-signal.SIGKILL)
    other = Worker(place, "other", 16, cap, tmp_path)
    other.end()
    with Access(place) as access:
        before = access.counters()[COST]
        assert before.spent + before.leased <= cap
        assert before.leased > 0
        assert list(access.workers()) == ["killed"]
        calls = killed.calls
        assert access.recover("killed", {COST: sum(calls), REQUESTS: len(calls)})
        after = access.counters()
    spent = sum(calls) + sum(other.calls)
    assert (after[COST].spent, after[COST].leased) == (spent, 0)
    assert after[REQUESTS].spent == len(calls) + len(other.calls)
    last = Worker(place, "last", 8, cap, tmp_path)
    last.end()
    assert cap - MOST < spent + sum(last.calls) <= cap
