"""However many versions are tried, all that is promised stays within the task's error budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.learning import Target
from stillhouse.risk.budget import error_budget, promise


def test_a_promise_says_what_was_spent_up_to_it_and_what_is_left() -> None:
    said = promise("desk", 2, Target(0.02, 0.95), error_budget(0.05, 2))
    assert (said.task, said.version, said.max_risk, said.confidence) == ("desk", 2, 0.02, 0.95)
    assert said.spent == pytest.approx(error_budget(0.05, 1) + said.delta)
    assert said.left == pytest.approx(0.05 - said.spent)


@given(st.integers(1, 200))
def test_the_budget_never_runs_out_nor_is_overspent(version: int) -> None:
    said = promise("desk", version, Target(), error_budget(0.05, version))
    later = promise("desk", version + 1, Target(), error_budget(0.05, version + 1))
    assert 0 < later.left < said.left < 0.05
