"""What folding asks of the journals and of the books."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from stillhouse.core.calls import Entry
from stillhouse.flows.fold_making import LiveEntry

Place = tuple[int, int]
"""A segment of a run, and how many of its bytes lie before."""


class Reader(Protocol):
    """One run's entries; iterating again goes on where the last entry was."""

    @property
    def place(self) -> Place:
        """Behind the last entry read."""
        ...

    @property
    def prices(self) -> Mapping[str, str]:
        """Facts, as JSON, of the prices that were named so far."""
        ...

    @property
    def damaged(self) -> Sequence[str]:
        """What could not be read, in sentences."""
        ...

    @property
    def hurt(self) -> frozenset[int]:
        """The segments that hold damage."""
        ...

    @property
    def torn_bytes(self) -> int:
        """How much of the end is no whole entry."""
        ...

    def __iter__(self) -> Iterator[tuple[Place, Entry]]:
        """The whole entries that are there now, each with the place where it begins."""
        ...


class Journals(Protocol):
    """Where the workers' journals lie."""

    def folding(self) -> AbstractContextManager[None]:
        """Hold the right to fold; StoreError where another process holds it."""
        ...

    def runs(self) -> Sequence[str]:
        """The runs that have segments."""
        ...

    def alive(self, run: str) -> bool:
        """Whether a run's writer lives."""
        ...

    def read(self, run: str, after: Place) -> Reader:
        """A run's entries from a place on."""
        ...

    def unread_bytes(self, run: str, after: Place) -> int:
        """How many bytes of a run lie behind a place."""
        ...

    def put_away(self, run: str, before: int | None, *, keep: bool, hurt: frozenset[int]) -> None:
        """Remove a run's segments before a number, or all."""
        ...

    def set_aside(self, run: str, reason: str, entries: list[Entry]) -> None:
        """Keep what the books refuse."""
        ...

    def note(self, status: Mapping[str, object]) -> None:
        """Say how far the folding is."""
        ...


class Outcome(Protocol):
    """What became of a batch."""

    @property
    def new(self) -> int:
        """Exchanges that were not in the books."""
        ...

    @property
    def duplicates(self) -> int:
        """Exchanges that were."""
        ...


class Books(Protocol):
    """Where live traffic is kept."""

    def fold_place(self, run: str) -> Place | None:
        """How far a run is folded; None if never begun."""
        ...

    def add_live(
        self,
        entries: Sequence[LiveEntry],
        prices: Mapping[str, str],
        *,
        run: str,
        place: Place | None,
    ) -> Outcome:
        """Keep exchanges and the place, whole or not at all; CallerError for what never fits."""
        ...
