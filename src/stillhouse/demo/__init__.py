"""The workload that ships with the package: a month of an invented shop's calls, and prices."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path


def workload() -> AbstractContextManager[Path]:
    """The month of calls as a file of native pairs; README.md beside it says how it was made.

    >>> with workload() as log:
    ...     log.name
    'larkspur.jsonl.gz'
    """
    return as_file(files(__name__) / "larkspur.jsonl.gz")


def prices() -> AbstractContextManager[Path]:
    """The prices of the workload's models as a price file: invented, as the models are.

    >>> with prices() as book:
    ...     book.name
    'prices.yaml'
    """
    return as_file(files(__name__) / "prices.yaml")
