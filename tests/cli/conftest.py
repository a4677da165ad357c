from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stillhouse.cli import main


class Said(NamedTuple):
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one object and nothing else."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """Runs the command line in a directory of its own, on its default database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STILLHOUSE_DB", raising=False)

    def run(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["stillhouse", *words])
        code = 0
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
        return Said(code, *capsys.readouterr())

    return run
