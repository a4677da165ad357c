"""The nouns of the books: prices as dated facts, charges, jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stillhouse.core.money import Paid
from stillhouse.core.nouns import Noun
from stillhouse.core.traffic import Evidence


class CostSource(StrEnum):
    """Where a cost comes from; `unpriced` is a state, never a zero."""

    PROVIDER = "provider"
    COMPUTED = "computed"
    ALLOCATED = "allocated"
    UNPRICED = "unpriced"


class Charge(Noun):
    """One row of the books, never changed: a correction is a new row that reverses this one.

    `leaf` names what was counted (a field of Usage, or `cpu_seconds`), `quantity` how many.
    `billed` is None only where `cost_source` is `unpriced`.
    """

    charge_id: str
    attempt_id: str
    leaf: str
    quantity: int
    unit: str
    billed: Paid | None
    cost_source: CostSource
    evidence: Evidence
    price_id: str = ""
    reverses: str = ""


class JobKind(StrEnum):
    """What the machine was working at."""

    TRAIN = "train"
    LABEL = "label"
    EVALUATE = "evaluate"
    CALIBRATE = "calibrate"
    SHADOW = "shadow"
    ENCODE = "encode"


class JobStatus(StrEnum):
    """How a job ended; work that failed was paid for too."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    PROMOTED = "promoted"


@dataclass(frozen=True, slots=True)
class Job:
    """One metered piece of work on a task; a retry is a new job."""

    job_id: str
    task: str
    kind: JobKind
    status: JobStatus
    started_us: int
    wall_seconds: float
    cpu_seconds: float
    cost: Paid
    detail: Mapping[str, str] = field(default_factory=dict)
