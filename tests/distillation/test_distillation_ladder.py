from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from stillhouse.core.learning import Prediction, Row, Target, TrainSet
from stillhouse.core.ports import Recipe, Rehearsal, Student
from stillhouse.distillation.ladder import (
    FORECAST_NOISE,
    Rung,
    chosen,
    first_share,
    fit,
    rehearse,
    rung,
)

LABELS = ("a", "b")
TRAIN = TrainSet(tuple(Row(f"r{n}", "text", "ab"[n % 2], n, n) for n in range(8)))
NOISE, PLAIN = 0.5 * FORECAST_NOISE, 1.5 * FORECAST_NOISE
NOTHING = Rehearsal(np.zeros((0, 2)), (1.0,))


@dataclass
class Said:
    """A student that remembers what it was made of."""

    recipe: str
    weights: tuple[float, ...]
    below: Mapping[str, Student]
    labels: tuple[str, ...] = LABELS

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [Prediction("a", 0.5) for _ in texts]

    def odds(self, texts: Sequence[str]) -> Any:
        return np.full((len(texts), len(self.labels)), 1 / len(self.labels))

    def to_bytes(self) -> bytes:
        return self.recipe.encode()


@dataclass
class Scripted:
    """A recipe that notes in which order it is asked."""

    name: str
    voices: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def rehearse(
        self,
        train: TrainSet,
        held_out: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        below: Mapping[str, Rehearsal],
    ) -> Rehearsal:
        self.notes.append(self.name)
        assert tuple(below) == self.voices
        return Rehearsal(np.zeros((len(held_out.rows), len(labels))), (float(len(self.notes)),))

    def fit(
        self,
        train: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        rehearsal: Rehearsal,
        below: Mapping[str, Student],
    ) -> Student:
        self.notes.append(self.name)
        return Said(self.name, rehearsal.weights, below)


def scripted(notes: list[str]) -> dict[str, Recipe]:
    low, high = Scripted("low", notes=notes), Scripted("high", notes=notes)
    both = Scripted("both", ("low", "high"), notes)
    return {recipe.name: recipe for recipe in (low, high, both)}


def rung_of(recipe: str, agreement: float, forecast: float) -> Rung:
    empty = np.zeros(0)
    return Rung(
        recipe, NOTHING, empty, empty.astype(bool), empty, agreement, forecast, 1 - agreement
    )


def test_voices_are_fitted_first_and_handed_to_the_recipe_that_joins_them() -> None:
    notes: list[str] = []
    said = {name: Rehearsal(np.zeros((0, 2)), (len(name),)) for name in ("low", "high", "both")}
    student = fit("both", scripted(notes), said, TRAIN, LABELS, seed=1)
    assert notes == ["low", "high", "both"]
    assert isinstance(student, Said)
    assert student.weights == (4,)
    assert {name: part.recipe for name, part in student.below.items()} == {
        "low": "low",
        "high": "high",
    }


def test_voices_are_rehearsed_first_on_the_same_rows() -> None:
    notes: list[str] = []
    found = rehearse("both", scripted(notes), TRAIN, TRAIN, LABELS, seed=1)
    assert notes == ["low", "high", "both"]
    assert found.logits.shape == (8, 2)


def test_a_rung_compares_the_rehearsal_with_the_teacher() -> None:
    margins = np.array([4.0, -4.0, 2.0, -2.0, 1.0, 1.0, 0.5, 0.5])
    said = Rehearsal(np.stack([margins, -margins], axis=1), (1.0,))
    found = rung("low", said, TRAIN.rows, LABELS, Target(), delta=0.05)
    assert found.disagreements.tolist() == [False] * 5 + [True, False, True]
    assert found.agreement == 0.75
    assert found.scores == pytest.approx(1 / (1 + np.exp(-2 * np.abs(margins))))
    assert found.levels[0] > found.levels[-1] == pytest.approx(found.scores.min())
    assert found.forecast_accept_rate == 0.0  # eight rows prove nothing


def test_a_held_out_row_of_an_unknown_label_is_a_disagreement() -> None:
    strange = replace(TRAIN.rows[0], label="c")
    said = Rehearsal(np.array([[1.0, 0.0]]), (1.0,))
    assert rung("low", said, [strange], LABELS, Target(), delta=0.05).agreement == 0.0


def test_a_flawless_rehearsal_may_be_forecast_to_accept_everything() -> None:
    rows = [Row(str(n), "", "a", n, n) for n in range(400)]
    said = Rehearsal(np.stack([np.linspace(1, 3, 400), np.zeros(400)], axis=1), (1.0,))
    assert rung("low", said, rows, LABELS, Target(), delta=0.05).forecast_accept_rate == 1.0


@pytest.mark.parametrize(
    ("climb", "expected"),
    [
        ([("low", 0.8, 0.5), ("high", 0.7, 0.5 + PLAIN)], "high"),  # the forecast is plain
        ([("low", 0.8, 0.5), ("high", 0.9, 0.5 - PLAIN)], "low"),
        ([("low", 0.8, 0.5), ("high", 0.9, 0.5 - NOISE)], "high"),  # it is not: log loss
        ([("low", 0.9, 0.5), ("high", 0.8, 0.5 + NOISE)], "low"),
        ([("low", 0.8, 0.5), ("high", 0.8, 0.5 + NOISE)], "low"),  # the dearer one earns nothing
        ([("low", 0.5, 0.0), ("high", 0.6, 0.0)], "high"),
        ([("low", 0.6, 0.0), ("high", 0.6, 0.0)], "low"),
        ([("low", 0.7, 0.1), ("high", 0.8, 0.5), ("both", 0.9, 0.5)], "both"),
        ([("low", 0.9, 0.5), ("high", 0.8, 0.1), ("both", 0.8, 0.5)], "low"),
        ([("low", 0.99, 0.99), ("high", 0.995, 1.0)], "low"),  # nothing is left to win
    ],
)
def test_a_dearer_recipe_must_earn_its_place(
    climb: list[tuple[str, float, float]], expected: str
) -> None:
    assert chosen([rung_of(*each) for each in climb]).recipe == expected


@pytest.mark.parametrize(("share", "rows"), [(0.0, 1), (0.125, 1), (0.5, 4), (1.0, 8)])
def test_a_young_log_holds_the_first_rows(share: float, rows: int) -> None:
    assert first_share(TRAIN, share).rows == TRAIN.rows[:rows]
