"""Says one usage in another format's terms.

OpenAI's input total holds cached tokens, Anthropic's `input_tokens` leaves them out; every number
here is a sum or a difference of the upstream's own, none is estimated.
"""

from __future__ import annotations

from stillhouse.dialects.translate_json import Body


def as_messages(usage: object) -> Body:
    """Say a chat usage as Anthropic does.

    >>> as_messages({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
    ...              "prompt_tokens_details": {"cached_tokens": 8}})
    {'input_tokens': 2, 'cache_creation_input_tokens': 0, 'cache_read_input_tokens': 8,
     'output_tokens': 5}
    """
    total, read, written, output, thinking = _counts(usage)
    said: Body = {
        "input_tokens": max(total - read - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": output,
    }
    if thinking:
        said["output_tokens_details"] = {"thinking_tokens": thinking}
    return said


def as_chat(usage: object) -> Body:
    """Say an Anthropic usage as chat completions do.

    >>> as_chat({"input_tokens": 2, "cache_read_input_tokens": 8, "output_tokens": 5})
    {'prompt_tokens': 10, 'completion_tokens': 5, 'total_tokens': 15,
     'prompt_tokens_details': {'cached_tokens': 8, 'cache_write_tokens': 0},
     'completion_tokens_details': {'reasoning_tokens': 0}}
    """
    read = _count(usage, "cache_read_input_tokens")
    written = _count(usage, "cache_creation_input_tokens")
    total = _count(usage, "input_tokens") + read + written
    output = _count(usage, "output_tokens")
    thinking = _count(_part(usage, "output_tokens_details"), "thinking_tokens")
    return {
        "prompt_tokens": total,
        "completion_tokens": output,
        "total_tokens": total + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thinking},
    }


def as_responses(usage: object) -> Body | None:
    """Say a chat usage as Responses do; None where there is none to say."""
    if type(usage) is not dict:
        return None
    total, read, written, output, thinking = _counts(usage)
    return {
        "input_tokens": total,
        "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": thinking},
        "total_tokens": total + output,
    }


def _counts(usage: object) -> tuple[int, int, int, int, int]:
    """Prompt in all, of it read from and written to the cache, output in all, of it reasoning."""
    prompt, output = (
        _part(usage, "prompt_tokens_details"),
        _part(usage, "completion_tokens_details"),
    )
    return (
        _count(usage, "prompt_tokens"),
        _count(prompt, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens"),
        _count(prompt, "cache_write_tokens"),
        _count(usage, "completion_tokens"),
        _count(output, "reasoning_tokens"),
    )


def _part(usage: object, name: str) -> object:
    return usage.get(name) if type(usage) is dict else None


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if type(usage) is dict else None
    return value if type(value) is int and value > 0 else 0
