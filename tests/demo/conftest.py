"""The bundled workload, its source and its builder."""

from __future__ import annotations

import csv
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse import demo
from stillhouse.core.traffic import LoggedCall
from stillhouse.logs import detect, read

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "src/stillhouse/demo"


@pytest.fixture(scope="session")
def calls() -> list[LoggedCall]:
    """Every call of the workload, as an import reads it."""
    with demo.workload() as log:
        rows = list(read(log, detect(log)))
    assert all(isinstance(row, LoggedCall) for row in rows), "a row of the workload is broken"
    return [row for row in rows if isinstance(row, LoggedCall)]


@pytest.fixture(scope="session")
def intents(calls: list[LoggedCall]) -> list[LoggedCall]:
    """The calls of the support desk."""
    return [call for call in calls if call.tags.team == "support"]


@pytest.fixture(scope="session")
def written() -> list[dict[str, str]]:
    """The rows of the source of the intents."""
    with (ROOM / "source/intents.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="session")
def build() -> Callable[[], bytes]:
    """The builder of the workload, loaded from tools."""
    module: dict[str, Any] = runpy.run_path(str(ROOT / "tools/build_workload.py"))
    found: Callable[[], bytes] = module["build"]
    return found


@pytest.fixture(scope="session")
def readme() -> str:
    """What the README says of the workload."""
    return (ROOM / "README.md").read_text("utf-8")
