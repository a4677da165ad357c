"""What a worker loads: none of the libraries that only students need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numpy", "scipy", "sklearn", "onnxruntime", "tokenizers")


def loaded_by(module: str) -> set[str]:
    """The libraries that a fresh interpreter has loaded with a module."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(told.stdout.split())


@pytest.mark.parametrize("library", HEAVY)
def test_a_worker_answers_without_the_libraries_of_students(library: str) -> None:
    assert library not in loaded_by("stillhouse.wiring.endpoint")


def test_the_students_themselves_need_them() -> None:
    assert "numpy" in loaded_by("stillhouse.students.lexical")
