"""Charges: the published pricing mistakes, conservation, reversal."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.books import CostSource
from stillhouse.core.errors import CallerError
from stillhouse.core.money import Avoided, Paid
from stillhouse.core.traffic import LEAVES, Attempt, Evidence, Usage
from stillhouse.ledger import charging
from stillhouse.ledger.charging import billed, charge, reconcile, reverse
from stillhouse.ledger.prices import Price, Tier
from stillhouse.ledger.usage import decompose

COUNT = st.integers(0, 10**9)
AMOUNT = st.integers(0, 10**14)
USAGES = st.builds(Usage, **dict.fromkeys(LEAVES, COUNT))
UNITS = {leaf: "web_searches" if leaf == "web_searches" else "tokens" for leaf in LEAVES}


def usd_per_mtok(**prices: str) -> dict[str, int]:
    return {leaf: Paid.of(price).pico for leaf, price in prices.items()}


def cost(body: Mapping[str, object], dialect: str, price: Price) -> Decimal:
    total = billed(charge(Attempt("a", "m", usage=decompose(body, dialect)), price))
    assert total is not None
    return total.decimal


SONNET_37 = Price(
    "anthropic",
    "claude-3-7-sonnet",
    usd_per_mtok(
        input_tokens="3", output_tokens="15", cache_read_tokens="0.3", cache_write_5m_tokens="3.75"
    ),
)
HAIKU_35 = Price("anthropic", "claude-3-5-haiku", usd_per_mtok(
    input_tokens="0.8", output_tokens="4", cache_read_tokens="0.08"))  # fmt: skip
HALF_DOLLAR = Price("google", "m", usd_per_mtok(
    input_tokens="0.5", output_tokens="3", cache_read_tokens="0.05"))  # fmt: skip


def gemini(cached_above: str) -> Price:
    """Gemini 2.5 Pro: dearer for the whole request above 200k tokens of input."""
    return Price(
        "google",
        "gemini-2.5-pro",
        usd_per_mtok(input_tokens="1.25", cache_read_tokens="0.3125", output_tokens="10"),
        tiers=(
            Tier(200_000, usd_per_mtok(
                input_tokens="2.5", cache_read_tokens=cached_above, output_tokens="15")),
        ),
    )  # fmt: skip


MIXED_TIERS = Price("google", "gemini-2.5-pro", usd_per_mtok(
    input_tokens="1.25", cache_read_tokens="0.625", output_tokens="10"))  # fmt: skip
LONG = {"prompt_tokens": 262_960, "completion_tokens": 1744, "total_tokens": 264_704,
        "prompt_tokens_details": {"cached_tokens": 257_955}}  # fmt: skip

PUBLISHED = [
    ("litellm 9812: a cache write is not input as well", "anthropic",
     {"input_tokens": 3, "cache_creation_input_tokens": 12_304, "output_tokens": 550},
     SONNET_37, "0.054399"),
    ("pi 2148: cached tokens are part of the input", "openai",
     {"prompt_tokens": 20_212, "completion_tokens": 931,
      "prompt_tokens_details": {"cached_tokens": 16_298}}, HALF_DOLLAR, "0.0055649"),
    ("litellm 11789: almost all of the input was cached", "anthropic",
     {"input_tokens": 4, "cache_read_input_tokens": 2455, "output_tokens": 23},
     HAIKU_35, "0.0002916"),
    ("litellm 14849: the reporter's answer mixes two tiers", "openai", LONG,
     MIXED_TIERS, "0.184918125"),
    ("litellm 14849: the strict tier of September 2025", "openai", LONG,
     gemini("0.625"), "0.199894375"),
    ("litellm 14849: the same request at the table of November 2026", "openai", LONG,
     gemini("0.25"), "0.10316125"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "body", "price", "expected"), [p[1:] for p in PUBLISHED],
                         ids=[p[0] for p in PUBLISHED])  # fmt: skip
def test_a_published_pricing_mistake_is_not_repeated(
    dialect: str, body: Mapping[str, object], price: Price, expected: str
) -> None:
    assert cost(body, dialect, price) == Decimal(expected)


def test_the_double_counted_answer_of_litellm_14849_needs_overlapping_leaves() -> None:
    overlapping = Usage(input_tokens=262_960, cache_read_tokens=257_955, output_tokens=1744)
    total = billed(charge(Attempt("a", "m", usage=overlapping), gemini("0.3125")))
    assert total == Paid.of("0.7641709375")
    assert decompose(LONG, "openai").input_tokens == 262_960 - 257_955


def test_the_inference_day_of_deepseek_earns_its_published_revenue() -> None:
    price = Price("deepseek", "deepseek-r1", usd_per_mtok(
        input_tokens="0.55", cache_read_tokens="0.14", output_tokens="2.19"))  # fmt: skip
    day = {"input_tokens": 608 * 10**9, "cached_tokens": 342 * 10**9, "output_tokens": 168 * 10**9}
    assert cost(day, "columns", price) == Decimal(562_100)
    assert abs(Decimal(562_100) / Decimal(562_027) - 1) < Decimal("2e-4")


@given(USAGES, st.fixed_dictionaries(dict.fromkeys(LEAVES, AMOUNT)))
def test_charges_sum_to_the_hand_formula(usage: Usage, amounts: dict[str, int]) -> None:
    total = billed(charge(Attempt("a", "m", usage=usage), Price("p", "m", amounts)))
    exact = sum(n * amounts[leaf] for leaf, n in usage.leaves().items())
    assert total is not None
    assert abs(total.pico * 10**6 - exact) <= 10**6 // 2 * len(usage.leaves())


BORROWED = {"cache_read_tokens": "input_tokens", "reasoning_tokens": "output_tokens"}


@given(
    USAGES,
    st.dictionaries(
        st.sampled_from((*LEAVES, "requests")),
        AMOUNT | st.integers(0, 10**8).map(lambda halves_per_unit: halves_per_unit * 500_000),
        min_size=1,
    ),
)
def test_each_charge_is_rounded_by_itself_half_to_even(
    usage: Usage, amounts: dict[str, int]
) -> None:
    quantities = {**usage.leaves(), **({"requests": 1} if "requests" in amounts else {})}
    expected = []
    for leaf, n in quantities.items():
        amount = amounts.get(leaf, amounts.get(BORROWED.get(leaf, "")))
        exact = None if amount is None else Paid(round(Fraction(n * amount, 10**6)))
        expected.append((leaf, n, "requests" if leaf == "requests" else UNITS[leaf], exact))
    charges = charge(Attempt("a", "m", usage=usage), Price("p", "m", amounts))
    assert [(c.leaf, c.quantity, c.unit, c.billed) for c in charges] == expected
    assert all(type(c.quantity) is int for c in charges)


def test_many_prices_are_not_taken_for_each_other_and_not_all_remembered() -> None:
    attempt = Attempt("a", "m", usage=Usage(input_tokens=10**6))
    for n in range(2 * charging._REMEMBERED):  # each is gone when the next one is made
        assert billed(charge(attempt, Price("p", "m", {"input_tokens": n}))) == Paid(n)
        assert len(charging._rates) <= charging._REMEMBERED


@given(USAGES, st.dictionaries(st.sampled_from(LEAVES), AMOUNT, min_size=1))
def test_every_leaf_is_charged_once_and_unpriced_is_none_and_not_zero(
    usage: Usage, amounts: dict[str, int]
) -> None:
    charges = charge(Attempt("a", "m", usage=usage), Price("p", "m", amounts))
    assert {c.leaf: c.quantity for c in charges} == usage.leaves()
    assert len({c.charge_id for c in charges}) == len(charges)
    for c in charges:
        assert (c.billed is None) == (c.cost_source is CostSource.UNPRICED) == (not c.price_id)


@given(USAGES, st.dictionaries(st.sampled_from(LEAVES), AMOUNT, min_size=1))
def test_a_reversal_cancels_what_was_charged(usage: Usage, amounts: dict[str, int]) -> None:
    charges = charge(Attempt("a", "m", usage=usage), Price("p", "m", amounts))
    reversals = reverse(charges)
    assert [r.reverses for r in reversals] == [c.charge_id for c in charges]
    assert sum(c.quantity for c in (*charges, *reversals)) == 0
    known = [c.billed for c in (*charges, *reversals) if c.billed is not None]
    assert sum(known, Paid(0)) == Paid(0)
    assert not {c.charge_id for c in charges} & {r.charge_id for r in reversals}


def test_a_reversal_is_not_reversed() -> None:
    charges = charge(Attempt("a", "m", usage=Usage(input_tokens=1)), HAIKU_35)
    with pytest.raises(CallerError, match="itself a reversal of a:input_tokens"):
        reverse(reverse(charges))


def test_charging_twice_gives_the_same_rows() -> None:
    attempt = Attempt("a", "m", usage=Usage(input_tokens=5, output_tokens=2))
    assert charge(attempt, HAIKU_35) == charge(attempt, HAIKU_35)


@pytest.mark.parametrize(
    ("leaf", "charged_as"),
    [
        ("cache_read_tokens", "input_tokens"),
        ("reasoning_tokens", "output_tokens"),
        ("cache_write_5m_tokens", None),
        ("cache_write_1h_tokens", None),
        ("input_audio_tokens", None),
        ("output_image_tokens", None),
        ("web_searches", None),
    ],
)
def test_only_two_leaves_borrow_a_price_and_the_others_are_never_invented(
    leaf: str, charged_as: str | None
) -> None:
    price = Price("p", "m", {"input_tokens": 2 * 10**12, "output_tokens": 5 * 10**12})
    (charged,) = charge(Attempt("a", "m", usage=Usage(**{leaf: 1000})), price)
    expected = None if charged_as is None else Paid(price.amounts[charged_as] // 1000)
    assert charged.billed == expected


@pytest.mark.parametrize(
    ("usage", "price"), [(None, HAIKU_35), (None, None), (Usage(), None)],
    ids=["usage unknown", "both unknown", "nothing counted, price unknown"],
)  # fmt: skip
def test_an_unknown_cost_is_one_unpriced_request(usage: Usage | None, price: Price | None) -> None:
    (charged,) = charge(Attempt("a", "m", usage=usage), price)
    assert (charged.leaf, charged.quantity, charged.billed) == ("requests", 1, None)
    assert billed((charged,)) is None


def test_a_fee_per_request_is_charged_once() -> None:
    price = Price("p", "m", {"requests": 5 * 10**15, "input_tokens": 10**12})
    charges = charge(Attempt("a", "m", usage=Usage(input_tokens=1_000_000)), price)
    assert {c.leaf: c.billed for c in charges} == {
        "input_tokens": Paid.of("1"),
        "requests": Paid.of("0.005"),
    }


@pytest.mark.parametrize(("total", "amount"), [(200_000, 1), (200_001, 2), (400_001, 3)])
def test_a_tier_changes_every_token_only_above_its_threshold(total: int, amount: int) -> None:
    price = Price(
        "p",
        "m",
        {"input_tokens": 10**6},
        tiers=(
            Tier(200_000, {"input_tokens": 2 * 10**6}),
            Tier(400_000, {"input_tokens": 3 * 10**6}),
        ),
    )
    usage = Usage(input_tokens=total - 1000, cache_read_tokens=1000)
    assert billed(charge(Attempt("a", "m", usage=usage), price)) == Paid(total * amount)


@pytest.mark.parametrize(
    ("counted", "expected"),
    [(Evidence.REPORTED, Evidence.DERIVED), (Evidence.ESTIMATED, Evidence.ESTIMATED)],
)
def test_a_computed_cost_is_as_good_as_its_weakest_input(
    counted: Evidence, expected: Evidence
) -> None:
    attempt = Attempt("a", "m", usage=Usage(input_tokens=1), evidence=counted)
    assert [c.evidence for c in charge(attempt, HAIKU_35)] == [expected]


def test_the_reported_cost_stays_beside_the_computed_one() -> None:
    usage = Usage(input_tokens=1_000_000)
    attempt = Attempt("a", "m", usage=usage, reported_cost=Paid.of("0.7"))
    beside = reconcile(attempt, charge(attempt, HAIKU_35))
    assert (beside.computed, beside.reported) == (Paid.of("0.8"), Paid.of("0.7"))
    assert beside.difference == Paid.of("0.1")
    assert reconcile(attempt, charge(attempt, None)).difference is None


def test_paid_and_avoided_money_never_mix_in_a_bill() -> None:
    paid = billed(charge(Attempt("a", "m", usage=Usage(input_tokens=1)), HAIKU_35))
    assert type(paid) is Paid
    with pytest.raises(TypeError, match="never mix"):
        paid + Avoided(1)
