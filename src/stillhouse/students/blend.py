"""Lexical and embedding students together: each sees what the other misses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from stillhouse.core.learning import Prediction, TrainSet
from stillhouse.core.ports import Rehearsal, Student
from stillhouse.students import artefact
from stillhouse.students.linear import (
    Matrix,
    Odds,
    mixing_weights,
    odds_of,
    predictions,
    targets,
)


class Voice(Protocol):
    """A student that says how strongly it speaks for each label."""

    labels: tuple[str, ...]

    def logits(self, texts: Sequence[str]) -> Matrix:
        """Shape [texts, labels]."""
        ...

    def to_bytes(self) -> bytes:
        """The artefact."""
        ...


class BlendStudent:
    """A weighted sum of what its voices say."""

    recipe = "blend"

    def __init__(self, voices: Sequence[Voice], weights: Sequence[float]) -> None:
        """Take two voices or more over the same labels, and a weight for each."""
        self.labels = voices[0].labels
        self._voices = tuple(voices)
        self._weights = tuple(weights)

    def logits(self, texts: Sequence[str]) -> Matrix:
        """How strongly each label is spoken for: shape [texts, labels]."""
        total = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        for voice, weight in zip(self._voices, self._weights, strict=True):
            total += np.float32(weight) * voice.logits(texts)
        return total

    def odds(self, texts: Sequence[str]) -> Odds:
        """The labels' probabilities: shape [texts, labels]."""
        return odds_of(self.logits(texts))

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Answer many texts."""
        return predictions(self.logits(texts), self.labels)

    def to_bytes(self) -> bytes:
        """The artefact: the artefacts of the voices, and their weights."""
        parts = {
            f"voice{number}": np.frombuffer(voice.to_bytes(), dtype=np.uint8)
            for number, voice in enumerate(self._voices)
        }
        header = {"recipe": self.recipe, "labels": self.labels, "weights": self._weights}
        return artefact.write(header, parts)

    @classmethod
    def read(
        cls,
        header: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
        voice: Callable[[bytes], Voice],
    ) -> BlendStudent:
        """Read back an artefact's header and arrays; `voice` reads the parts."""
        weights = header["weights"]
        voices = [voice(arrays[f"voice{number}"].tobytes()) for number in range(len(weights))]
        return cls(voices, weights)


class BlendRecipe:
    """Weighs its voices by what they said of rows held out; fits nothing else."""

    name = "blend"
    voices = ("lexical", "embedding")

    def rehearse(
        self,
        train: TrainSet,
        held_out: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        below: Mapping[str, Rehearsal],
    ) -> Rehearsal:
        """Find the weights of the voices on the rows that none of them saw."""
        logits = [cast(Matrix, below[voice].logits) for voice in self.voices]
        weights = mixing_weights(logits, targets(held_out.rows, labels))
        blended = np.tensordot(weights.astype(np.float32), np.stack(logits), 1)
        return Rehearsal(blended, tuple(weights.tolist()))

    def fit(
        self,
        train: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        rehearsal: Rehearsal,
        below: Mapping[str, Student],
    ) -> Student:
        """Join the fitted voices."""
        return BlendStudent([cast(Voice, below[v]) for v in self.voices], rehearsal.weights)
