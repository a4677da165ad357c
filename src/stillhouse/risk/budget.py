"""A task's error budget: what each version may spend of it, and what is left for later ones.

Formula: section 4 of the certificate's specification (docs/explanation/certificate.md). Stands on
the standard library, since the endpoint's workers tell of it too.
"""

from __future__ import annotations

import math

from stillhouse.core.learning import Target
from stillhouse.core.serving import Promise


def error_budget(delta: float, version: int) -> float:
    """The part of a task's error budget that version 1, 2, ... may spend; all sum to delta.

    >>> round(error_budget(0.05, 1), 4)
    0.0304
    >>> round(sum(error_budget(0.05, version) for version in range(1, 9999)), 4)
    0.05
    """
    if version < 1:
        raise ValueError(f"versions count from 1, got {version}")
    return delta * 6 / (math.pi**2 * version**2)


def promise(task: str, version: int, target: Target, delta: float) -> Promise:
    """What was promised of a version that had `delta`, and what it leaves to later ones.

    A version spends its part by being asked about, certified or refused. What was spent also bounds
    the expected number of false certificates.

    >>> said = promise("desk", 2, Target(), error_budget(0.05, 2))
    >>> round(said.delta, 4), round(said.spent, 4), round(said.left, 4)
    (0.0076, 0.038, 0.012)
    """
    whole = 1 - target.confidence
    spent = math.fsum(error_budget(whole, one) for one in range(1, version + 1))
    return Promise(task, version, target.max_risk, target.confidence, delta, spent, whole - spent)
