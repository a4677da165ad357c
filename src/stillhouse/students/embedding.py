"""A sentence encoder with a linear head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from stillhouse.core.learning import Prediction, TrainSet
from stillhouse.core.ports import Encoder, Rehearsal, Student
from stillhouse.students import artefact
from stillhouse.students.linear import (
    Matrix,
    Odds,
    full_weights,
    mixing_weights,
    odds_of,
    predictions,
    targets,
)

STRENGTH = 0.005
TINY = np.float32(1e-12)
"""Inverse regularisation of the head; docs/experiments.md has the sweep."""


class EmbeddingStudent:
    """One weight per dimension of the encoder and label."""

    recipe = "embedding"

    def __init__(
        self, labels: tuple[str, ...], encoder: Encoder, weights: Matrix, offset: Matrix
    ) -> None:
        self.labels = labels
        self._encoder = encoder
        self._weights = weights
        self._offset = offset

    def logits(self, texts: Sequence[str]) -> Matrix:
        """How strongly each label is spoken for: shape [texts, labels]."""
        vectors = self._encoder.encode(texts)
        return cast(Matrix, vectors @ self._weights + self._offset)

    def odds(self, texts: Sequence[str]) -> Odds:
        """The labels' probabilities: shape [texts, labels]."""
        return odds_of(self.logits(texts))

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Answer many texts."""
        return predictions(self.logits(texts), self.labels)

    def to_bytes(self) -> bytes:
        """The artefact; the encoder is named, not copied."""
        header = {"recipe": self.recipe, "labels": self.labels, "encoder": self._encoder.name}
        return artefact.write(header, {"weights": self._weights, "offset": self._offset})

    @classmethod
    def read(
        cls,
        header: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
        encoder: Callable[[str], Encoder],
    ) -> EmbeddingStudent:
        """Read back an artefact's header and arrays; `encoder` opens an encoder by its name."""
        opened = encoder(header["encoder"])
        return cls(tuple(header["labels"]), opened, arrays["weights"], arrays["offset"])


class EmbeddingRecipe:
    """Multinomial logistic regression over sentence vectors."""

    name = "embedding"
    voices = ()

    def __init__(self, encoder: Encoder) -> None:
        """Take the encoder to stand on."""
        self._encoder = encoder

    def rehearse(
        self,
        train: TrainSet,
        held_out: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        below: Mapping[str, Rehearsal],
    ) -> Rehearsal:
        """Fit on some rows, and set the scale of the logits on the others."""
        weights, offset = self._head(train, labels)
        logits = self._encoder.encode([row.text for row in held_out.rows]) @ weights + offset
        scale = float(mixing_weights([logits], targets(held_out.rows, labels))[0])
        return Rehearsal(logits * np.float32(scale), (scale,))

    def fit(
        self,
        train: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        rehearsal: Rehearsal,
        below: Mapping[str, Student],
    ) -> Student:
        """Fit on all training rows."""
        weights, offset = self._head(train, labels)
        scale = np.float32(rehearsal.weights[0])
        return EmbeddingStudent(labels, self._encoder, weights * scale, offset * scale)

    def _head(self, train: TrainSet, labels: tuple[str, ...]) -> tuple[Matrix, Matrix]:
        """Fit on evened vectors, and fold the evening into weights and offset.

        Poolings by maximum make vectors nearly parallel, and a few dimensions far wider than the
        rest. Centred, and divided by the root of its standard deviation, every dimension counts
        and the solver converges: worth 0.7 and 0.3 points of agreement on 77 labels.
        """
        from sklearn.linear_model import LogisticRegression

        vectors = self._encoder.encode([row.text for row in train.rows])
        centre, spread = vectors.mean(axis=0), vectors.std(axis=0)
        root = np.sqrt(np.maximum(spread, 0.1 * spread.mean() + TINY))
        # Together the dimensions keep a variance of one each on average, whatever the encoder.
        even = 1 / (root * np.sqrt(np.mean((spread / root) ** 2) + TINY))
        model = LogisticRegression(C=STRENGTH, max_iter=200, tol=3e-4)
        model.fit((vectors - centre) * even, targets(train.rows, labels))
        weights, offset = full_weights(model, len(labels))
        weights *= even[:, None]
        return weights, offset - centre @ weights
