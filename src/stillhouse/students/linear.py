"""What every linear student shares: targets, probabilities and the scale that makes them honest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from stillhouse.core.learning import Prediction, Row

Matrix = npt.NDArray[np.float32]
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

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        log_p = special.log_softmax(np.tensordot(weights, stack, 1), axis=1)
        miss = (np.exp(log_p) * stack).sum(axis=2) - stack[:, rows, truth]
        pull = weights - start
        value = -log_p[rows, truth].mean() + (pull**2).sum() / len(rows)
        return float(value), miss.mean(axis=1) + 2 * pull / len(rows)

    bounds = [(1e-3, 50.0)] * len(logits)
    found = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return cast(npt.NDArray[np.float64], found.x)


def predictions(logits: npt.NDArray[Any], labels: Sequence[str]) -> list[Prediction]:
    """The likeliest label of each row, with its probability as the score."""
    if not len(logits):
        return []
    best = logits.argmax(axis=1)
    log_sum = special.logsumexp(logits.astype(np.float64), axis=1)
    scores = np.exp(logits[np.arange(len(best)), best] - log_sum)
    return [Prediction(labels[b], s) for b, s in zip(best.tolist(), scores.tolist(), strict=True)]
