"""The keys of `[students]`, and those that a task may have otherwise."""

from __future__ import annotations

from stillhouse.settings import nouns
from stillhouse.settings.kinds import (
    CAPS,
    ENV_NAME,
    FLAG,
    TABLE,
    TEXT,
    Field,
    number,
    one_of,
    whole,
)

STUDENTS_PROMISE = "Students at work: what they may do, how they are audited, who is told."

_SHADOW_SHARE = Field(
    "shadow_share",
    number(0.001, 1),
    "Share of the requests of a task that are audited: student and teacher are both asked.",
)
_PROMOTE = Field(
    "promote",
    one_of(nouns.Hand),
    "`manual`: a person promotes a certified student; `auto`: its certificate does.",
)
_BRIDGE = Field(
    "bridge", FLAG, "Let the student answer without a certificate while every teacher fails."
)
_RUN_LENGTH = Field(
    "run_length", number(100, 10**9), "Audited answers between two false alarms, on average."
)
_ON_ALARM = Field(
    "on_alarm",
    one_of(nouns.OnAlarm),
    "`raise`: one threshold stricter, once, then stop; `stop`: the teacher answers everything.",
)
_ON_INPUTS = Field(
    "on_inputs",
    one_of(nouns.OnInputs),
    "Inputs that have changed: `notice` tells people and does nothing, else as `on_alarm`.",
)
_OTHER_TEACHER = Field(
    "other_teacher",
    one_of(nouns.OtherTeacher),
    "A request for another model, or by another prompt: `void` ends the certificate, `defer` has "
    "the teacher answer it. Another model behind the same name always ends it.",
)
_CANARY_SHARE = Field(
    "canary_share", number(0.001, 1), "Share of the traffic that a student promoted by itself gets."
)

STUDENTS: tuple[Field, ...] = (
    Field("enabled", FLAG, "Let students answer at all; false asks the teacher always."),
    _SHADOW_SHARE,
    _PROMOTE,
    _BRIDGE,
    _RUN_LENGTH,
    Field("deadline_ms", number(1), "How long a student may take; then the teacher does."),
    _ON_ALARM,
    _ON_INPUTS,
    _OTHER_TEACHER,
    _CANARY_SHARE,
    Field(
        "retrain",
        one_of(nouns.Hand),
        "`auto`: distil by itself, a task that has none and a student that fell.",
    ),
    Field("retrain_rows", whole(1), "New rows that make a new version worth while."),
    Field("first_rows", whole(1), "Rows of a task before it is distilled by itself."),
    Field(
        "max_risk",
        number(0.001, 0.5),
        "Automatic distilling: largest share of given answers that may differ from the teacher's.",
    ),
    Field("confidence", number(0.5, 0.9999), "Automatic distilling: with this confidence."),
    Field(
        "shadow_budget",
        CAPS,
        "Caps on the teacher's calls that are made for audits; none when empty. Budgets of "
        "everybody count them too.",
    ),
    Field("webhook_url", TEXT, "Where notices are sent, as JSON; nowhere when absent."),
    Field(
        "webhook_secret_env",
        ENV_NAME,
        "Environment variable with the secret that notices are signed by.",
    ),
    Field(
        "webhook_allow_private",
        FLAG,
        "The webhook may lie on loopback or in a private network, and speak http.",
    ),
    Field("tasks", TABLE, 'Tables `[students.tasks."NAME"]`, see below.'),
)

STUDENTS_TASK: tuple[Field, ...] = (
    Field("enabled", FLAG, "Let a student of this task answer."),
    _SHADOW_SHARE,
    _PROMOTE,
    _BRIDGE,
    _RUN_LENGTH,
    _ON_ALARM,
    _ON_INPUTS,
    _OTHER_TEACHER,
    _CANARY_SHARE,
)
"""What a task may have otherwise than `[students]` says."""
