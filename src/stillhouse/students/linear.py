"""What every linear student shares: targets, probabilities and the scale that makes them honest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from stillhouse.core.learning import Prediction, Row

Matrix = npt.NDArray[np.float32]
Odds = npt.NDArray[np.float64]
ABSENT = -30.0
"""Logit of a label that a fit never saw."""


def targets(rows: Iterable[Row], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """The label of each row as its place in `labels`; -1 for a label that is not among them."""
    place = {label: number for number, label in enumerate(labels)}
    return np.array([place.get(row.label, -1) for row in rows], dtype=np.int64)


def full_weights(model: Any, n_labels: int) -> tuple[Matrix, Matrix]:
    """A scikit-learn linear head as weights [features, labels] and offsets [labels].

    Two classes come back as one column there, and unseen classes not at all: both are filled in.
    """
    weights, offset = model.coef_, np.atleast_1d(model.intercept_)
    if len(model.classes_) == 2:
        weights, offset = np.vstack([-weights, weights]), np.concatenate([-offset, offset])
    full = np.zeros((weights.shape[1], n_labels), dtype=np.float32)
    full[:, model.classes_] = weights.T
    offsets = np.full(n_labels, ABSENT, dtype=np.float32)
    offsets[model.classes_] = offset
    return full, offsets


def mixing_weights(
    logits: Sequence[npt.NDArray[Any]], wanted: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Weights >= 0 that make the weighted sum of logits predict best (least log loss).

    With one array of logits the weight is an inverse temperature. Each array is of shape
    [rows, labels]; rows whose label is unknown (-1) are left out. Tends to 1 / len(logits) where
    there are too few rows to tell.
    """
    known = wanted >= 0
    stack = np.stack([part[known].astype(np.float64) for part in logits])
    rows, truth = np.arange(int(known.sum())), wanted[known]
    start = np.full(len(logits), 1.0 / len(logits))
    if not len(rows):
        return start
    from scipy import optimize, special  # who only predicts need not wait for it

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        log_p = special.log_softmax(np.tensordot(weights, stack, 1), axis=1)
        miss = (np.exp(log_p) * stack).sum(axis=2) - stack[:, rows, truth]
        pull = weights - start
        value = -log_p[rows, truth].mean() + (pull**2).sum() / len(rows)
        return float(value), miss.mean(axis=1) + 2 * pull / len(rows)

    bounds = [(1e-3, 50.0)] * len(logits)
    found = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return cast(npt.NDArray[np.float64], found.x)


def odds_of(logits: npt.NDArray[Any]) -> Odds:
    """The labels' probabilities: the softmax of each row.

    >>> odds_of(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    if not len(logits):
        return np.zeros(logits.shape, dtype=np.float64)
    shares = logits.astype(np.float64)
    shares -= shares.max(axis=1, keepdims=True)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def likeliest(odds: npt.NDArray[Any], labels: Sequence[str]) -> list[Prediction]:
    """The likeliest label of each row, with its probability as the score."""
    if not len(odds):
        return []
    best, scores = odds.argmax(axis=1).tolist(), odds.max(axis=1).tolist()
    return [Prediction(labels[b], s) for b, s in zip(best, scores, strict=True)]


def predictions(logits: npt.NDArray[Any], labels: Sequence[str]) -> list[Prediction]:
    """The label of each row that is spoken for most, with its probability as the score."""
    return likeliest(odds_of(logits), labels)
