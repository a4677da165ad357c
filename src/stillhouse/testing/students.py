"""What every student must do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stillhouse.core.learning import Prediction
from stillhouse.core.ports import Student
from stillhouse.testing.odd import ODD_TEXTS

ROUNDING = 1e-6
"""Sums of another order differ in the last bit of a float32, and by no more than this."""


def check_student(
    make: Callable[[], Student], texts: Sequence[str], read: Callable[[bytes], Student]
) -> None:
    """Check a student on texts of its task, at least two, and on odd ones.

    `make` fits the student, alike each time; `read` reads an artefact back. Raises AssertionError.
    """
    student = make()
    asked = [*texts, *ODD_TEXTS]
    said = student.predict(asked)
    _check_answers(student, asked, said)
    _check_batches(student, asked, said)
    _check_odds(student, asked, said)
    artefact = student.to_bytes()
    assert make().to_bytes() == artefact, "fitted again, the student has another artefact"
    copy = read(artefact)
    assert (copy.recipe, copy.labels) == (student.recipe, student.labels), "read back as another"
    assert copy.predict(asked) == said, "read back, the student answers otherwise"
    assert copy.to_bytes() == artefact, "read back and written, the artefact has changed"


def _check_answers(student: Student, asked: Sequence[str], said: Sequence[Prediction]) -> None:
    assert student.recipe, "a student names its recipe"
    assert len(said) == len(asked), f"{len(asked)} texts got {len(said)} answers"
    assert student.predict([]) == [], "no texts get no answers"
    for text, answer in zip(asked, said, strict=True):
        assert answer.label in student.labels, f"{text[:40]!r} got the label {answer.label!r}"
        assert 0 <= answer.score <= 1, f"{text[:40]!r} got the score {answer.score}"


def _check_odds(student: Student, asked: Sequence[str], said: Sequence[Prediction]) -> None:
    odds = student.odds(asked)
    shape = (len(asked), len(student.labels))
    assert odds.shape == shape, f"the odds have the shape {odds.shape}, and not {shape}"
    assert len(student.odds([])) == 0, "no texts get no odds"
    for text, row, answer in zip(asked, odds.tolist(), said, strict=True):
        whole = abs(sum(row) - 1) <= ROUNDING and min(row) >= 0
        assert whole, f"the odds of {text[:40]!r} are no shares of one: they sum to {sum(row)}"
        likeliest, own = max(row), row[student.labels.index(answer.label)]
        assert likeliest - own <= ROUNDING, f"{text[:40]!r} has a likelier label than {answer}"
        assert abs(own - answer.score) <= ROUNDING, f"{text[:40]!r} got {answer}, odds {own}"


def _check_batches(student: Student, asked: Sequence[str], said: Sequence[Prediction]) -> None:
    batches = {
        "alone": [student.predict([text])[0] for text in asked],
        "in another order": student.predict(list(reversed(asked)))[::-1],
        "twice": student.predict([*asked, *asked])[len(asked) :],
    }
    for how, answers in batches.items():
        for text, other, answer in zip(asked, answers, said, strict=True):
            alike = other.label == answer.label and abs(other.score - answer.score) <= ROUNDING
            assert alike, f"{text[:40]!r} asked {how} got {other}, and {answer} before"
