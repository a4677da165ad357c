"""A frozen student gets its charter before the gate is asked; tool choices are learnt as labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stillhouse.core.learning import AnswerShape, Certificate, Refusal, Task
from stillhouse.core.serving import Charter, InputRange
from stillhouse.core.traffic import (
    Attempt,
    AttemptKind,
    Completion,
    Exchange,
    Message,
    Request,
    Tags,
)
from stillhouse.distillation.dataset import Answered, answered_row
from stillhouse.distillation.discovery import discover
from stillhouse.distillation.recognition import written
from stillhouse.flows.chartering import MOST_SCORES, gather_facts
from stillhouse.flows.distil import Distillation, distil
from stillhouse.flows.workbench import Facts, Settings
from stillhouse.risk.budget import error_budget


def neighbour(name: str) -> ModuleType:
    """The tests of distilling, whose student and house are used here."""
    spec = util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


shop = neighbour("test_flows_distil")
FACTS = Facts("recogniser", ("p1",), ("support", "gpt"), ("gpt",), tools=True)


class Bench(shop.Bench):  # type: ignore[misc, name-defined]
    """A workbench that notes in which order things come."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def put_charter(self, charter: Charter) -> None:
        self.order.append("charter")
        super().put_charter(charter)

    def put_artefact(self, body: bytes) -> str:
        self.order.append("student" if body == b"open book" else "membership")
        return str(super().put_artefact(body))

    def add_verdict(self, *given: Any) -> None:
        self.order.append("verdict")
        super().add_verdict(*given)


def literal(rows: Sequence[Answered]) -> list[Answered]:
    """Every third answer is written in another way."""
    return [
        replace(row, literal=row.answer.upper() if n % 3 else f"{row.answer}.")
        for n, row in enumerate(rows)
    ]


def run(
    rows: Sequence[Answered], bench: Bench, task: Task = shop.TASK, facts: Facts = FACTS
) -> Distillation:
    at = shop.house(shop.OpenBookRecipe(), bench=bench)
    return distil(task, rows, Settings(curve=False, version=3, facts=facts), at)


def test_a_charter_fixes_what_the_certificate_is_about_before_any_calibration_row_is_seen() -> None:
    bench = Bench()
    result = run(literal(shop.traffic(6000, lambda score: 0.01)), bench)
    assert isinstance(result.verdict, Certificate)
    assert bench.order == ["student", "charter", "membership", "verdict"]
    (charter,) = bench.charters
    best = result.rungs[0]
    assert result.dataset is not None
    assert (charter.task, charter.version, charter.student) == ("desk", 3, result.student)
    assert charter.answers == {label: label.upper() for label in shop.LABELS}
    assert charter.levels == tuple(best.levels)
    assert (
        charter.planned_rows == len(result.dataset.calibration.rows) == result.verdict.n_calibration
    )
    assert charter.delta == result.verdict.delta_spent == pytest.approx(error_budget(0.05, 3))
    assert (charter.recogniser, charter.prompts) == ("recogniser", ("p1",))
    assert (charter.asked_models, charter.teachers) == (("support", "gpt"), ("gpt",))
    longest = max(len(row.text) for row in result.dataset.train.rows)
    assert charter.inputs == InputRange(longest, ("latin",), images=False, tools=True)
    assert {"refund", "repair", "track"} <= set(charter.words)
    assert charter.since_us > 0


def test_the_scores_of_a_charter_are_sorted_and_few() -> None:
    bench = Bench()
    result = run(shop.traffic(24_000, lambda score: 0.01), bench)
    scores = bench.charters[0].scores
    assert len(scores) <= MOST_SCORES < len(result.rungs[0].scores)
    assert list(scores) == sorted(scores)
    assert (scores[0], scores[-1]) == (min(result.rungs[0].scores), max(result.rungs[0].scores))


def test_a_student_that_the_gate_refuses_has_a_charter_too_and_an_early_refusal_none() -> None:
    refused, early = Bench(), Bench()
    assert isinstance(run(shop.traffic(4000, lambda score: 0.26), refused).verdict, Refusal)
    assert isinstance(run(shop.traffic(60, lambda score: 0.0), early).verdict, Refusal)
    assert (len(refused.charters), early.charters) == (1, [])


TOOLS = Task("pick", "sig", AnswerShape.TOOL, "{text}", labels=shop.LABELS)


def chosen(n: int, arguments: str = "{}", names: Mapping[str, str] | None = None) -> list[Answered]:
    """The same rows as tool choices; one in two hundred is answered in words."""
    rows: Iterable[Answered] = shop.traffic(n, lambda score: 0.01)
    names = names or {}
    return [
        answered_row(
            row.row_id,
            row.text,
            Completion(text="Which order is it?")
            if number % 200 == 0
            else Completion(tool=names.get(row.answer, row.answer), tool_arguments=arguments),
        )
        for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize("arguments", ["", "{}", " {} ", "null"])
def test_the_choice_of_a_tool_without_arguments_is_distilled(arguments: str) -> None:
    bench = Bench()
    result = run(chosen(6000, arguments, {"track": "Track"}), bench, TOOLS)
    assert isinstance(result.verdict, Certificate)
    (charter,) = bench.charters
    assert charter.shape is AnswerShape.TOOL
    assert charter.answers == {"refund": "refund", "repair": "repair", "track": "Track"}


def test_an_answer_in_words_is_a_disagreement_with_any_tool() -> None:
    result = run(chosen(6000), Bench(), TOOLS)
    assert result.calibration is not None
    worded = [row.label.startswith("no tool") for row in result.calibration.rows]
    assert any(worded)
    assert all(
        wrong
        for wrong, words in zip(result.calibration.disagreements, worded, strict=True)
        if words
    )


def test_arguments_of_a_tool_are_more_than_a_student_can_write() -> None:
    rows = [*chosen(600), *chosen(3, '{"order": 7}')[1:], *chosen(2, "{broken")[1:]]
    result = run(rows, Bench(), TOOLS)
    assert isinstance(result.verdict, Refusal)
    assert "choose a tool, and 3 of 603 give it arguments" in result.verdict.sentence


def test_tools_whose_names_cannot_be_told_apart_are_refused() -> None:
    names = {"refund": "send_it", "track": "Send it"}
    result = run(chosen(600, names=names), Bench(), TOOLS)
    assert isinstance(result.verdict, Refusal)
    assert "Send it, repair, send_it" in result.verdict.sentence


SORT = "Sort the customer's mail for the shop. Answer with one word: refund, repair or track."


def exchange(
    n: int, model: str = "gpt-4", kind: AttemptKind = AttemptKind.TEACHER, **facts: Any
) -> Exchange:
    system = facts.get("system", SORT)
    text = f"{facts.get('text', '')}Mail {n}: {('lamp', 'kettle', 'iron')[n % 3]} number {n * 7919}"
    request = Request((Message("system", system), Message("user", text)), facts.get("tools", ()))
    attempt = Attempt(f"{n}", model, at_us=n, kind=kind)
    answer = Completion(shop.LABELS[n % 3])
    return Exchange(f"{n}", request, answer, (attempt,), Tags())


def gathered(traffic: Sequence[Exchange], names_of: Callable[[str], Iterable[str]]) -> Facts:
    found = discover(traffic)
    (task,) = found.models.tasks
    return gather_facts(task, traffic, written(found.models), "digest", names_of)


def test_the_facts_of_a_task_are_those_of_its_teachers_exchanges() -> None:
    edited = SORT + "\nNever answer in another language."
    traffic = [
        *(exchange(n) for n in range(60)),
        *(exchange(n, "gpt-5", system=edited) for n in range(60, 100)),
        *(exchange(n, "open book", AttemptKind.STUDENT, tools=("t",)) for n in range(100, 110)),
        *(exchange(n, "gpt-4", AttemptKind.SHADOW) for n in range(110, 115)),
    ]
    facts = gathered(traffic, lambda model: [model, "support"])
    assert facts.teachers == ("gpt-4", "gpt-5")
    assert facts.asked_models == ("gpt-4", "support", "gpt-5")
    assert len(facts.prompts) == 2
    assert (facts.recogniser, facts.images, facts.tools) == ("digest", False, False)


def test_requests_with_images_or_tools_say_so() -> None:
    plain = [exchange(n) for n in range(60)]
    pictured = [*plain, exchange(60, text="[image] ")]
    equipped = [*plain, exchange(60, tools=("search",))]
    assert gathered(pictured, lambda model: [model]).images
    assert gathered(equipped, lambda model: [model]).tools
