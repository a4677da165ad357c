"""What a plan is made from: every figure with its unit, every assumption with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from stillhouse.core.books import Job, JobStatus
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Certificate, Refusal
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Evidence, weakest
from stillhouse.planner.volume import Volume

HOURS_PER_MONTH = 730.5
ZERO = Paid(0)

CAMPAIGNS_TO_TRUST = 5
"""From so many own campaigns on, their metered jobs are believed to show what a campaign costs."""

_USEFUL = (JobStatus.OK, JobStatus.PROMOTED)


@dataclass(frozen=True, slots=True)
class TeacherCost:
    """Mean cost of one request to the teacher; basis `billed`, `computed`, `repriced at MODEL`."""

    per_request: Paid
    basis: str

    def __post_init__(self) -> None:
        if self.basis not in ("billed", "computed") and not self.basis.startswith("repriced at "):
            raise CallerError(
                f"the basis of the teacher's cost is {self.basis!r}; "
                "say 'billed', 'computed' or 'repriced at MODEL'"
            )

    @property
    def evidence(self) -> Evidence:
        """A bill is reported, a price list gives a derived cost, another model's is a what-if."""
        known = {"billed": Evidence.REPORTED, "computed": Evidence.DERIVED}
        return known.get(self.basis, Evidence.SCENARIO)


@dataclass(frozen=True, slots=True)
class HeldOutCounts:
    """What the student did on rows that nobody had touched: how many, accepted, and otherwise."""

    n: int
    n_accepted: int
    n_disagreements: int

    def __post_init__(self) -> None:
        if not 0 <= self.n_disagreements <= self.n_accepted <= self.n:
            raise CallerError(
                f"of {self.n} held-out rows {self.n_accepted} were accepted and "
                f"{self.n_disagreements} disagreed; each count must lie within the one before"
            )


@dataclass(frozen=True, slots=True)
class Serving:
    """What it costs to keep a student answering.

    `cost_per_core_hour`: about what general-purpose machines cost per virtual core on demand.
    `idle_cores`: paid for even when nobody asks. A student with its encoder keeps about 0.5 GB of
    memory, and machines are sold with 2 to 4 GB a core, so its place takes a quarter of a core.
    `monitoring_per_month`: tools that charge for watching; people's time stands in `People`.
    """

    student_seconds_per_request: float = 0.010
    cost_per_core_hour: Paid = field(default_factory=lambda: Paid.of("0.05"))
    idle_cores: float = 0.25
    monitoring_per_month: Paid = ZERO

    @property
    def cost_per_request(self) -> float:
        """Computing for one answer of the student, in units of currency."""
        return self.student_seconds_per_request * float(self.cost_per_core_hour) / 3600

    @property
    def floor_per_month(self) -> float:
        """Least bill of a month for the place that the student takes, asked or not."""
        return self.idle_cores * float(self.cost_per_core_hour) * HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class People:
    """Hours that people give: half a day to set up, a quarter of an hour a month to look after."""

    setup_hours: float = 4.0
    hours_per_month: float = 0.25
    cost_per_hour: Paid = field(default_factory=lambda: Paid.of("100"))

    @property
    def setup_cost(self) -> float:
        """People's part of the campaign, in units of currency."""
        return self.setup_hours * float(self.cost_per_hour)

    @property
    def cost_per_month(self) -> float:
        """People's part of a month, in units of currency."""
        return self.hours_per_month * float(self.cost_per_hour)


NOBODY = People(0.0, 0.0, ZERO)
"""Everything runs by itself, or people's time is not to be counted."""


@dataclass(frozen=True, slots=True)
class PriceOutlook:
    """How the teacher's price may move: one of the jumps at once, then a steady fall.

    Dated first-party prices of the same model went up as often as down, so the jumps are
    two-sided (E11). The fall is a continuous rate per year (delta of E10), zero by default.
    """

    jumps: tuple[float, ...] = (0.52, 1.5, 1.0, 1.0)
    fall_per_year: float = 0.0

    def __post_init__(self) -> None:
        if not self.jumps or not all(0 < jump < math.inf for jump in self.jumps):
            _refuse("the price jumps", self.jumps, "give factors above 0, as 0.52, 1, 1.5")
        if not math.isfinite(self.fall_per_year):
            _refuse("the yearly fall of prices", self.fall_per_year, "give a rate, as 0.3")


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """All that the verdict on distilling one task rests on.

    `student` is the certificate, the refusal, or None while nobody has tried. `held_out` are the
    counts on the test rows; without them the certificate's own counts are used. `labels_paid` and
    `labels_to_buy` are answers bought for training alone: answers that production paid for anyway
    cost nothing more. `jobs` are all metered jobs, failed ones included. `shadow_share` is the
    share of accepted requests that the teacher answers too. `price_per_error` is what one answer
    that differs from the teacher's costs the business, as if the teacher were always right.
    """

    task: str
    volume: Volume
    teacher: TeacherCost
    student: Certificate | Refusal | None
    held_out: HeldOutCounts | None = None
    jobs: tuple[Job, ...] = ()
    labels_paid: Paid = ZERO
    labels_to_buy: Paid = ZERO
    own_campaigns: int = 0
    serving: Serving = field(default_factory=Serving)
    people: People = field(default_factory=People)
    prices: PriceOutlook = field(default_factory=PriceOutlook)
    price_per_error: Paid = ZERO
    shadow_share: float = 0.01
    horizon_months: int = 12
    retrain_every_months: int | None = 3
    discount_per_year: float = 0.08

    def __post_init__(self) -> None:
        if not 0 <= self.shadow_share <= 1:
            _refuse("the shadow share", self.shadow_share, "give a share from 0 to 1, as 0.01")
        if self.horizon_months < 1:
            _refuse("the horizon in months", self.horizon_months, "give 1 or more")
        if self.retrain_every_months is not None and self.retrain_every_months < 1:
            _refuse("months between retrains", self.retrain_every_months, "give 1 or more, or None")
        for name, amount in self._amounts():
            if not math.isfinite(float(amount)) or float(amount) < 0:
                _refuse(name, amount, "give a number from 0 up")
            if isinstance(amount, Paid) and amount and amount.currency != self.currency:
                _refuse(name, amount, f"convert it to {self.currency}, the teacher's currency")

    def _amounts(self) -> Iterator[tuple[str, Paid | float]]:
        yield "the teacher's cost per request", self.teacher.per_request
        yield "labels_paid", self.labels_paid
        yield "labels_to_buy", self.labels_to_buy
        yield "the price per error", self.price_per_error
        yield "own_campaigns", self.own_campaigns
        yield "the discount per year", self.discount_per_year
        for part in (self.serving, self.people):
            for name in part.__slots__:
                yield name, getattr(part, name)
        for job in self.jobs:
            yield f"the cost of job {job.job_id}", job.cost

    @property
    def currency(self) -> str:
        """The one currency of the plan: the teacher's."""
        return self.teacher.per_request.currency

    @property
    def counts(self) -> HeldOutCounts | None:
        """The best counts there are of what a certified student accepts and where it differs."""
        if not isinstance(self.student, Certificate):
            return None
        if self.held_out is not None and self.held_out.n:
            return self.held_out
        proven = self.student
        return HeldOutCounts(proven.n_calibration, proven.n_accepted, proven.n_disagreements)

    @property
    def jobs_cost(self) -> float:
        """All metered jobs, whatever became of them, in units of currency."""
        return sum(float(job.cost) for job in self.jobs)

    @property
    def useful_jobs_cost(self) -> float:
        """The jobs that ended well: the `run` that the multiplier of E11 applies to."""
        return sum(float(job.cost) for job in self.jobs if job.status in _USEFUL)

    @property
    def evidence_by_input(self) -> dict[str, Evidence]:
        """How well each input is known; what is assumed by default counts as estimated."""
        settled = self.own_campaigns >= CAMPAIGNS_TO_TRUST
        return {
            "teacher cost": self.teacher.evidence,
            "volume": self.volume.evidence,
            "student": Evidence.SCENARIO if self.student is None else Evidence.DERIVED,
            "training": Evidence.DERIVED if settled else Evidence.ESTIMATED,
            "serving and people": Evidence.ESTIMATED,
            "price changes": Evidence.ESTIMATED,
        }

    @property
    def evidence(self) -> Evidence:
        """The grade of the whole plan: that of its weakest input."""
        return weakest(*self.evidence_by_input.values())


def _refuse(name: str, value: object, remedy: str) -> NoReturn:
    raise CallerError(f"{name} is {value}; {remedy}")
