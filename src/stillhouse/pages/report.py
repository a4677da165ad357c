"""What a report says: plain numbers and strings. A part that is None or empty is left out.

Money is a float in units of `Report.currency`, shares lie between 0 and 1, and what is not known
is None: no number is NaN, and none but `Outlook.break_even_requests` is infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from stillhouse.core.learning import Certificate, Refusal
from stillhouse.core.traffic import Evidence


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the ends of its interval at `level` confidence."""

    value: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer in one plain sentence, and the reasons in further ones.

    `pays` colours it: True for distil, False for leave it alone, None where neither is known.
    """

    sentence: str
    pays: bool | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpendLine:
    """What one model, task or team cost; `computed` is None where nothing of it has a price.

    `difference` is computed less reported, over the requests that have both.
    """

    name: str
    requests: int
    computed: float | None
    reported: float | None = None
    difference: float | None = None
    per_thousand: float | None = None
    unpriced_share: float = 0.0


@dataclass(frozen=True, slots=True)
class SpendTable:
    """The spend cut one way: `by` is `model`, `task`, `team` ..."""

    by: str
    lines: tuple[SpendLine, ...]


@dataclass(frozen=True, slots=True)
class DaySpend:
    """One day's spend, an amount for each name in `SpendOverTime.names`."""

    day: date
    amounts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SpendOverTime:
    """Spend per day, split by `by`; a day without calls may be missing."""

    by: str
    names: tuple[str, ...]
    days: tuple[DaySpend, ...]


@dataclass(frozen=True, slots=True)
class Books:
    """The spend in the log. `spend` is what the books hold, `reported` what providers said."""

    requests: int
    spend: float | None
    unpriced_share: float
    evidence: Evidence
    reported: float | None = None
    over_time: SpendOverTime | None = None
    tables: tuple[SpendTable, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a prompt template: constant text, or the place of a slot with its name."""

    text: str
    slot: bool = False


def pieces(template: str, slot: str, name: str = "text") -> tuple[Piece, ...]:
    """Cut a template's text at its slot marks, each shown by a name.

    >>> [piece.text for piece in pieces("Sort this: {text}", "{text}", "message")]
    ['Sort this: ', 'message']
    """
    cut: list[Piece] = []
    for constant in template.split(slot):
        cut += [Piece(name, slot=True), Piece(constant)]
    return tuple(piece for piece in cut[1:] if piece.text)


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A repeated narrow job. `constant_share` is the share of input that never changes,
    `self_agreement` how often the teacher repeats itself where the same text was asked twice.
    """

    name: str
    template: tuple[Piece, ...]
    shape: str
    requests: int
    spend: float | None = None
    constant_share: float | None = None
    self_agreement: float | None = None
    teachers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rung:
    """One attempt of the ladder, measured on development rows."""

    recipe: str
    agreement: float | None
    accept_rate: float | None
    cost: float | None
    seconds: float | None
    chosen: bool = False
    remark: str = ""


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """Disagreement among the accepted rows when this share of all rows is accepted."""

    accept_rate: float
    risk: float


@dataclass(frozen=True, slots=True)
class RiskCurves:
    """Risk against accept rate on two sets of rows, each by rising accept rate."""

    max_risk: float
    calibration: tuple[RiskPoint, ...] = ()
    test: tuple[RiskPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class LearningPoint:
    """What a student reaches that was fitted on so many rows."""

    rows: int
    agreement: float
    accept_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often the student answered one label where the teacher said another."""

    teacher: str
    student: str
    times: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TestFigures:
    """What the student did on the test rows, which were touched once."""

    __test__ = False
    rows: int
    agreement: float
    accept_rate: float
    accepted_agreement: Interval | None = None


@dataclass(frozen=True, slots=True)
class Distillation:
    """One task's students and what may be promised about the best one."""

    task: str
    outcome: Certificate | Refusal
    recipe: str = ""
    ladder: tuple[Rung, ...] = ()
    risk: RiskCurves | None = None
    learning: tuple[LearningPoint, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    test: TestFigures | None = None


@dataclass(frozen=True, slots=True)
class ReplayDay:
    """One day of recorded traffic sent through the policy.

    `agreed` counts the accepted answers that equal the teacher's recorded one. `paid` is what the
    day costs under the policy, `avoided` what the calls not made would have cost: never added up.
    """

    day: date
    requests: int
    accepted: int
    agreed: int
    paid: float | None = None
    avoided: float | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """How long answers take from one answerer, in seconds."""

    who: str
    p50_seconds: float
    p95_seconds: float


@dataclass(frozen=True, slots=True)
class Replay:
    """Recorded traffic run through the policy as it would be served."""

    requests: int
    accepted: int
    agreement: Interval | None
    max_risk: float
    days: tuple[ReplayDay, ...] = ()
    paid: float | None = None
    avoided: float | None = None
    basis: str = ""
    latency: tuple[Latency, ...] = ()


class Unit(StrEnum):
    """How a figure of the plan is written."""

    MONEY = "money"
    SHARE = "share"
    COUNT = "count"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True)
class PlanFigure:
    """One figure behind the verdict; `low` and `high` are its P10 and P90."""

    name: str
    value: float | None
    unit: Unit
    low: float | None = None
    high: float | None = None
    evidence: Evidence | None = None
    basis: str = ""


@dataclass(frozen=True, slots=True)
class FanPoint:
    """Cumulative net money after so many months: three quantiles."""

    month: float
    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """The verdict at one teacher's price; `break_even_requests` is None or infinite for never."""

    teacher: str
    sentence: str
    p_break_even: float
    break_even_requests: float | None = None
    cost_per_thousand: float | None = None
    saving_per_thousand: float | None = None
    fan: tuple[FanPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What distilling would cost and return, and what would change the answer.

    `other` is the same question with the same tokens at another teacher's price.
    """

    outlook: Outlook
    figures: tuple[PlanFigure, ...] = ()
    changes: tuple[str, ...] = ()
    other: Outlook | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """How well a figure of this report is known, and from what."""

    figure: str
    evidence: Evidence
    source: str


@dataclass(frozen=True, slots=True)
class Making:
    """How the report was made, so that it can be made again."""

    command: str
    versions: tuple[tuple[str, str], ...] = ()
    dataset: str = ""
    seed: int | None = None
    made_at: str = ""
    grades: tuple[Graded, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a page shows, in its order."""

    title: str
    source: str = ""
    currency: str = "USD"
    verdict: Verdict | None = None
    books: Books | None = None
    tasks: tuple[FoundTask, ...] | None = None
    distillation: Distillation | None = None
    replay: Replay | None = None
    plan: Plan | None = None
    making: Making | None = None
