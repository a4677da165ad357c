"""What the watch reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from stillhouse.core.learning import Certificate, Refusal
from stillhouse.core.serving import Charter, Evidence, Notice, PolicyEvent, Watched


class WatchBooks(Protocol):
    """The books as the watch needs them; a failure is a StoreError and changes nothing."""

    def policy_events(self, task: str = "") -> Iterator[PolicyEvent]:
        """Every change of who answers, oldest first."""
        ...

    def policy_number(self) -> int:
        """The number of the newest event."""
        ...

    def add_policy_event(self, event: PolicyEvent, expected: int | None = None) -> int:
        """Append an event, unless the task's newest is not `expected` any more: then 0."""
        ...

    def charters(self) -> tuple[Charter, ...]:
        """The charters of all versions."""
        ...

    def recogniser(self) -> str:
        """The digest of the artefact by which the tasks' requests are known; empty for none."""
        ...

    def get_artefact(self, digest: str) -> bytes:
        """Bytes by their digest."""
        ...

    def verdict(self, task: str, version: int) -> Certificate | Refusal | None:
        """The newest verdict on a version."""
        ...

    def add_verdict(
        self, task: str, version: int, verdict: Certificate | Refusal, at_us: int
    ) -> None:
        """Keep what was proven."""
        ...

    def newest(self) -> int:
        """The number of the exchange that was booked last."""
        ...

    def watch_place(self, name: str) -> int:
        """How far a watch has read."""
        ...

    def watched(self, after: int, limit: int) -> list[Watched]:
        """Exchanges behind a place, in the order of their booking."""
        ...

    def keep_watch(
        self,
        name: str,
        place: int,
        evidence: Mapping[tuple[str, int], Sequence[Evidence]],
        rows: Sequence[tuple[str, str, str]],
    ) -> None:
        """Keep evidence, rows of tasks and the place, all or nothing."""
        ...

    def evidence(self, task: str, version: int, after: int = 0) -> Iterator[Evidence]:
        """A version's evidence in the order of its stream."""
        ...

    def add_notice(self, notice: Notice) -> None:
        """Keep a notice to be delivered; one whose id is here changes nothing."""
        ...
