from __future__ import annotations

import os
from pathlib import Path

import pytest

from stillhouse.core.money import Paid
from stillhouse.core.traffic import LoggedCall
from stillhouse.logs import detect, read

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def recorded(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"recorded traffic {name} is not at hand; set STILLHOUSE_DATA")
    return path


def test_every_row_of_the_recorded_banking_answers_is_read() -> None:
    path = recorded("banking77_deepseek/banking77_deepseek_v4.1_flash.jsonl.gz")
    constants = {"model": "deepseek/deepseek-v4.1-flash", "host": "deepinfra"}
    calls = [
        row for row in read(path, detect(path, None, constants)) if isinstance(row, LoggedCall)
    ]
    assert len(calls) == 13_083
    costs = [call.reported_cost or Paid(0) for call in calls]
    assert float(sum(costs, Paid(0))) == pytest.approx(0.0796, abs=5e-5)
    assert {call.model for call in calls} == {"deepseek/deepseek-v4.1-flash"}
    assert all(call.usage_body and call.at_us and call.latency_ms for call in calls)


def test_a_recorded_csv_is_read_with_a_mapping() -> None:
    path = recorded("llmdrift/PRIME_FULL_EVAL.csv.gz")
    mapping = {
        "id": "ignore",
        "timestamp": "ignore",
        "date": "created_at",
        "latency": "latency_seconds",
    }
    calls = [row for row in read(path, detect(path, mapping)) if isinstance(row, LoggedCall)]
    assert len(calls) == 4_000
    assert calls[0].at_us == 1689465600000000
    assert calls[0].latency_ms == pytest.approx(4291.574717)
