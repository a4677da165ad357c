"""The nouns of students at work: what a version may be asked, who answers, what it has shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from stillhouse.core.learning import AnswerShape, Certificate, Policy, Prediction, Target
from stillhouse.core.traffic import Exchange

SHADOW_KEY = "students"
"""The key that audits are booked and budgeted under; no virtual key has such an id."""


class Change(StrEnum):
    """What happens to a version of a task; who answers is a fold over these."""

    SHADOWED = "shadowed"
    CERTIFIED = "certified"
    PROMOTED = "promoted"
    PAUSED = "paused"
    RESUMED = "resumed"
    RAISED = "raised"
    ROLLED_BACK = "rolled_back"
    VOIDED = "voided"
    RETIRED = "retired"


class PolicyEvent(NamedTuple):
    """One change of who answers a task: never edited, with why and who.

    `event` is a Change. `detail` holds what the change sets: `threshold` (promoted, raised),
    `share` and `keys` of a canary (promoted), `queue` where a new student is wanted (rolled_back,
    voided, raised). `number` counts the events of the database, 0 before it is kept.
    """

    task: str
    version: int
    event: str
    why: str
    who: str
    at_us: int
    detail: Mapping[str, object] = {}
    number: int = 0


@dataclass(frozen=True, slots=True)
class InputRange:
    """What a version has learnt from; what lies outside is the teacher's.

    `longest` counts characters. `scripts` are the names of the writing systems that the rows hold
    (`latin`, `cyrillic`, `han`, ...). `images` and `tools` say whether requests carried any.
    """

    longest: int = 0
    scripts: tuple[str, ...] = ()
    images: bool = False
    tools: bool = False


@dataclass(frozen=True, slots=True)
class Charter:
    """What a version may be asked and how it is judged: fixed before its first calibration row.

    `student` is the digest of the artefact. `answers` tells for each label how the teacher writes
    it. `levels` are the gate's thresholds from strict to loose, and `planned_rows` what its
    evidence aims at. `delta` is this version's part of the task's error budget. `recogniser` is the
    digest of the artefact by which the task's requests are known (distillation.recognition), and
    `prompts` the digests of its prompts' constant parts. `asked_models` are the names that callers
    asked for, `teachers` the models that answered. `scores` are the student's on rows held out from
    training, sorted: what the watch on inputs compares with. `words` are those it has learnt from.
    Rows from `since_us` on may calibrate, none before. `cost_pico` is what the teacher charged for
    one of the task's answers, on average; 0 where it had no price.
    """

    task: str
    version: int
    student: str
    recipe: str
    shape: AnswerShape
    answers: Mapping[str, str]
    levels: tuple[float, ...]
    planned_rows: int
    target: Target
    delta: float
    recogniser: str
    prompts: tuple[str, ...]
    asked_models: tuple[str, ...]
    teachers: tuple[str, ...]
    inputs: InputRange = InputRange()
    scores: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    since_us: int = 0
    cost_pico: int = 0


class Mode(StrEnum):
    """What a version does now."""

    SHADOW = "shadow"
    CERTIFIED = "certified"
    SERVING = "serving"
    PAUSED = "paused"
    STOPPED = "stopped"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a version stands: the fold of its events.

    `threshold` is None where nothing is certified. A canary serves a `share` of the traffic, or
    the callers whose key is among `keys`; all of it where `share` is 1 and `keys` is empty.
    """

    task: str
    version: int
    mode: Mode
    threshold: float | None = None
    share: float = 1.0
    keys: tuple[str, ...] = ()
    since_us: int = 0
    why: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a task's student is used, by the configuration.

    `shadow_share` of the requests are audited. `auto_promote` lets the gate promote by itself.
    `bridge` lets the student answer uncertified while the teacher fails. `run_length` is the
    average number of audited answers between false alarms. `deadline_seconds` is how long a student
    may take. `on_alarm` is `raise` (one level stricter, once; then stop) or `stop`; `on_inputs`
    says the same of changed inputs, or `notice`. `other_teacher` says whether a request for another
    model or by another prompt does `void` the certificate, or is only left to `defer`.
    """

    shadow_share: float = 0.05
    auto_promote: bool = False
    bridge: bool = False
    run_length: float = 5000.0
    deadline_seconds: float = 0.25
    on_alarm: str = "raise"
    canary_share: float = 1.0
    on_inputs: str = "notice"
    other_teacher: str = "void"


@dataclass(frozen=True, slots=True)
class Serving:
    """One task's student as the endpoint uses it now.

    `policy` is None for a version that answers nobody; it may still be allowed to bridge.
    """

    charter: Charter
    standing: Standing
    terms: Terms = Terms()
    certificate: Certificate | None = None

    @property
    def policy(self) -> Policy | None:
        """The cascade's policy; None while the teacher answers everything."""
        threshold = self.standing.threshold
        if self.standing.mode is not Mode.SERVING or threshold is None:
            return None
        return Policy(self.charter.task, self.charter.student, threshold, self.charter.version)

    @property
    def certificate_id(self) -> str:
        """What an answer says it was given under: task and version."""
        return f"{self.charter.task}@v{self.charter.version}"


class Consultation(NamedTuple):
    """Journal: a student was asked about a request, and who answered then.

    `answerer` is an Answerer. `coin` says whether the request is audited: only then may it be
    evidence. `about` is the exchange that a shadow call audits, empty for the caller's own request.
    `label` and `score` are empty and -1.0 where the student did not answer. `voids` says that the
    request or its answer showed another teacher than the certificate speaks of.
    """

    task: str
    version: int
    label: str
    score: float
    threshold: float
    answerer: str
    coin: bool
    reason: str
    about: str = ""
    voids: str = ""
    key_id: str = ""


class Watched(NamedTuple):
    """An exchange in the books, with the consultation that went with it if there was one.

    `number` counts the exchanges of the database in the order of their booking. `about_us` is when
    the request came that the exchange audits; 0 where it audits none.
    """

    number: int
    exchange: Exchange
    consultation: Consultation | None
    about_us: int = 0


class Evidence(NamedTuple):
    """One audited row of a version: what the student said, what the teacher said.

    `number` counts the rows of all versions; the order of the numbers is the stream's. `served`
    says whether the caller was given the student's answer.
    """

    exchange_id: str
    at_us: int
    score: float
    label: str
    taught: str
    served: bool
    number: int = 0

    @property
    def disagrees(self) -> bool:
        """Whether student and teacher gave different answers."""
        return self.label != self.taught


class ShadowCall(NamedTuple):
    """A teacher's answer that is still to be asked for: the caller's own body, again.

    `exchange_id` is that of the caller's request. `wire` is the caller's format, `tag` the task
    that the caller named, by which the audit is recognised as the request was.
    """

    exchange_id: str
    at_us: int
    wire: str
    model: str
    body: bytes
    consultation: Consultation
    tries: int = 0
    tag: str = ""


class Notice(NamedTuple):
    """Something that people or machines are told: an alarm, a promotion, a void certificate.

    `kind` is a Change or `budget`. `facts` are plain JSON.
    """

    notice_id: str
    kind: str
    task: str
    version: int
    sentence: str
    at_us: int
    facts: Mapping[str, object] = {}


class Answered(NamedTuple):
    """What a student said of a text; `odds` are its labels' probabilities, where asked for."""

    prediction: Prediction
    labels: tuple[str, ...] = ()
    odds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Promise:
    """What has been promised of one version, and what is left of its task's error budget.

    `spent` sums the deltas of this version and those before it; `left` is what later versions may
    still spend of `1 - confidence`.
    """

    task: str
    version: int
    max_risk: float
    confidence: float
    delta: float
    spent: float
    left: float
