from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.calls import Ask, Fate
from stillhouse.core.catalogue import Wire
from stillhouse.core.quotas import Need
from stillhouse.core.traffic import INPUT_LEAVES, LEAVES, OUTPUT_LEAVES, Attempt, Usage
from stillhouse.ledger import estimate as estimate_module
from stillhouse.ledger.charging import billed, charge
from stillhouse.ledger.estimate import (
    HIDDEN_TOKENS,
    TOKENS_PER_IMAGE,
    estimated_usage,
    need,
)
from stillhouse.ledger.prices import Price, Tier

CHAT = Ask(Wire.CHAT, "m")
AMOUNTS = st.integers(0, 10**14)


class Letters:
    def count(self, text: str) -> int:
        return len(text)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    leaves = st.fixed_dictionaries(
        {"input_tokens": AMOUNTS, "output_tokens": AMOUNTS},
        optional=dict.fromkeys((*INPUT_LEAVES[1:], *OUTPUT_LEAVES[1:], "requests"), AMOUNTS),
    )
    above = draw(st.lists(st.integers(1, 5000), max_size=2, unique=True).map(sorted))
    tiers = tuple(Tier(start, draw(leaves)) for start in above)
    return Price("acme", "m", draw(leaves), tiers=tiers)


@given(
    price=prices(),
    body_bytes=st.integers(0, 10_000),
    limit=st.none() | st.integers(0, 2000),
    choices=st.integers(1, 3),
    shares=st.lists(st.floats(0, 1), min_size=11, max_size=11),
)
def test_no_call_within_its_bounds_costs_more_than_was_reserved(
    price: Price, body_bytes: int, limit: int | None, choices: int, shares: list[float]
) -> None:
    ask = CHAT._replace(max_output_tokens=limit, choices=choices)
    wanted = need(ask, body_bytes, price, 1500)
    room_in = body_bytes + HIDDEN_TOKENS
    room_out = (1500 if limit is None else limit) * choices
    counts: dict[str, int] = {}
    for leaf, share in zip((*INPUT_LEAVES, *OUTPUT_LEAVES), shares, strict=True):
        room = room_in if leaf in INPUT_LEAVES else room_out
        counts[leaf] = int(room * share)
        if leaf in INPUT_LEAVES:
            room_in -= counts[leaf]
        else:
            room_out -= counts[leaf]
    usage = Usage(**counts)
    cost = billed(charge(Attempt("a", "m", usage=usage), price))
    assert usage.total_input_tokens + usage.total_output_tokens <= wanted.tokens
    assert wanted.cost_pico is not None
    if cost is not None:
        assert cost.pico <= wanted.cost_pico


def test_an_unknown_price_is_no_free_price() -> None:
    assert need(CHAT, 100, None, 50).cost_pico is None
    only_input = Price("acme", "m", {"input_tokens": 10**12})
    assert need(CHAT, 100, only_input, 50).cost_pico is None
    assert need(CHAT, 100, None, 50, allow_unpriced=True).allow_unpriced


def test_a_free_local_model_needs_no_money() -> None:
    free = Price("local", "m", {"input_tokens": 0, "output_tokens": 0}, own=True)
    assert need(CHAT, 100, free, 50) == Need(0, 100 + HIDDEN_TOKENS + 50)


@pytest.mark.parametrize(
    ("limit", "choices", "out"), [(None, 1, 50), (7, 0, 7), (7, -2, 7), (7, 3, 21), (-7, 3, 0)]
)
def test_no_limit_and_no_number_of_answers_makes_room_of_less_than_nothing(
    limit: int | None, choices: int, out: int
) -> None:
    ask = CHAT._replace(max_output_tokens=limit, choices=choices)
    assert need(ask, 100, None, 50) == Need(None, 100 + HIDDEN_TOKENS + out)


def test_many_prices_are_not_taken_for_each_other_and_not_all_remembered() -> None:
    for n in [*range(5000), *range(5)]:
        price = Price("acme", "m", {"input_tokens": n * 10**6, "output_tokens": 0})
        cost = need(CHAT, 100, price, 50).cost_pico
        assert cost == (n * (100 + HIDDEN_TOKENS) + 11 if n else 0)
        assert len(estimate_module._dearest) <= estimate_module._REMEMBERED


def test_pictures_take_room_of_their_own() -> None:
    plain, pictured = need(CHAT, 100, None, 50), need(CHAT._replace(images=2), 100, None, 50)
    assert pictured.tokens - plain.tokens == 2 * TOKENS_PER_IMAGE


def test_embeddings_are_priced_by_their_input_alone() -> None:
    price = Price("acme", "m", {"input_tokens": 10**12})
    wanted = need(Ask(Wire.EMBEDDINGS, "m"), 1000, price, 4096)
    assert wanted.tokens == 1000 + HIDDEN_TOKENS
    assert wanted.cost_pico is not None
    assert 0 <= wanted.cost_pico - 2000 * 10**6 < 100


def test_a_decision_with_a_price_for_each_request_needs_that() -> None:
    price = Price("acme", "m", {"requests": 5 * 10**9})
    assert need(Ask(Wire.DECISIONS, "m"), 1000, price, 10).cost_pico == 5000


def estimate(fate: Fate, status: int, seen: str | None = None, asked: str | None = "abcd") -> Usage:
    return estimated_usage(fate, status, asked, 41, seen, 300, Letters())


def test_what_never_left_and_what_was_refused_used_nothing() -> None:
    for fate in (Fate.REFUSED, Fate.DNS, Fate.TLS, Fate.CONNECT_TIMEOUT):
        assert estimate(fate, 0) == Usage()
    for status in (400, 401, 403, 404, 408, 409, 413, 422, 429):
        assert estimate(Fate.STATUS, status) == Usage()


def test_a_failure_that_was_not_heard_is_taken_to_be_a_whole_answer() -> None:
    for fate, status in (
        (Fate.STATUS, 500),
        (Fate.STATUS, 529),
        (Fate.FIRST_BYTE_TIMEOUT, 0),
        (Fate.CALLER_GONE, 0),
        (Fate.INTERRUPTED, 0),
        (Fate.TRUNCATED, 200),
    ):
        assert estimate(fate, status) == Usage(input_tokens=4, output_tokens=300)


def test_of_a_stream_that_broke_off_the_text_that_was_seen_counts() -> None:
    assert estimate(Fate.DROPPED, 200, "xyz") == Usage(input_tokens=4, output_tokens=3)
    assert estimate(Fate.CALLER_GONE, 200, "") == Usage(input_tokens=4)


def test_a_body_that_cannot_be_read_counts_by_its_bytes() -> None:
    assert estimate(Fate.DROPPED, 200, "", asked=None).input_tokens == 11
    assert estimate(Fate.DROPPED, 200, "", asked="").input_tokens == 11


def test_every_leaf_of_usage_can_be_bounded_but_those_of_tools() -> None:
    assert set(LEAVES) - set(INPUT_LEAVES) - set(OUTPUT_LEAVES) == {"web_searches"}
