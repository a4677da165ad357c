"""The price book: dates, windows, tiers of service, two time axes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import CallerError
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Attempt, Usage
from stillhouse.ledger.book import PriceBook
from stillhouse.ledger.charging import charge
from stillhouse.ledger.names import Host, host_from_row, matches
from stillhouse.ledger.prices import Price, Window, price_from_row


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**6


def usd(price: str) -> dict[str, int]:
    return {"input_tokens": Paid.of(price).pico}


def found(book: PriceBook, at: str | None, model: str = "m", host: str = "acme",
          **call: object) -> str | None:  # fmt: skip
    price = book.find(model, host, None if at is None else us(at), **call)  # type: ignore[arg-type]
    return None if price is None else f"{Paid(price.amounts['input_tokens']).decimal.normalize():f}"


HOSTS = [
    Host("openai", aliases=("*openai*",), url=r"https://api\.openai\.com",
         models=("gpt-*", "re:^o[134]")),
    Host("azure", resells=("openai",)),
    Host("deepseek", models=("deepseek*",)),
]  # fmt: skip

# DeepSeek: flat, then peak hours (01-04 and 06-10 UTC), weekends in Beijing off-peak all day.
DEEPSEEK = PriceBook(
    [
        Price("deepseek", "v4", usd("0.14")),
        Price("deepseek", "v4", usd("0.15"), valid_from_us=us("2026-09-10")),
        *(
            Price("deepseek", "v4", usd("0.30"), valid_from_us=us("2026-09-10"),
                  window=Window("UTC", (), start * 60, end * 60))
            for start, end in ((1, 4), (6, 10))
        ),
        Price("deepseek", "v4", usd("0.15"), valid_from_us=us("2026-09-10"), own=True,
              window=Window("Asia/Shanghai", (6, 7))),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-07-04T02:00", "0.14"),
        ("2026-09-09T23:59:59", "0.14"),
        ("2026-09-10T00:00", "0.15"),
        ("2026-09-25T00:59:59", "0.15"),
        ("2026-09-25T01:00", "0.3"),
        ("2026-09-25T04:00", "0.15"),
        ("2026-09-25T09:59", "0.3"),
        ("2026-09-26T02:00", "0.15"),  # a Saturday
        ("2026-09-27T15:59", "0.15"),
        ("2026-09-28T02:00", "0.3"),  # Monday in both zones
    ],
)
def test_the_price_of_deepseek_follows_date_hour_and_weekday(at: str, expected: str) -> None:
    assert found(DEEPSEEK, at, "v4", "deepseek") == expected


def test_the_weekend_is_that_of_the_vendor_s_zone() -> None:
    beijing = Window("Asia/Shanghai", (6, 7))
    assert beijing.covers(us("2026-09-25T16:00"))  # Saturday 00:00 in Shanghai
    assert not beijing.covers(us("2026-09-25T15:59"))
    assert not beijing.covers(us("2026-09-27T16:00"))


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 2**50))
def test_a_window_and_its_complement_share_the_day(start: int, end: int, at_us: int) -> None:
    inside, outside = Window("UTC", (), start, end), Window("UTC", (), end, start)
    assert inside.covers(at_us) != outside.covers(at_us) or start == end


def test_a_new_dated_price_wins_from_its_day_on_and_the_old_one_stays() -> None:
    old = PriceBook([Price("acme", "m", usd("2"))])
    new = old.with_prices([Price("acme", "m", usd("1"), valid_from_us=us("2026-09-01"))])
    assert found(old, "2026-10-01") == "2"
    assert found(new, "2026-08-31") == "2"
    assert found(new, "2026-09-01") == "1"
    assert len(new.prices) == 2


def test_the_book_answers_as_it_was_known_then() -> None:
    first = Price("acme", "m", usd("2"), known_from_us=us("2026-01-01"))
    corrected = Price("acme", "m", usd("3"), known_from_us=us("2026-06-01"))
    book = PriceBook([first, corrected])
    assert found(book, "2026-02-01") == "3"
    assert found(book.as_known_at(us("2026-03-01")), "2026-02-01") == "2"
    assert found(book.as_known_at(us("2025-12-31")), "2026-02-01") is None


def test_a_price_taken_back_is_gone_from_then_on_only() -> None:
    wrong = Price("acme", "m", usd("9"), known_from_us=us("2026-01-01"))
    denied = Price("acme", "m", usd("9"), known_from_us=us("2026-01-01"),
                   known_to_us=us("2026-02-01"))  # fmt: skip
    book = PriceBook([wrong]).with_prices([denied])
    assert found(book.as_known_at(us("2026-01-15")), "2026-03-01") == "9"
    assert found(book.as_known_at(us("2026-02-01")), "2026-03-01") is None


def test_a_booked_charge_keeps_its_price_when_the_book_learns_better() -> None:
    attempt = Attempt("a", "m", usage=Usage(input_tokens=10**6))
    before = PriceBook([Price("acme", "m", usd("2"), known_from_us=us("2026-01-01"))])
    booked = charge(attempt, before.find("m", "acme", us("2026-02-01")))
    after = before.with_prices([Price("acme", "m", usd("3"), known_from_us=us("2026-06-01"))])
    assert booked[0].billed == Paid.of("2")
    assert after.by_id(booked[0].price_id) == before.prices[0]
    then = after.as_known_at(us("2026-02-01")).find("m", "acme", us("2026-02-01"))
    assert charge(attempt, then) == booked


@given(st.permutations(range(4)))
def test_the_order_of_learning_does_not_matter(order: list[int]) -> None:
    facts = [
        Price("acme", "m", usd("2"), known_from_us=5),
        Price("acme", "m", usd("2"), known_from_us=3),
        Price("acme", "m", usd("2"), known_from_us=7, known_to_us=9),
        Price("acme", "m", usd("1"), valid_from_us=100, known_from_us=4),
    ]
    book = PriceBook(facts[i] for i in order)
    assert {(p.known_from_us, p.known_to_us) for p in book.prices} == {(3, 9), (4, None)}


def test_the_same_fact_twice_is_one_fact_and_another_fact_is_another_id() -> None:
    price = Price("acme", "m", usd("2"), known_from_us=1)
    again = Price("acme", "m", usd("2"), known_from_us=2)
    assert price.price_id == again.price_id
    assert len(PriceBook([price, again]).prices) == 1
    assert Price("acme", "m", usd("2.01")).price_id != price.price_id


def test_two_contradicting_prices_are_refused() -> None:
    with pytest.raises(CallerError, match="two prices of m at acme start at the same time"):
        PriceBook([Price("acme", "m", usd("2")), Price("acme", "m", usd("3"))])


def test_a_team_s_own_price_wins_over_the_catalogue_s() -> None:
    book = PriceBook(
        [
            Price("openai", "gpt-4o", usd("2.5"), valid_from_us=us("2026-01-01")),
            Price("openai", "gpt-4o", usd("2"), own=True, valid_from_us=us("2026-06-01"),
                  valid_to_us=us("2026-07-01")),
        ],
        HOSTS,
    )  # fmt: skip
    for host in ("openai", "OpenAI-prod", "https://api.openai.com/v1", ""):
        answers = [found(book, f"2026-0{month}-15", "gpt-4o", host) for month in (5, 6, 7)]
        assert answers == ["2.5", "2", "2.5"]


CALLS: list[tuple[dict[str, object], str | None]] = [
    ({}, "2"),
    ({"service_tier": "default"}, "2"),
    ({"service_tier": "flex"}, "1"),
    ({"service_tier": "priority"}, None),
    ({"batch": True}, "1.5"),
    ({"service_tier": "batch"}, "1.5"),
    ({"batch": True, "service_tier": "flex"}, None),
    ({"region": "eu"}, "2.2"),
    ({"region": "us"}, "2"),
]


@pytest.mark.parametrize(("call", "expected"), CALLS)
def test_a_service_tier_a_batch_and_a_region_have_prices_of_their_own(
    call: dict[str, object], expected: str | None
) -> None:
    book = PriceBook(
        [
            Price("acme", "m", usd("2")),
            Price("acme", "m", usd("1"), service_tier="flex"),
            Price("acme", "m", usd("1.5"), batch=True),
            Price("acme", "m", usd("2.2"), region="eu"),
        ]
    )
    assert found(book, "2026-01-01", "m", "acme", **call) == expected


def test_a_call_at_no_known_time_has_a_price_only_where_time_does_not_matter() -> None:
    always = Price("acme", "m", usd("2"))
    assert found(PriceBook([always]), None) == "2"
    later = Price("acme", "m", usd("1"), valid_from_us=us("2026-09-01"))
    assert found(PriceBook([always, later]), None) is None


INSTANTS = st.none() | st.sampled_from([0, 99, 100, 150, 200, 250, 90_000_000, 10**15])
DATED = st.builds(
    Price,
    provider=st.just("acme"),
    model=st.just("m"),
    amounts=st.integers(0, 10**6).map(lambda amount: {"input_tokens": amount}),
    valid_from_us=st.sampled_from([None, None, 100]),
    valid_to_us=st.sampled_from([None, None, 200]),
    known_from_us=st.integers(0, 10**6),
    window=st.sampled_from([None, None, Window("UTC", (), 0, 1), Window("UTC", (4,))]),
    own=st.booleans(),
)


@given(prices=st.lists(DATED, max_size=5), asked=st.lists(INSTANTS, min_size=1, max_size=5))
def test_what_a_book_was_asked_before_changes_none_of_its_answers(
    prices: list[Price], asked: list[int | None]
) -> None:
    try:
        book = PriceBook(prices)
    except CallerError:  # two of them contradict each other
        return
    for at_us in asked:
        price = book.find("m", "acme", at_us)
        assert price == PriceBook(prices).find("m", "acme", at_us)
        if at_us is None:
            assert price is None or price.holds_always
        else:
            holding = [one for one in book.prices if one.holds_at(at_us)]
            assert (price in holding) if holding else price is None
            assert price is None or price.own or not any(one.own for one in holding)


NAMES: list[tuple[str, str, str | None]] = [
    ("gpt-4o", "", "2.5"),
    ("GPT-4o", "OPENAI", "2.5"),
    ("openai/gpt-4o", "", "2.5"),
    ("openai/gpt-4o", "openai", "2.5"),
    ("azure/gpt-4o", "", "2.5"),
    ("gpt-4o", "azure", "2.5"),
    ("gpt-5.2-20251211", "openai", "5"),
    ("gpt-5.2-20251399", "openai", None),
    ("gpt-4o", "https://api.openai.com/v1", "2.5"),
    ("gpt-4o", "https://example.org/v1", None),
    ("gpt-4o", "acme", None),
    ("gpt-4", "", None),
    ("some-model", "", None),
    ("deepseek/v4.1", "deepinfra/fp8", "0.14"),
    ("deepseek/v4.1", "deepinfra", "0.14"),
    ("deepseek/v4.1", "", "0.14"),
    ("deepseek/v4.1", "novita", None),
    ("two-hosts", "one", "1"),
    ("two-hosts", "", None),
    ("gpt-discounted", "azure", "1"),
    ("gpt-discounted", "", None),
    ("any-host", "nowhere", "7"),
]


@pytest.mark.parametrize(("model", "host", "expected"), NAMES)
def test_a_price_is_found_under_the_names_that_logs_use(
    model: str, host: str, expected: str | None
) -> None:
    book = PriceBook(
        [
            Price("openai", "gpt-4o", usd("2.5"), names=("gpt-4o", "gpt-4o-2024*")),
            Price("openai", "gpt-5.2", usd("5"), names=("gpt-5.2-2025-12-11",)),
            Price("deepinfra", "deepseek/v4.1", usd("0.14"), own=True),
            Price("one", "two-hosts", usd("1"), own=True),
            Price("two", "two-hosts", usd("2"), own=True),
            Price("", "any-host", usd("7"), own=True),
            Price("openai", "gpt-discounted", usd("3")),
            Price("openai", "gpt-discounted", usd("2"), own=True),
            Price("azure", "gpt-discounted", usd("1"), own=True),
        ],
        HOSTS,
    )
    assert found(book, "2026-01-01", model, host) == expected


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("gpt-4o", "GPT-4o", "gpt-4o-mini"),
        ("gpt-4o*", "gpt-4o-mini", "my-gpt-4o"),
        ("*-latest", "mistral-LATEST", "latest-mistral"),
        ("*claude*", "eu.claude-3", "gpt"),
        ("re:^o[134]", "O3-mini", "gpt-o3"),
    ],
)
def test_a_name_pattern_fits_as_documented(pattern: str, fits: str, fits_not: str) -> None:
    assert matches([pattern], fits)
    assert not matches([pattern], fits_not)


def test_many_model_names_do_not_make_the_book_forget() -> None:
    book = PriceBook([Price("acme", "m*", usd("2"))])
    for number in range(5000):
        assert found(book, "2026-01-01", f"m-{number}") == "2"


def test_a_plain_row_becomes_the_price_it_describes() -> None:
    row = {
        "provider": "acme",
        "model": "m",
        "names": ["m", "m-*"],
        "amounts": usd("2"),
        "tiers": [{"above": 100, "amounts": usd("3")}],
        "window": {"zone": "UTC", "weekdays": [1], "start_minute": 60, "end_minute": 120},
        "valid_to_us": None,
        "own": True,
    }
    price = price_from_row(row, known_from_us=42)
    assert price.amounts_at(101) == usd("3")
    assert price.window == Window("UTC", (1,), 60, 120)
    assert (price.known_from_us, price.own, price.names) == (42, True, ("m", "m-*"))
    host = host_from_row({"name": "acme", "aliases": ("*acme*",), "models": None})
    assert host == Host("acme", aliases=("*acme*",))


BROKEN: list[tuple[str, dict[str, object], str]] = [
    ("an unknown key", {"colour": "red"}, "colour"),
    ("a missing key", {"amounts": None}, "amounts"),
    ("an unknown leaf", {"amounts": {"pages": 1}}, "pages"),
    ("no amount", {"amounts": {}}, "for nothing"),
    ("a negative amount", {"amounts": {"input_tokens": -1}}, "-1"),
    ("a binary fraction", {"amounts": {"input_tokens": 0.5}}, "0.5"),
    ("an empty time", {"valid_from_us": 5, "valid_to_us": 5}, "valid_to must be after"),
    ("falling tiers", {"tiers": [{"above": 2, "amounts": usd("1")}] * 2}, "must rise"),
    ("an unknown zone", {"window": {"zone": "Mars/Olympus"}}, "Mars/Olympus"),
    ("an eighth weekday", {"window": {"weekdays": [8]}}, "Monday"),
    ("a long day", {"window": {"end_minute": 1441}}, "1441"),
]


@pytest.mark.parametrize(("change", "named"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_row_that_is_no_price_is_refused_by_name(change: dict[str, object], named: str) -> None:
    row = {"provider": "acme", "model": "m", "amounts": usd("2"), **change}
    with pytest.raises(CallerError, match=named):
        price_from_row(row, known_from_us=0)


def test_a_pattern_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(CallerError, match=r"re:\("):
        matches(["re:("], "gpt")
