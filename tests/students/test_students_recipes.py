from __future__ import annotations

from collections.abc import Callable

import pytest

from stillhouse.core.ports import Student
from stillhouse.students.shelf import read_student
from stillhouse.testing import check_student

Fit = Callable[..., Student]
Students = dict[str, Student]
RECIPES = ("constant", "lexical", "embedding", "blend")
LEARNING = RECIPES[1:]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_student_of_every_recipe_conforms(fit: Fit, recipe: str, unseen: dict[str, str]) -> None:
    check_student(lambda: fit(recipe), list(unseen), read_student)


@pytest.mark.parametrize("recipe", LEARNING)
def test_what_was_learnt_carries_over_to_other_words(
    students: Students, recipe: str, unseen: dict[str, str]
) -> None:
    answers = students[recipe].predict(list(unseen))
    assert [answer.label for answer in answers] == list(unseen.values())


@pytest.mark.parametrize("recipe", LEARNING)
def test_a_student_is_surer_of_its_task_than_of_something_else(
    students: Students, recipe: str, unseen: dict[str, str]
) -> None:
    student = students[recipe]
    known = [answer.score for answer in student.predict(list(unseen))]
    other = [answer.score for answer in student.predict(["the cat sat on a mat", "qwrtz", ""])]
    assert min(known) > max(other)


@pytest.mark.parametrize("recipe", LEARNING)
def test_two_labels_are_told_apart_the_right_way_round(
    fit: Fit, recipe: str, pairs: list[tuple[str, str]], unseen: dict[str, str]
) -> None:
    labels = ("card lost", "refund")
    student = fit(recipe, [pair for pair in pairs if pair[1] in labels], labels)
    asked = {text: label for text, label in unseen.items() if label in labels}
    assert [a.label for a in student.predict(list(asked))] == list(asked.values())


@pytest.mark.parametrize("recipe", LEARNING)
def test_a_label_that_no_row_had_is_never_answered(
    fit: Fit, recipe: str, pairs: list[tuple[str, str]]
) -> None:
    labels = ("absent", "card lost", "exchange rate", "refund")
    student = fit(recipe, pairs, labels)
    assert student.labels == labels
    assert all(answer.label != "absent" for answer in student.predict([t for t, _ in pairs]))


def test_the_constant_student_says_the_commonest_label_with_its_share(
    fit: Fit, pairs: list[tuple[str, str]]
) -> None:
    student = fit("constant", [*pairs, ("my refund?", "refund"), ("refund!", "refund")])
    answers = student.predict(["anything", "at all"])
    assert [answer.label for answer in answers] == ["refund", "refund"]
    assert answers[0].score == pytest.approx(10 / 26, rel=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_student_knows_its_recipe_and_labels(students: Students, recipe: str) -> None:
    student = students[recipe]
    assert student.recipe == recipe
    assert student.labels == ("card lost", "exchange rate", "refund")


@pytest.mark.parametrize("recipe", LEARNING)
def test_other_rows_give_another_student(
    fit: Fit, students: Students, recipe: str, pairs: list[tuple[str, str]]
) -> None:
    assert fit(recipe, pairs[1:]).to_bytes() != students[recipe].to_bytes()
