from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.books import Charge
from stillhouse.core.calls import Ended, Fate, Seen, Started
from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.money import Paid
from stillhouse.core.traffic import LEAVES, Attempt, Evidence, Usage
from stillhouse.flows.booking import MOST_TOKENS, Heard, book, price_of, reported_cost, sane
from stillhouse.flows.price_facts import facts_of
from stillhouse.flows.recovering import used_by
from stillhouse.flows.verify import Audit, verify
from stillhouse.store.journal_frames import Kind, framed

if TYPE_CHECKING:
    from tests.flows.conftest import Stage

COUNTS = {"prompt_tokens": 100, "completion_tokens": 20}
GOOD = Seen(COUNTS, "m")


def booked(
    stage: Stage, heard: Heard, wire: Wire = Wire.CHAT, body: dict[str, object] | None = None
) -> Ended:
    """Book what was heard of a call."""
    return pair(stage, heard, wire, body)[1]


def pair(
    stage: Stage, heard: Heard, wire: Wire = Wire.CHAT, body: dict[str, object] | None = None
) -> tuple[Started, Ended]:
    asked = stage.asked(body=body)
    tier = asked.ask.service_tier
    attempt = Attempt("t1", "m", asked.at_us, "acme", service_tier=tier)
    price = price_of(stage.house, attempt)
    started = Started(
        asked.exchange_id, attempt, "chat", "a", asked.tags, "k1",
        price.price_id if price else "", asked_bytes=len(asked.body), expected_output_tokens=64,
        claims=("key:k1:cost:total:hard", "key:k1:tokens:total:hard"),
        spoken="" if wire is Wire.CHAT else wire,
    )  # fmt: skip
    return started, book(stage.house, asked, started, wire, heard, price)


def test_counts_are_priced_at_the_instant_of_the_call(stage: Stage) -> None:
    ended = booked(stage, Heard(Fate.OK, 200, GOOD))
    assert [(charge.leaf, charge.billed) for charge in ended.charges] == [
        ("input_tokens", Paid.of("0.0003")),
        ("output_tokens", Paid.of("0.0003")),
    ]
    assert (ended.attempt.ok, ended.attempt.evidence) == (True, Evidence.REPORTED)


@pytest.mark.parametrize("fate", [fate for fate in Fate if not fate.sent])
def test_what_never_left_bought_nothing_whatever_its_status(stage: Stage, fate: Fate) -> None:
    ended = booked(stage, Heard(fate, 500, text="words that cannot be"))
    assert ended.attempt.usage == Usage()
    assert [charge.billed for charge in ended.charges] == [Paid(0)]
    assert ended.charges[0].evidence is Evidence.DERIVED


@pytest.mark.parametrize("status", [302, 400, 404, 429, 499])
def test_a_refusal_bought_nothing_unless_it_says_otherwise(stage: Stage, status: int) -> None:
    assert booked(stage, Heard(Fate.STATUS, status)).attempt.usage == Usage()
    counted = booked(stage, Heard(Fate.STATUS, status, GOOD))
    assert counted.attempt.usage == Usage(input_tokens=100, output_tokens=20)
    assert counted.attempt.evidence is Evidence.REPORTED
    assert not counted.attempt.ok


@pytest.mark.parametrize("fate", [Fate.FIRST_BYTE_TIMEOUT, Fate.DROPPED, Fate.CALLER_GONE])
def test_an_answer_that_nobody_heard_is_taken_to_be_as_long_as_usual(
    stage: Stage, fate: Fate
) -> None:
    ended = booked(stage, Heard(fate, 0))
    assert ended.attempt.usage == Usage(input_tokens=2, output_tokens=64)
    assert {charge.evidence for charge in ended.charges} == {Evidence.ESTIMATED}


def test_a_part_of_a_stream_is_counted_as_far_as_it_came(stage: Stage) -> None:
    ended = booked(stage, Heard(Fate.TRUNCATED, 200, text="one two three"))
    assert ended.attempt.usage == Usage(input_tokens=2, output_tokens=3)


def test_the_reason_why_counts_were_not_believed_stands_beside_what_went_wrong(
    stage: Stage,
) -> None:
    seen = Seen({"prompt_tokens": "many"}, "m")
    ended = booked(stage, Heard(Fate.TRUNCATED, 200, seen, text="one", error="cut off"))
    assert ended.error.startswith("cut off; usage prompt_tokens is 'many'")
    assert ended.attempt.evidence is Evidence.ESTIMATED
    assert json.loads(ended.usage_body) == {"prompt_tokens": "many"}


@pytest.mark.parametrize(
    "counts",
    [
        {"prompt_tokens": MOST_TOKENS + 1},
        {"prompt_tokens": 10**40, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": 1, "note": "half a pair: \ud800", "n": 10**40},
        {"prompt_tokens": 1, "completion_tokens": 1, "n": 10**40, "cost": 10**40},
    ],
)
def test_counts_that_no_call_has_can_be_booked_all_the_same(
    stage: Stage, counts: dict[str, object]
) -> None:
    seen = Seen(counts, "m", reported_cost=counts.get("cost"))
    ended = booked(stage, Heard(Fate.OK, 200, seen, text="one"))
    assert json.loads(ended.usage_body) == counts
    framed(Kind.ENDED, ended)
    believed = sum(counts[name] for name in counts if name.endswith("tokens"))  # type: ignore[misc]
    assert (ended.attempt.evidence is Evidence.REPORTED) == (believed < MOST_TOKENS)


def test_a_search_is_counted_too_and_not_without_end(stage: Stage) -> None:
    seen = Seen({"input_tokens": 1, "server_tool_use": {"web_search_requests": 10**30}}, "m")
    ended = booked(stage, Heard(Fate.OK, 200, seen, text="one"), Wire.MESSAGES)
    assert ended.attempt.evidence is Evidence.ESTIMATED
    framed(Kind.ENDED, ended)


EDGES = st.sampled_from([0, 1, MOST_TOKENS // 2, MOST_TOKENS - 1, MOST_TOKENS, MOST_TOKENS + 1])


@given(st.builds(Usage, **dict.fromkeys(LEAVES, EDGES)))
def test_what_went_in_what_came_out_and_searches_have_a_bound_each(usage: Usage) -> None:
    counts = usage.total_input_tokens, usage.total_output_tokens, usage.web_searches
    if max(counts) <= MOST_TOKENS:
        assert sane(usage) is usage
    else:
        said = "the usage counts {} and {} tokens and {} searches, more".format(*counts)
        with pytest.raises(CallerError, match=said):
            sane(usage)


@pytest.mark.parametrize(
    ("cost", "paid"),
    [
        (0.25, "0.25"),
        ("0.000001", "0.000001"),
        (3, "3"),
        (True, None),
        ("dear", None),
        (float("nan"), None),
        (float("inf"), None),
        ("1e400", None),
        (10**40, None),
        ({}, None),
    ],
)
def test_what_a_provider_says_it_charged_is_kept_where_it_is_an_amount(
    cost: object, paid: str | None
) -> None:
    assert reported_cost(cost) == (None if paid is None else Paid.of(Decimal(paid)))


def test_a_tier_without_a_price_is_unpriced_and_not_standard(stage: Stage) -> None:
    ended = booked(stage, Heard(Fate.OK, 200, GOOD._replace(service_tier="priority")))
    assert {charge.billed for charge in ended.charges} == {None}
    assert ended.attempt.service_tier == "priority"


@pytest.mark.parametrize("standard", ["default", "standard", "auto", "on_demand"])
def test_a_finer_tier_that_was_not_served_is_not_charged(stage: Stage, standard: str) -> None:
    seen = GOOD._replace(service_tier=standard)
    ended = booked(stage, Heard(Fate.OK, 200, seen), body={"service_tier": "flex"})
    assert ended.attempt.service_tier == ""
    assert ended.charges[0].billed == Paid.of("0.0003")


def test_a_snapshot_of_a_model_costs_what_the_model_does_in_the_tier_that_was_served(
    stage: Stage,
) -> None:
    seen = GOOD._replace(model="m-2026-11-01-exp", service_tier="flex")
    ended = booked(stage, Heard(Fate.OK, 200, seen))
    assert ended.charges[0].billed == Paid.of("0.0006")


class Row(NamedTuple):
    """An attempt as it stands in the books."""

    attempt: Attempt
    charges: tuple[Charge, ...]
    wire: str
    fate: str
    status: int
    price_id: str
    usage_body: str
    avoided_pico: int | None = None


class Shelf:
    """Books of one attempt."""

    def __init__(self, stage: Stage, started: Started, ended: Ended) -> None:
        self._stage = stage
        self.row = Row(
            ended.attempt,
            ended.charges,
            started.spoken or started.wire,
            ended.fate,
            ended.status,
            started.price_id,
            ended.usage_body,
        )

    def booked(self) -> Iterable[Row]:
        return [self.row]

    def price_facts(self, price_id: str) -> str:
        price = self._stage.house.prices.by_id(price_id)
        return facts_of(price) if price is not None else "{}"

    def strays(self) -> Iterator[tuple[str, str]]:
        return iter(())


NUMBERS = st.one_of(st.integers(-2, 300), st.sampled_from([None, "7", 1.5, True, 10**12, 10**40]))
DETAILS = st.fixed_dictionaries(
    {}, optional={"cached_tokens": NUMBERS, "audio_tokens": NUMBERS, "reasoning_tokens": NUMBERS}
)
USAGES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": NUMBERS,
        "completion_tokens": NUMBERS,
        "total_tokens": NUMBERS,
        "input_tokens": NUMBERS,
        "output_tokens": NUMBERS,
        "cache_read_input_tokens": NUMBERS,
        "cache_creation_input_tokens": NUMBERS,
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
        "cost": NUMBERS,
    },
)
SEENS = st.builds(
    Seen,
    usage_body=st.none() | USAGES,
    model=st.sampled_from(["", "m", "m-large", "free", "other"]),
    service_tier=st.sampled_from(["", "default", "flex", "priority"]),
    reported_cost=NUMBERS,
    complete=st.booleans(),
    error=st.sampled_from(["", "it broke"]),
    partial=st.booleans(),
)
HEARD = st.builds(
    Heard,
    fate=st.sampled_from(Fate),
    status=st.sampled_from([0, 200, 302, 400, 429, 500]),
    seen=SEENS,
    text=st.none() | st.sampled_from(["", "one two"]),
    error=st.sampled_from(["", "cut off"]),
)


@given(
    heard=HEARD,
    wire=st.sampled_from([Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES]),
    stream=st.booleans(),
    tier=st.sampled_from(["auto", "flex", "priority"]),
)
def test_whatever_was_heard_is_booked_so_that_the_audit_agrees(
    make_stage: Callable[[], Stage], heard: Heard, wire: Wire, stream: bool, tier: str
) -> None:
    stage = make_stage()
    body: dict[str, object] = {"stream": stream, "service_tier": tier}
    started, ended = pair(stage, heard, wire, body)
    framed(Kind.ENDED, ended)
    audit = Audit()
    assert list(verify(Shelf(stage, started, ended), audit)) == []
    assert audit.not_derivable == 0
    assert ended.charges, "no call is without a row"
    assert ended.attempt.usage is not None
    assert ended.attempt.ok == (heard.fate is Fate.OK and not heard.seen.error)
    grades = {Evidence.REPORTED, Evidence.DERIVED, Evidence.ESTIMATED}
    assert ended.attempt.evidence in grades
    if heard.seen.usage_body is None and heard.fate.sent and not 300 <= heard.status < 500:
        assert ended.attempt.evidence is Evidence.ESTIMATED
    used = used_by(started, ended)
    cost = sum(charge.billed.pico for charge in ended.charges if charge.billed is not None)
    assert used[started.claims[0]] == cost
