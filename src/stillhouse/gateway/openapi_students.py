"""The part of the endpoint's own description that is about steering students."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stillhouse.gateway.student_admin import HIGHEST_VERSION, KEY_ID, LONGEST_WHY, MOST_KEYS, VERBS

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer"}
_MAYBE: Schema = {"type": ["number", "null"]}
_DONE = {
    "promote": "Let a certified version answer",
    "pause": "Let the teacher answer for a while",
    "resume": "Let a paused version answer again",
    "rollback": "Take a version out of service",
    "retire": "End a version for good",
}
_WHO_AND_WHAT: Schema = {
    "task": _TEXT,
    "version": {"type": "integer"},
    "mode": {"type": ["string", "null"]},
    "threshold": _MAYBE,
    "share": _MAYBE,
    "keys": {"type": "array", "items": _TEXT},
}
_STUDENT: Schema = {
    "type": "object",
    "properties": {
        **_WHO_AND_WHAT,
        **dict.fromkeys(("max_risk", "confidence", "delta", "budget_left"), _NUMBER),
        "calibration_rows": {"type": ["integer", "null"]},
        "refusal": {"type": ["string", "null"]},
        "accept_rate": _MAYBE,
        **dict.fromkeys(("consulted", "accepted", "shadows_waiting"), _WHOLE),
        **dict.fromkeys(("avoided_usd", "shadow_usd"), _TEXT),
    },
    "required": ["task", "version", "mode", "max_risk", "confidence"],
}
_LISTED: Schema = {
    "type": "object",
    "properties": {
        "students": {"type": "array", "items": _STUDENT},
        "expected_false_certificates": {"type": "number"},
    },
    "required": ["students", "expected_false_certificates"],
}
_STEERED: Schema = {
    "type": "object",
    "properties": {
        **_WHO_AND_WHAT,
        **dict.fromkeys(("event", "why", "who", "sentence"), _TEXT),
        "number": {"type": "integer"},
        "serving": {"type": ["integer", "null"]},
    },
    "required": ["task", "version", "event", "mode", "serving", "sentence"],
}
_WISH: Schema = {
    "version": {"type": ["integer", "null"], "minimum": 1, "maximum": HIGHEST_VERSION},
    "why": {"type": ["string", "null"], "maxLength": LONGEST_WHY, "description": "Printable."},
}
_CANARY: Schema = {
    "share": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
    "keys": {
        "type": ["array", "null"],
        "items": {"type": "string", "pattern": KEY_ID},
        "minItems": 1,
        "maxItems": MOST_KEYS,
        "description": "Ids of keys; not beside a share below 1.",
    },
}


def steering_paths(own: Callable[..., Schema], failures: tuple[str, ...], task: Schema) -> Schema:
    """The paths below /admin/students; `own` describes one request of the endpoint's own."""
    listing = own("Students, how they stand, what was promised", _LISTED, failures=failures)
    paths: Schema = {"/admin/students": {"get": listing}}
    for verb in VERBS:
        wish = {**_WISH, **_CANARY} if verb == "promote" else _WISH
        body = {"type": "object", "properties": wish, "additionalProperties": False}
        paths[f"/admin/students/{{task}}/{verb}"] = {
            "post": own(
                _DONE[verb], _STEERED, failures=(*failures, "409"), parameters=[task], body=body
            )
        }
    return paths
