"""Cases that several tests plan with: one recorded task's real figures, one worked by hand."""

import pytest

from stillhouse.core.books import Job, JobKind, JobStatus
from stillhouse.core.learning import Certificate
from stillhouse.core.money import Paid
from stillhouse.planner import (
    NOBODY,
    HeldOutCounts,
    PlanInputs,
    PriceOutlook,
    Serving,
    TeacherCost,
    stated_volume,
)
from stillhouse.planner.volume import DAYS_PER_MONTH


def certificate(n: int, accepted: int, disagreements: int) -> Certificate:
    return Certificate(
        student="s1",
        threshold=0.8,
        max_risk=0.05,
        confidence=0.95,
        delta_spent=0.03,
        version=1,
        n_calibration=n,
        n_accepted=accepted,
        n_disagreements=disagreements,
        method="e-process",
        dataset="d1",
    )


def job(cost: str, status: JobStatus) -> Job:
    return Job(f"job of {cost}", "t", JobKind.TRAIN, status, 0, 60.0, 100.0, Paid.of(cost))


@pytest.fixture(scope="session")
def banking77() -> PlanInputs:
    """13,083 recorded requests of 402 tokens in and 4.5 out, billed at $0.0796 together."""
    return PlanInputs(
        task="banking77",
        volume=stated_volume(100_000),
        teacher=TeacherCost(Paid.of("6.084e-6"), "billed"),
        student=certificate(2000, 1500, 50),
        held_out=HeldOutCounts(3080, 2310, 80),
        jobs=(job("0.001", JobStatus.REJECTED), job("0.002", JobStatus.PROMOTED)),
    )


@pytest.fixture(scope="session")
def worked() -> PlanInputs:
    """The worked check of E8 and E10 without its uncertainty: $1,500, 30,000 requests a day."""
    return PlanInputs(
        task="worked",
        volume=stated_volume(30_000 * DAYS_PER_MONTH, log_spread=0),
        teacher=TeacherCost(Paid.of("0.004"), "computed"),
        student=certificate(1000, 800, 16),
        labels_paid=Paid.of(1500),
        serving=Serving(
            student_seconds_per_request=7.2, cost_per_core_hour=Paid.of("0.05"), idle_cores=0
        ),
        people=NOBODY,
        prices=PriceOutlook(jumps=(1.0,)),
        shadow_share=0.02,
        retrain_every_months=None,
        discount_per_year=0.0,
    )
