"""The lowest rung: always the commonest answer. What a student must beat to be worth anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from stillhouse.core.learning import Prediction, TrainSet
from stillhouse.core.ports import Rehearsal, Student
from stillhouse.students import artefact
from stillhouse.students.linear import Matrix, Odds, odds_of, predictions


class ConstantStudent:
    """Answers every request alike, with the label's share in training as its score."""

    recipe = "constant"

    def __init__(self, labels: tuple[str, ...], log_share: Matrix) -> None:
        self.labels = labels
        self._log_share = log_share

    def logits(self, texts: Sequence[str]) -> Matrix:
        """The log shares of the labels, once for each text."""
        return np.repeat(self._log_share[None, :], len(texts), axis=0)

    def odds(self, texts: Sequence[str]) -> Odds:
        """The labels' probabilities: shape [texts, labels]."""
        return odds_of(self.logits(texts))

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Answer many texts."""
        return predictions(self.logits(texts), self.labels)

    def to_bytes(self) -> bytes:
        """The artefact."""
        header = {"recipe": self.recipe, "labels": self.labels}
        return artefact.write(header, {"log_share": self._log_share})

    @classmethod
    def read(
        cls, header: Mapping[str, list[str]], arrays: Mapping[str, npt.NDArray[np.float32]]
    ) -> ConstantStudent:
        """Read back an artefact's header and arrays."""
        return cls(tuple(header["labels"]), arrays["log_share"])


class ConstantRecipe:
    """Counts labels."""

    name = "constant"
    voices = ()

    def rehearse(
        self,
        train: TrainSet,
        held_out: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        below: Mapping[str, Rehearsal],
    ) -> Rehearsal:
        """Count the labels of some rows and say the commonest of the others."""
        return Rehearsal(_count(train, labels).logits([r.text for r in held_out.rows]), (1.0,))

    def fit(
        self,
        train: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        rehearsal: Rehearsal,
        below: Mapping[str, Student],
    ) -> Student:
        """Count the labels of all training rows."""
        return _count(train, labels)


def _count(train: TrainSet, labels: tuple[str, ...]) -> ConstantStudent:
    counts = Counter(row.label for row in train.rows)
    share = np.array([counts[label] + 1e-9 for label in labels]) / max(1, len(train.rows))
    return ConstantStudent(labels, np.log(share).astype(np.float32))
