"""Which tasks a student can learn, by what their answers look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stillhouse.core.learning import AnswerShape, Refusal, RefusalReason, Task
from stillhouse.distillation.answers import normalise_label
from stillhouse.distillation.dataset import Answered


def wrong_shape(task: Task, answered: Sequence[Answered]) -> Refusal | None:
    """Why answers of this shape cannot be learnt; None where they can."""
    if task.shape is AnswerShape.LABELS:
        return None
    remedy = "only tasks with a closed set of answers can be distilled; see `stillhouse tasks`"
    if task.shape is not AnswerShape.TOOL:
        shapes = {
            AnswerShape.FIELDS: f"JSON objects of {len(task.fields)} fields",
            AnswerShape.TEXT: "free text",
        }
        sentence = f"the answers of {task.name} are {shapes[task.shape]}, and {remedy}"
        return Refusal(RefusalReason.NOT_A_LABEL_TASK, sentence)
    given = sum(row.arguments for row in answered)
    if given:
        sentence = (
            f"the answers of {task.name} choose a tool, and {given:,} of {len(answered):,} give it "
            f"arguments, which a student cannot write; {remedy}"
        )
        return Refusal(RefusalReason.NOT_A_LABEL_TASK, sentence, {"with_arguments": given})
    names = {row.literal for row in answered if row.tool}
    if len({normalise_label(name) for name in names}) < len(names):
        sentence = (
            f"the tools of {task.name} ({', '.join(sorted(names))}) have names that differ only in "
            "case, blanks or underscores, and answers are compared without these; rename one"
        )
        return Refusal(RefusalReason.NOT_A_LABEL_TASK, sentence, {"tools": len(names)})
    return None


def comparable(task: Task, answered: Sequence[Answered]) -> Sequence[Answered]:
    """The rows as they are compared: where tools are chosen, an answer in words is like no other.

    So it is never learnt, and a student that chooses a tool there disagrees.
    """
    if task.shape is not AnswerShape.TOOL:
        return answered
    return [
        row if row.tool else replace(row, answer=f"no tool: {row.row_id}", literal="")
        for row in answered
    ]
