"""The nouns of distilling: tasks, datasets in three types, students, certificates, decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class AnswerShape(StrEnum):
    """What the answers of a task look like."""

    LABELS = "labels"
    FIELDS = "fields"
    TOOL = "tool"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Task:
    """A repeated narrow job in the traffic: a prompt template and an answer space."""

    name: str
    signature: str
    shape: AnswerShape
    template: str
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    tagged: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One answered request of a task: the variable text that was asked, the normalised answer.

    `group` joins exact and near duplicates: a group never straddles two splits. `position` is the
    row's place in time order.
    """

    row_id: str
    text: str
    label: str
    group: int
    position: int


@dataclass(frozen=True, slots=True)
class TrainSet:
    """Rows that students may be fitted on."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Rows that only a frozen student may see, in stream order: the certificate's evidence."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class TestSet:
    """Rows touched once, for the report."""

    __test__ = False
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A task's rows in three sets of three types; `digest` is the hash of their content."""

    task: str
    digest: str
    labels: tuple[str, ...]
    train: TrainSet
    calibration: CalibrationSet
    test: TestSet


@dataclass(frozen=True, slots=True)
class Prediction:
    """A student's answer and how sure it is: `score` rises with the chance of agreement."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted: risk at most `max_risk` among accepted answers, with this confidence."""

    max_risk: float = 0.05
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.max_risk < 1:
            raise ValueError(f"max_risk is {self.max_risk}; give a share between 0 and 1, as 0.05")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; give 0.5 or more and under 1")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was proven about one frozen student, on which rows.

    With probability `confidence` over the draw of the calibration rows, and for traffic like
    them: P(student != teacher | score >= threshold) <= max_risk, at every look.
    `delta_spent` is this version's part of the task's error budget.
    """

    student: str
    threshold: float
    max_risk: float
    confidence: float
    delta_spent: float
    version: int
    n_calibration: int
    n_accepted: int
    n_disagreements: int
    method: str
    dataset: str

    @property
    def accept_rate(self) -> float:
        """Share of the calibration rows that the student may answer."""
        return self.n_accepted / self.n_calibration if self.n_calibration else 0.0


class RefusalReason(StrEnum):
    """Why nothing may be promised."""

    TOO_FEW_ROWS = "too_few_rows"
    TEACHER_NOISE = "teacher_noise"
    SHIFTED_GROUPS = "shifted_groups"
    NO_LEVEL_QUALIFIES = "no_level_qualifies"
    NOT_A_LABEL_TASK = "not_a_label_task"
    ONE_LABEL = "one_label"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing may be promised, because...: a normal answer, not an exception."""

    reason: RefusalReason
    sentence: str
    figures: Mapping[str, float] = field(default_factory=dict)


class Answerer(StrEnum):
    """Who answered a request."""

    STUDENT = "student"
    TEACHER = "teacher"


@dataclass(frozen=True, slots=True)
class Decision:
    """Who answered this request, and why."""

    answerer: Answerer
    label: str
    score: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Who answers a task now: the student above the threshold, the teacher otherwise."""

    task: str
    student: str
    threshold: float
    version: int
