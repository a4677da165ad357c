"""Every piece of work is metered, whatever becomes of it: failure costs money too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from stillhouse.core.books import Job, JobKind, JobStatus
from stillhouse.ledger.metering import cpu_cost


class Clock(Protocol):
    """Tells the time; a scripted one makes runs repeatable."""

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        ...

    def wall_seconds(self) -> float:
        """Seconds of a clock that only goes forward."""
        ...

    def cpu_seconds(self) -> float:
        """Seconds of all cores that this process has used."""
        ...


@dataclass(slots=True)
class Ticket:
    """What is noted on a job while it runs; `status` counts if nothing is raised."""

    detail: dict[str, str]
    status: JobStatus = JobStatus.OK


@dataclass(frozen=True, slots=True)
class Meter:
    """Books jobs on a task: time by the clock, cost by the price of a core-hour."""

    task: str
    version: int
    clock: Clock
    usd_per_core_hour: str
    book: Callable[[Job], None]

    @contextmanager
    def running(self, kind: JobKind, **detail: str) -> Iterator[Ticket]:
        """Meter a block; an exception makes the job failed, an interruption cancelled."""
        ticket = Ticket({"version": str(self.version), **detail})
        began = self.clock.now_us()
        wall, cpu = self.clock.wall_seconds(), self.clock.cpu_seconds()
        try:
            yield ticket
        except KeyboardInterrupt:
            ticket.status = JobStatus.CANCELLED
            raise
        except BaseException:
            ticket.status = JobStatus.FAILED
            raise
        finally:
            used = self.clock.cpu_seconds() - cpu
            self.book(
                Job(
                    job_id=f"{self.task}/{self.version}/{began}/{kind.value}",
                    task=self.task,
                    kind=kind,
                    status=ticket.status,
                    started_us=began,
                    wall_seconds=self.clock.wall_seconds() - wall,
                    cpu_seconds=used,
                    cost=cpu_cost(used, self.usd_per_core_hour),
                    detail=ticket.detail,
                )
            )
