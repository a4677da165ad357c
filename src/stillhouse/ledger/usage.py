"""Turns a provider's usage body into disjoint leaves, or says which count does not fit.

Providers disagree on what a total includes. OpenAI's totals include cached and reasoning tokens;
Anthropic's `input_tokens` leaves cached ones out; some report reasoning on top of the completion.
Here every token ends in exactly one leaf, and a body that does not add up is refused, not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import Usage

Body = Mapping[str, object]

_EMPTY: Body = MappingProxyType({})


class _Names(NamedTuple):
    """What a dialect with all-inclusive totals calls its parts."""

    input: str
    output: str
    input_details: str
    output_details: str


_INCLUSIVE = {
    "openai": _Names(
        "prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"
    ),
    "responses": _Names(
        "input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details"
    ),
    "columns": _Names("input_tokens", "output_tokens", "", ""),
}

DIALECTS: tuple[str, ...] = (*_INCLUSIVE, "anthropic")
"""The usage dialects that can be read."""


def decompose(body: Body, dialect: str) -> Usage:
    """Split a usage body into leaves that sum to its totals.

    `dialect` is one of `openai` (chat completions and embeddings), `responses`, `anthropic`, or
    `columns`: a flat `input_tokens` (cached ones included), `cached_tokens`, `output_tokens`,
    `reasoning_tokens`. A count that is absent or null is 0, except the input total.
    Raises CallerError where a count is no whole number or the counts contradict each other.

    >>> decompose({"prompt_tokens": 1000, "completion_tokens": 20,
    ...            "prompt_tokens_details": {"cached_tokens": 900}}, "openai").leaves()
    {'input_tokens': 100, 'cache_read_tokens': 900, 'output_tokens': 20}
    >>> decompose({"input_tokens": 3, "cache_creation_input_tokens": 12304, "output_tokens": 550},
    ...           "anthropic").leaves()
    {'input_tokens': 3, 'cache_write_5m_tokens': 12304, 'output_tokens': 550}
    """
    names = _INCLUSIVE.get(dialect)
    if names is not None:
        return _decompose_inclusive(body, names)
    if dialect == "anthropic":
        return _decompose_anthropic(body)
    raise CallerError(f"usage dialect is {dialect!r}; use one of {', '.join(DIALECTS)}")


def _decompose_inclusive(body: Body, names: _Names) -> Usage:
    # For every call: a count that is one is taken as it stands, and whatever else is found in its
    # place (nothing, null, what is no count) is left to `_count`. So it is with the details.
    into, out, into_parts, out_parts = names
    total_in = n if type(n := body.get(into)) is int and n >= 0 else _input_total(body, into)
    total_out = n if type(n := body.get(out)) is int and n >= 0 else _count(body, out)
    parts_in = p if type(p := body.get(into_parts)) is dict else _details(body, into_parts)
    parts_out = p if type(p := body.get(out_parts)) is dict else _details(body, out_parts)
    n, write = parts_in.get("cached_tokens"), 0
    read = n if type(n) is int and n >= 0 else _count(parts_in, "cached_tokens")
    n = parts_out.get("reasoning_tokens")
    reasoning = n if type(n) is int and n >= 0 else _count(parts_out, "reasoning_tokens")
    beside = not (_BESIDE.isdisjoint(body) and _WRITTEN.isdisjoint(parts_in))
    if beside:
        read = _agreed(parts_in, body, _READ)
        write = _agreed(parts_in, body, _WRITE)
        reasoning = _agreed(parts_out, body, _REASONING)
    audio_in, audio_read, image_in, image_read, audio_out, image_out = (
        _NO_MEDIA
        if parts_in.get("audio_tokens", 0) is _ZERO  # as OpenAI always says
        and parts_out.get("audio_tokens", 0) is _ZERO
        and parts_in.get("image_tokens", 0) is _ZERO
        and parts_out.get("image_tokens", 0) is _ZERO
        else _media(parts_in, parts_out, read)
    )
    text_in = total_in - read - write - audio_in - image_in
    text_out = total_out - audio_out - image_out
    n = body.get("total_tokens")
    inside = n is None or (type(n) is int and n == total_in + total_out)
    if inside or not _reasoning_is_extra(body, names, total_in, total_out, reasoning):
        text_out -= reasoning
    if text_in < 0 or audio_in < 0 or image_in < 0 or audio_read + image_read > read:
        raise _overfull(body, into, into_parts)
    if text_out < 0:
        raise _overfull(body, out, out_parts)
    if beside:
        _check_misses(body, total_in, read)
    return Usage(
        text_in,
        read - audio_read,
        write,
        0,
        audio_in,
        audio_read,
        image_in,
        text_out,
        reasoning,
        audio_out,
        image_out,
    )


def _decompose_anthropic(body: Body) -> Usage:
    lifetimes = _details(body, "cache_creation")
    write_5m = _count(lifetimes, "ephemeral_5m_input_tokens")
    write_1h = _count(lifetimes, "ephemeral_1h_input_tokens")
    if body.get("cache_creation_input_tokens") is not None:
        written = _count(body, "cache_creation_input_tokens")
        if not lifetimes:
            write_5m = written  # the vendor's default lifetime is five minutes
        elif write_5m + write_1h != written:
            raise CallerError(
                f"usage cache_creation_input_tokens is {written} but its lifetimes are "
                f"5m {write_5m} + 1h {write_1h}; correct the log, because the two must be equal"
            )
    total_out = _count(body, "output_tokens")
    thinking = _count(_details(body, "output_tokens_details"), "thinking_tokens")
    if thinking > total_out:
        raise _overfull(body, "output_tokens", "output_tokens_details")
    return Usage(
        input_tokens=_input_total(body, "input_tokens"),
        cache_read_tokens=_count(body, "cache_read_input_tokens"),
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        output_tokens=total_out - thinking,
        reasoning_tokens=thinking,
        web_searches=_count(_details(body, "server_tool_use"), "web_search_requests"),
    )


# The same count under the names of several providers and gateways: first those in the details, then
# those beside the totals.
_READ = (
    ("cached_tokens",),
    ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"),
)
_WRITE = (("cache_write_tokens", "cache_creation_tokens"), ("cache_creation_input_tokens",))
_REASONING = (("reasoning_tokens",), ("reasoning_tokens",))
_MISSES = "prompt_cache_miss_tokens"
_BESIDE = frozenset((*_READ[1], *_WRITE[1], *_REASONING[1], _MISSES))
_WRITTEN = frozenset(_WRITE[0])
_NO_MEDIA = (0, 0, 0, 0, 0, 0)
_ZERO = 0  # what is this very object is a whole number for sure: neither False nor 0.0


def _agreed(parts: Body, body: Body, places: tuple[tuple[str, ...], tuple[str, ...]]) -> int:
    """Read one count that may stand in several places; all that are filled must be equal."""
    found: int | None = None
    for holder, names in zip((parts, body), places, strict=True):
        for name in names:
            if name in holder and holder[name] is not None:
                count = _count(holder, name)
                if found is not None and count != found:
                    raise CallerError(
                        f"usage {name} is {count} where another field says {found} for the same "
                        "tokens; correct the log, because the two must be equal"
                    )
                found = count
    return found or 0


def _count(body: Body, name: str) -> int:
    value = body.get(name)
    if value is None:
        return 0
    if type(value) is int and value >= 0:  # not isinstance: True is an int, and no count
        return value
    raise CallerError(f"usage {name} is {value!r}; a count must be a whole number, 0 or more")


def _input_total(body: Body, name: str) -> int:
    if body.get(name) is None:
        raise CallerError(
            f"usage has no {name} (it holds: {', '.join(map(str, body)) or 'nothing'}); "
            "check the dialect, or leave the usage out"
        )
    return _count(body, name)


def _details(body: Body, name: str) -> Body:
    value = body.get(name)
    if value is None:
        return _EMPTY
    if type(value) is dict or isinstance(value, Mapping):
        return value
    raise CallerError(f"usage {name} is {value!r}; it must be an object of counts")


def _media(parts_in: Body, parts_out: Body, read: int) -> tuple[int, int, int, int, int, int]:
    """Audio and images that went in, each with what of it was cached, then those that came out."""
    audio_in, image_in = _count(parts_in, "audio_tokens"), _count(parts_in, "image_tokens")
    audio_read = image_read = 0
    if read and (audio_in or image_in):
        audio_read, image_read = _cached_by_kind(parts_in)
    audio_out, image_out = _count(parts_out, "audio_tokens"), _count(parts_out, "image_tokens")
    fresh_audio, fresh_image = audio_in - audio_read, image_in - image_read
    return fresh_audio, audio_read, fresh_image, image_read, audio_out, image_out


def _cached_by_kind(parts_in: Body) -> tuple[int, int]:
    """Cached audio and image tokens: without them, cached and audio counts overlap unknowably."""
    cached = _details(parts_in, "cached_tokens_details")
    if not cached:
        raise CallerError(
            "usage counts cached_tokens beside audio_tokens or image_tokens without "
            "cached_tokens_details; their overlap is unknown, so log the details too"
        )
    return _count(cached, "audio_tokens"), _count(cached, "image_tokens")


def _reasoning_is_extra(
    body: Body, names: _Names, total_in: int, total_out: int, reasoning: int
) -> bool:
    """Say whether a total that is more than its two parts has reasoning on top of them."""
    total = _count(body, "total_tokens")
    if reasoning and total == total_in + total_out + reasoning:
        return True
    raise CallerError(
        f"usage total_tokens is {total} but {names.input} {total_in} + {names.output} {total_out} "
        f"make {total_in + total_out} (reasoning {reasoning}); correct the log"
    )


def _check_misses(body: Body, total_in: int, read: int) -> None:
    if body.get(_MISSES) is None:
        return
    misses = _count(body, _MISSES)
    if read + misses != total_in:
        raise CallerError(
            f"usage has {read} cache hits + {misses} misses but an input of {total_in} tokens; "
            "correct the log, because the two must be equal"
        )


def _overfull(body: Body, total: str, details: str) -> CallerError:
    parts = body.get(details) or {k: v for k, v in body.items() if k != total}
    return CallerError(
        f"usage {total} is {body.get(total)} but its parts are larger: {parts!r}; "
        "correct the log, because a part cannot exceed its total"
    )
