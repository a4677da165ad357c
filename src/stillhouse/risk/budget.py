"""What has been promised of a task's versions, and what is left of its error budget."""

from __future__ import annotations

from collections.abc import Sequence

from stillhouse.core.learning import Certificate, Refusal, Target
from stillhouse.core.serving import Promise
from stillhouse.risk.certificate import error_budget


def promises(
    task: str, verdicts: Sequence[tuple[int, Certificate | Refusal]], target: Target
) -> tuple[Promise, ...]:
    """One promise for each version of which the gate was asked, in their order.

    A version spends its part of the budget by being asked about, refused or not: version v gets
    delta * 6 / (pi^2 v^2), and all together never more than delta. The sum of what was spent also
    bounds the expected number of false certificates.

    >>> from stillhouse.core.learning import RefusalReason
    >>> refused = Refusal(RefusalReason.NO_LEVEL_QUALIFIES, "Not yet.")
    >>> first, second = promises("desk", [(1, refused), (2, refused)], Target())
    >>> round(first.delta, 4), round(second.spent, 4), round(second.left, 4)
    (0.0304, 0.038, 0.012)
    """
    found: list[Promise] = []
    spent = 0.0
    for version, verdict in sorted(verdicts, key=lambda row: row[0]):
        if isinstance(verdict, Certificate):
            risk, confidence, delta = verdict.max_risk, verdict.confidence, verdict.delta_spent
        else:
            risk, confidence = target.max_risk, target.confidence
            delta = error_budget(1 - confidence, version)
        spent += delta
        facts = {
            "certified": isinstance(verdict, Certificate),
            "expected_false_certificates": spent,
        }
        left = max(0.0, 1 - target.confidence - spent)
        found.append(Promise(task, version, risk, confidence, delta, spent, left, facts))
    return tuple(found)
