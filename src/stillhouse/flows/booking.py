"""What a call upstream used and cost: as reported, else estimated, priced at its own instant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

import orjson
from msgspec.structs import astuple

from stillhouse.core.calls import Ended, Fate, Seen, Started
from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.money import Paid
from stillhouse.core.nouns import Noun
from stillhouse.core.traffic import Attempt, Evidence, Usage
from stillhouse.dialects.deltas import texts
from stillhouse.dialects.paths import USAGE_DIALECT
from stillhouse.dialects.prompt import text_asked
from stillhouse.dialects.sse import events
from stillhouse.dialects.unfold import text_answered
from stillhouse.flows.house import Asked, House
from stillhouse.ledger.book import STANDARD_TIERS
from stillhouse.ledger.charging import charge, nothing_bought
from stillhouse.ledger.estimate import completed_usage, estimated_usage
from stillhouse.ledger.prices import Price
from stillhouse.ledger.usage import decompose

UNKNOWN_OUTPUT_TOKENS = 256
"""What an answer nobody heard is taken to have before a route's first answer."""

MOST_TOKENS = 10**9
"""More tokens than any one call can have."""

MOST_PICO = 10**18
"""More money than any one call can cost: a million dollars."""

_OK, _REPORTED = Fate.OK, Evidence.REPORTED  # members of an enumeration are dear to look up


class Heard(Noun):
    """What was heard of a call's answer: `text` is the part of a stream that arrived."""

    fate: Fate
    status: int
    seen: Seen = Seen()
    text: str | None = None
    first_byte_ms: float | None = None
    latency_ms: float | None = None
    body: bytes = b""
    error: str = ""


def book(
    house: House,
    asked: Asked,
    started: Started,
    wire: Wire,
    heard: Heard,
    price: Price | None,
    *,
    last: bool = True,
) -> Ended:
    """Close a call: its usage, its price and its charges; `price` is that of the model asked for.

    A usage body that contradicts itself is no count: the call is then estimated, and `error` of
    the entry says why. A call that never left, or that was refused with a 3xx or 4xx, bought
    nothing.
    """
    fate, status, seen, begun = heard.fate, heard.status, heard.seen, started.attempt
    usage, evidence, error, text = None, _REPORTED, heard.error, heard.text
    usage_body = seen.usage_body
    if usage_body is not None:
        try:
            usage = sane(decompose(usage_body, USAGE_DIALECT[wire]))
        except CallerError as misfit:
            error = f"{error}; {misfit}" if error else str(misfit)
            text = text_heard(heard, wire, stream=asked.ask.stream)
    free = (usage is None and 300 <= status < 500) or not (fate is _OK or fate.sent)
    if free:
        usage, evidence = Usage(), Evidence.DERIVED
    elif usage is None:
        evidence = Evidence.ESTIMATED
        usage = estimated_usage(
            fate,
            status,
            text_asked(asked.body, asked.ask.wire),
            len(asked.body),
            text,
            started.expected_output_tokens,
            house.counter,
        )
    elif seen.partial:
        evidence = Evidence.ESTIMATED
        text = text_heard(heard, wire, stream=asked.ask.stream)
        usage = completed_usage(usage, text, house.counter)
    tier = seen.service_tier or begun.service_tier
    attempt = Attempt(
        begun.attempt_id,
        seen.model or begun.model,
        begun.at_us,
        begun.host,
        begun.kind,
        usage,
        heard.latency_ms,
        reported_cost(seen.reported_cost) if seen.reported_cost is not None else None,
        fate is _OK and not seen.error,
        "" if tier in STANDARD_TIERS else tier,
        begun.batch,
        begun.region,
        evidence,
    )
    if free:
        charges = nothing_bought(attempt)
    else:
        if attempt.model != begun.model or attempt.service_tier != begun.service_tier:
            price = price_of(house, attempt) or price_of(house, attempt._replace(model=begun.model))
        charges = charge(attempt, price) or nothing_bought(attempt)
    return Ended(
        asked.exchange_id,
        attempt,
        charges,
        fate,
        status,
        heard.first_byte_ms,
        _json(usage_body) if usage_body is not None else "",
        house.keep_body(asked.route, heard.body) if heard.body else "",
        asked.ask.stream and 200 <= status < 300,
        error,
        last,
        upstream=started.upstream,
    )


def expected_output(house: House, asked: Asked) -> int:
    """What an answer that nobody heard is taken to have, in tokens.

    The length of the route's answers so far, never more than the caller's own limit.
    """
    limit = asked.ask.max_output_tokens or asked.route.max_output_tokens
    return min(limit, house.expected_output.get(asked.route.name, UNKNOWN_OUTPUT_TOKENS))


def text_heard(heard: Heard, wire: Wire, *, stream: bool) -> str:
    """The text in what was heard of an answer."""
    if heard.text or not stream:
        return heard.text or text_answered(heard.body, wire)
    return "".join(texts(events(heard.body), wire))


def decompose_seen(seen: Seen, wire: Wire) -> Usage:
    """The leaves of a usage body as one wire's upstreams write it."""
    assert seen.usage_body is not None
    return decompose(seen.usage_body, USAGE_DIALECT[wire])


def sane(usage: Usage) -> Usage:
    """Refuse counts that no call has: they are a fault, and would be more money than there is."""
    if sum(astuple(usage)) <= MOST_TOKENS:  # all together, and so each
        return usage
    into, out, searches = usage.total_input_tokens, usage.total_output_tokens, usage.web_searches
    if max(into, out, searches) > MOST_TOKENS:
        raise CallerError(
            f"the usage counts {into} and {out} tokens and {searches} searches, more than any call "
            "has"
        )
    return usage


def price_of(house: House, attempt: Attempt) -> Price | None:
    """The price of a call at its instant; None where it is unpriced."""
    return house.prices.find(
        attempt.model,
        attempt.host,
        attempt.at_us,
        service_tier=attempt.service_tier,
        batch=attempt.batch,
        region=attempt.region,
    )


def reported_cost(cost: object) -> Paid | None:
    """What the provider says it charged; what cannot be an amount is left out.

    >>> reported_cost(0.25), reported_cost("1e99"), reported_cost([])
    (Paid('0.25' USD), None, None)
    """
    if cost is None:
        return None
    if isinstance(cost, int | float | str) and not isinstance(cost, bool):
        with suppress(ValueError, ArithmeticError):
            paid = Paid.of(cost)
            return paid if abs(paid.pico) <= MOST_PICO else None
    return None


def _json(usage_body: Mapping[str, object]) -> str:
    """A usage object as text, also one with numbers or signs that the fast encoder refuses."""
    try:
        return orjson.dumps(usage_body).decode()
    except orjson.JSONEncodeError:
        return json.dumps(usage_body)
