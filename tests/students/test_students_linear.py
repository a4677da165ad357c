from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from stillhouse.core.learning import Row
from stillhouse.students.linear import (
    ABSENT,
    full_weights,
    mixing_weights,
    predictions,
    targets,
)

LABELS = ("a", "b", "c")


def spoken(seed: int, rows: int = 3_000) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Logits that are honest log probabilities, and labels drawn by them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, 3))
    share = special.softmax(logits, axis=1).cumsum(axis=1)
    return logits, (rng.random((rows, 1)) > share).sum(axis=1)


def test_targets_are_places_among_the_labels_and_unknown_labels_have_none() -> None:
    rows = [Row(str(n), "", label, n, n) for n, label in enumerate("bcxa")]
    assert targets(rows, LABELS).tolist() == [1, 2, -1, 0]


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_the_scale_makes_overconfident_and_shy_logits_honest(factor: float) -> None:
    logits, truth = spoken(1)
    (scale,) = mixing_weights([logits * factor], truth)
    assert scale * factor == pytest.approx(1.0, rel=0.1)


def test_a_voice_that_knows_nothing_gets_no_weight() -> None:
    logits, truth = spoken(2)
    noise = np.random.default_rng(3).normal(0, 2, logits.shape)
    knowing, babbling = mixing_weights([logits, noise], truth)
    assert knowing == pytest.approx(1.0, rel=0.1)
    assert babbling < 0.05


def test_rows_of_unknown_labels_do_not_weigh() -> None:
    logits, truth = spoken(4)
    strange = np.vstack([logits, -50 * np.ones((500, 3))])
    marked = np.concatenate([truth, np.full(500, -1)])
    assert mixing_weights([strange], marked) == pytest.approx(mixing_weights([logits], truth))


def test_without_rows_every_voice_weighs_alike() -> None:
    empty = [np.zeros((0, 3)), np.zeros((0, 3))]
    assert mixing_weights(empty, np.zeros(0, dtype=np.int64)).tolist() == [0.5, 0.5]


@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), max_size=5))
def test_the_score_is_the_probability_of_the_likeliest_label(rows: list[list[float]]) -> None:
    logits = np.array(rows, dtype=np.float32).reshape(len(rows), 3)
    shares = special.softmax(logits.astype(np.float64), axis=1)
    for answer, share in zip(predictions(logits, LABELS), shares, strict=True):
        assert answer.score == pytest.approx(share.max())
        assert share[LABELS.index(answer.label)] == share.max()
        assert 1 / 3 - 1e-9 <= answer.score <= 1


def test_two_classes_in_one_column_become_two_and_unseen_ones_are_absent() -> None:
    model = SimpleNamespace(
        coef_=np.array([[1.0, 2.0]]), intercept_=np.array([0.5]), classes_=np.array([0, 2])
    )
    weights, offset = full_weights(model, 3)
    assert weights.tolist() == [[-1, 0, 1], [-2, 0, 2]]
    assert offset.tolist() == [-0.5, ABSENT, 0.5]
