"""Whether a request of a task may be put to its student: the last look before the cascade."""

from __future__ import annotations

from typing import NamedTuple

from stillhouse.core.learning import Policy
from stillhouse.core.serving import Mode, Serving
from stillhouse.routing.contract import in_range
from stillhouse.routing.lifecycle import in_canary

OTHER_MODEL = "another model was asked for"
OTHER_PROMPT = "another prompt"
LONGEST_NAME = 80
"""Of a caller's own words in a reason, which people and webhooks are told."""


class Candidate(NamedTuple):
    """A request that belongs to a task with a student.

    `model` is the name that the caller asked for, `forbidden` says that it wants no student.
    `prompt` and `text` are what recognition found: the digest of the prompt, the slot text.
    `images` and `tools` say whether the request carries any.
    """

    exchange_id: str
    model: str
    key_id: str
    forbidden: bool
    prompt: str
    text: str
    images: bool
    tools: bool


def admit(
    serving: Serving, candidate: Candidate, canary_key: bytes
) -> tuple[Policy | None, str, str]:
    """The policy for the cascade or None, the reason in a few words, and what voids or nothing.

    The last is a sentence where the request shows that the certificate speaks of another teacher
    or another prompt. A caller who wants no student, or whom the canary leaves out, shows nothing.
    """
    policy = serving.policy
    if candidate.forbidden:
        return None, "the caller wants no student", ""
    if policy is None:
        return None, _idle(serving), ""
    if not _in_canary(serving, candidate, canary_key):
        return None, "not in the canary", ""
    charter = serving.charter
    if candidate.model not in charter.asked_models:
        spoken = ", ".join(charter.asked_models) or "no model"
        return (
            None,
            OTHER_MODEL,
            f"asked of {candidate.model[:LONGEST_NAME]}, and the certificate speaks of {spoken}",
        )
    if candidate.prompt not in charter.prompts:
        return (
            None,
            OTHER_PROMPT,
            f"the prompt is another one ({candidate.prompt}), and the certificate speaks of "
            f"{', '.join(charter.prompts) or 'none'}",
        )
    outside = in_range(charter.inputs, candidate.text, candidate.images, candidate.tools)
    return (None, outside, "") if outside else (policy, "", "")


def _idle(serving: Serving) -> str:
    if serving.standing.mode is Mode.SERVING:
        return "the version has no threshold"
    return f"the version is {serving.standing.mode.value}"


def _in_canary(serving: Serving, candidate: Candidate, canary_key: bytes) -> bool:
    """All of the traffic, the keys that are named, or a share drawn by exchange."""
    standing = serving.standing
    if standing.keys:
        return candidate.key_id in standing.keys
    return standing.share >= 1 or in_canary(candidate.exchange_id, canary_key, standing.share)
