"""However many versions are tried, all that is promised stays within the task's error budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.learning import Certificate, Refusal, RefusalReason, Target
from stillhouse.risk.budget import promises
from stillhouse.risk.certificate import error_budget

TARGET = Target(0.05, 0.95)
REFUSED = Refusal(RefusalReason.NO_LEVEL_QUALIFIES, "Not yet.")


def proof(version: int, delta: float) -> Certificate:
    return Certificate("d", 0.8, 0.02, 0.95, delta, version, 500, 300, 3, "e", "data")


def test_a_certificate_promises_what_it_says_and_a_refusal_spends_as_much() -> None:
    first, second = promises("desk", [(2, REFUSED), (1, proof(1, 0.03))], TARGET)
    assert (first.version, first.max_risk, first.delta, first.spent) == (1, 0.02, 0.03, 0.03)
    assert (second.version, second.max_risk) == (2, 0.05)
    assert second.delta == pytest.approx(error_budget(0.05, 2))
    assert second.spent == pytest.approx(0.03 + second.delta)
    assert second.left == pytest.approx(0.05 - second.spent)
    assert [promise.facts["certified"] for promise in (first, second)] == [True, False]
    assert second.facts["expected_false_certificates"] == second.spent


@given(st.integers(1, 200))
def test_the_budget_never_runs_out_nor_is_overspent(versions: int) -> None:
    found = promises("desk", [(v, REFUSED) for v in range(1, versions + 1)], TARGET)
    assert found[-1].spent < 0.05
    assert found[-1].left > 0
    assert [promise.left for promise in found] == sorted((p.left for p in found), reverse=True)
    assert promises("desk", [], TARGET) == ()
