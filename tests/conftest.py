"""What every room's tests may lean on: how properties are tried, and where recorded traffic is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded traffic, which is other people's data and not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("STILLHOUSE_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"recorded traffic is not at {folder}; set STILLHOUSE_DATA")
    return folder
