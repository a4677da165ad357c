"""The bench of exactness in small: load, deaths and an outage, and every cost to the last digit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "exactness.py"


def test_the_books_are_exact_whatever_dies(tmp_path: Path) -> None:
    words = [sys.executable, str(BENCH), "--requests", "600", "--kills", "2", "--keep"]
    ran = subprocess.run(
        [*words, str(tmp_path / "run")], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    table = ran.stdout.partition("\n\n")[2].splitlines()[1:]
    assert len(table) >= 12
    assert [line for line in table if not line.endswith("  exact")] == []
    for deaths in ("all processes x2", "one worker x1", "one folder x1"):
        assert deaths in ran.stdout
