"""What the hall asks of the outside world; a conformance suite proves each implementation.

Arrays are numpy arrays at run time; they are typed `Any` here because core knows only the standard
library. Shapes stand in the docstrings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stillhouse.core.learning import Prediction, TrainSet


class Encoder(Protocol):
    """Turns texts into vectors; the same text gives the same vector in any batch."""

    @property
    def name(self) -> str:
        """Name and version of the weights: part of every cache key."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Any:
        """Encode texts into a float32 array of shape [len(texts), dimension]."""
        ...


class Student(Protocol):
    """A fitted, immutable answerer of one task."""

    @property
    def recipe(self) -> str:
        """Name of the recipe that it was fitted by."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The answers it can give."""
        ...

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Answer many texts; the same text gets the same answer in any batch."""
        ...

    def to_bytes(self) -> bytes:
        """The artefact: reading it back gives a student with the same answers, bit for bit."""
        ...


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a fit on a part of the training rows said of the rows held out from it.

    `logits` is an array of shape [held out rows, labels], scaled so that its softmax is an honest
    probability; `weights` are the scale, or the weights of the voices of a blend. Thresholds and
    choices are made from rehearsals, so that no calibration row is touched before the gate.
    """

    logits: Any
    weights: tuple[float, ...]


class Recipe(Protocol):
    """An unfitted way to make a student; the same rows and seed give the same student."""

    @property
    def name(self) -> str:
        """Name shown in reports; `constant`, `lexical`, `embedding`, `blend`."""
        ...

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the recipes that this one joins; empty for most."""
        ...

    def rehearse(
        self,
        train: TrainSet,
        held_out: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        below: Mapping[str, Rehearsal],
    ) -> Rehearsal:
        """Fit on `train`, answer `held_out`; `below` has the rehearsals of the voices."""
        ...

    def fit(
        self,
        train: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        rehearsal: Rehearsal,
        below: Mapping[str, Student],
    ) -> Student:
        """Fit on all training rows with the rehearsed weights; `below` has the fitted voices."""
        ...
