"""What a call may use at most, before it is made; what it probably used, where nobody said."""

from __future__ import annotations

from typing import NamedTuple

from stillhouse.core.calls import Ask, Fate
from stillhouse.core.catalogue import Wire
from stillhouse.core.ports import TokenCounter
from stillhouse.core.quotas import Need
from stillhouse.core.traffic import INPUT_LEAVES, OUTPUT_LEAVES, Usage
from stillhouse.ledger.prices import Price

TOKENS_PER_IMAGE = 50_000
"""More than any provider counts for one picture: a few bytes of address may stand for it."""

HIDDEN_TOKENS = 1_000
"""More than a provider's own instructions have, which it adds where tools are offered."""

BYTES_PER_TOKEN = 4
"""Of a text that cannot be read: near what English and JSON have."""

_EMBEDDINGS = Wire.EMBEDDINGS  # a member of an enumeration is dear to look up
_MILLION = 10**6
_REMEMBERED = 4096

_NO_ANSWER = (Wire.EMBEDDINGS, Wire.DECISIONS, Wire.SYSTEMONE)
"""Wires whose answers are no text that is paid for by the token, unless a price says so."""


class _Dearest(NamedTuple):
    """The dearest amounts of a price in any tier, pico-USD per million; None where unpriced."""

    input: int | None
    output: int | None
    request: int
    leaves: int


_dearest: dict[str, _Dearest] = {}


def need(
    ask: Ask,
    body_bytes: int,
    price: Price | None,
    max_output_tokens: int,
    *,
    allow_unpriced: bool = False,
) -> Need:
    """The most that one call can use, reserved before it goes upstream.

    A token is at least one byte, so the body's bytes bound what goes in, with an allowance for
    pictures and for hidden instructions. What comes out is bounded by the caller's own limit, else
    by `max_output_tokens`, for each answer asked for. Both at the dearest leaf and the dearest tier
    of the price. Not bounded, and so settled beyond the reservation: what an upstream remembers of
    earlier turns, fees for its own tools, and answers longer than were asked for.

    >>> price = Price("acme", "m", {"input_tokens": 3 * 10**12, "output_tokens": 15 * 10**12})
    >>> need(Ask(Wire.CHAT, "m", max_output_tokens=500), 2000, price, 4096)
    Need(cost_pico=16500000011, tokens=3500, allow_unpriced=False)
    """
    wire, most, choices = ask.wire, ask.max_output_tokens, ask.choices
    tokens_in = body_bytes + HIDDEN_TOKENS + ask.images * TOKENS_PER_IMAGE
    tokens_out = max_output_tokens if most is None else most
    if wire is _EMBEDDINGS or tokens_out < 0:
        tokens_out = 0
    elif choices > 1:
        tokens_out *= choices
    tokens = tokens_in + tokens_out
    if price is None:
        return Need(None, tokens, allow_unpriced)
    dearest_in, dearest_out, request, leaves = _dearest.get(price.price_id) or _remember(price)
    if dearest_out is None and wire in _NO_ANSWER:
        dearest_out = 0
    cost: int | None = request
    if dearest_in is None or dearest_out is None:
        cost = request if request and wire in _NO_ANSWER else None
    elif dearest_in or dearest_out:
        parts = tokens_in * dearest_in + tokens_out * dearest_out
        cost = request - (-parts // _MILLION) + leaves  # each leaf is rounded by itself
    return Need(cost, tokens, allow_unpriced)


def _remember(price: Price) -> _Dearest:
    """The dearest amounts of a price, kept for the next call."""
    if len(_dearest) >= _REMEMBERED:
        _dearest.clear()
    found = _dearest[price.price_id] = _top(price)
    return found


def _top(price: Price) -> _Dearest:
    everywhere = [price.amounts, *(tier.amounts for tier in price.tiers)]

    def most(leaves: tuple[str, ...]) -> int | None:
        return max((a[leaf] for a in everywhere for leaf in leaves if leaf in a), default=None)

    requests = max(amounts.get("requests", 0) for amounts in everywhere)
    return _Dearest(
        most(INPUT_LEAVES),
        most(OUTPUT_LEAVES),
        -(-requests // _MILLION),
        len(INPUT_LEAVES) + len(OUTPUT_LEAVES),
    )


def completed_usage(usage: Usage, text_seen: str, counter: TokenCounter) -> Usage:
    """Counts that were given before there was any output, with the output that was seen since.

    `estimated`: what went in is as reported; what came out is the greater of the two counts.

    >>> class Words:
    ...     def count(self, text: str) -> int:
    ...         return len(text.split())
    >>> completed_usage(Usage(input_tokens=9, output_tokens=1), "Once upon a", Words()).leaves()
    {'input_tokens': 9, 'output_tokens': 3}
    """
    rest = counter.count(text_seen) - usage.total_output_tokens
    return usage._replace(output_tokens=usage.output_tokens + max(0, rest))


def estimated_usage(
    fate: Fate,
    status: int,
    asked_text: str | None,
    asked_bytes: int,
    text_seen: str | None,
    expected_output_tokens: int,
    counter: TokenCounter,
) -> Usage:
    """What a call used of which its provider reported nothing; `estimated`, unless it is nothing.

    A call that never reached its upstream, or that was refused with a 4xx, used nothing: that is
    known, so its evidence is `derived`. Else what went in is counted from the text that was asked,
    or from its bytes where it cannot be read; what came out from the text that was seen. Where no
    answer was heard (no status or a 5xx, no text), or one in one piece was cut (`text_seen`
    is None), it is taken to be as long as such answers are: the model may well have written it.

    >>> class Words:
    ...     def count(self, text: str) -> int:
    ...         return len(text.split())
    >>> estimated_usage(Fate.DROPPED, 200, "Tell me all", 40, "Once upon", 300, Words()).leaves()
    {'input_tokens': 3, 'output_tokens': 2}
    >>> estimated_usage(Fate.FIRST_BYTE_TIMEOUT, 0, None, 40, None, 300, Words()).leaves()
    {'input_tokens': 10, 'output_tokens': 300}
    >>> estimated_usage(Fate.STATUS, 429, "Tell me all", 40, None, 300, Words()).leaves()
    {}
    """
    if not fate.sent or 300 <= status < 500:
        return Usage()
    tokens_in = counter.count(asked_text) if asked_text else -(-asked_bytes // BYTES_PER_TOKEN)
    if text_seen is None or (not text_seen and (status == 0 or status >= 500)):
        return Usage(input_tokens=tokens_in, output_tokens=max(0, expected_output_tokens))
    return Usage(input_tokens=tokens_in, output_tokens=counter.count(text_seen))
