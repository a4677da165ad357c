"""What a model's name tells about the fields that it takes, where the format leaves a choice."""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_MAX_TOKENS = 16_384
"""Sent to an Anthropic upstream, which requires a limit, where the caller set none."""

THINKING_BUDGETS = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 32_768,
}
"""Tokens to think with, for models that take a budget instead of an effort."""

LEAST_BUDGET = 1024
"""Anthropic refuses a smaller budget, and one that is not below `max_tokens`."""


class Traits(NamedTuple):
    """How a model behind the Messages format is steered.

    `sampling`: it takes temperature, top_p and top_k (Claude does up to 4.6, and answers 400 from
    4.7 on). `adaptive`: it thinks by effort (Claude from 4.6 on) and not by a budget of tokens.
    """

    sampling: bool
    adaptive: bool


_CLAUDE = re.compile(r"claude-(?:(\d)|[a-z]+-(\d+)(?:[-.](\d{1,2})(?!\d))?|)")
_LIMITED_ANEW = re.compile(r"(?:^|/)(?:o\d|gpt-(?:[5-9]|\d\d))")


def traits(model: str) -> Traits:
    """Tell a model's traits by its name; one without `claude` in it is of a compatible server.

    >>> traits("claude-sonnet-4-5-20250929"), traits("claude-opus-5-5")
    (Traits(sampling=True, adaptive=False), Traits(sampling=False, adaptive=True))
    """
    found = _CLAUDE.search(model)
    if found is None:
        return Traits(sampling=True, adaptive=False)
    if found[1]:
        version = (int(found[1]), 0)
    elif found[2]:
        version = (int(found[2]), int(found[3] or 0))
    else:
        version = (99, 0)
    return Traits(sampling=version <= (4, 6), adaptive=version >= (4, 6))


def limit_name(model: str) -> str:
    """Name the field by which a chat model takes its limit of output tokens.

    OpenAI's reasoning models refuse the older name, many other servers know no newer one.

    >>> limit_name("gpt-6-luna"), limit_name("openai/o3"), limit_name("llama-4")
    ('max_completion_tokens', 'max_completion_tokens', 'max_tokens')
    """
    return "max_completion_tokens" if _LIMITED_ANEW.search(model) else "max_tokens"
