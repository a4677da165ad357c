from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import ConfigError
from stillhouse.core.quotas import Draw, Quota, Scope, Standing, Unit, Window
from stillhouse.core.traffic import Tags
from stillhouse.ledger.quotas import (
    LARGEST_LIMIT,
    RECALL_US,
    check,
    claims,
    counter,
    drawn,
    retry_after_seconds,
    span,
    used_of,
)

CAP = Quota(Scope.TEAM, "red", Unit.COST, Window.DAY, 1000)
INSTANTS = st.integers(0, 4_000_000_000_000_000)


def us(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 10**6  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("window", "starts", "ends"),
    [
        (Window.MINUTE, (2026, 12, 31, 23, 59), (2027, 1, 1)),
        (Window.HOUR, (2026, 12, 31, 23), (2027, 1, 1)),
        (Window.DAY, (2026, 12, 31), (2027, 1, 1)),
        (Window.WEEK, (2026, 12, 28), (2027, 1, 4)),
        (Window.MONTH, (2026, 12, 1), (2027, 1, 1)),
    ],
)
def test_windows_follow_the_calendar_in_utc(
    window: Window, starts: tuple[int, ...], ends: tuple[int, ...]
) -> None:
    assert span(window, us(2026, 12, 31, 23, 59, 30)) == (us(*starts), us(*ends))


@given(at=INSTANTS, window=st.sampled_from(Window))
def test_every_instant_lies_in_its_window_and_windows_meet(at: int, window: Window) -> None:
    found = span(window, at)
    if found.ends_us is None:
        assert found.starts_us == 0
        return
    assert found.starts_us <= at < found.ends_us
    assert span(window, found.ends_us).starts_us == found.ends_us
    assert span(window, found.ends_us - 1) == found


def test_a_call_draws_on_the_quotas_of_its_names_alone() -> None:
    quotas = [
        CAP,
        replace(CAP, name="blue"),
        Quota(Scope.MODEL, "gpt-5", Unit.TOKENS, Window.MINUTE, 10),
        Quota(Scope.EVERYBODY, "", Unit.COST, Window.MONTH, 10),
    ]
    found = claims(quotas, [], "k1", Tags(team="red"), "gpt-5")
    assert [claim.base for claim in found] == [
        "team:red:cost:day:hard",
        "model:gpt-5:tokens:minute:hard",
        "everybody::cost:month:hard",
    ]


def test_a_quota_on_a_key_counts_that_key_alone_whatever_it_names() -> None:
    own = [
        Quota(Scope.KEY, "the laptop", Unit.COST, Window.DAY, 5),
        Quota(Scope.MODEL, "gpt-5", Unit.COST, Window.DAY, 3),
    ]
    bases = [
        {claim.base for claim in claims([], own, key_id, Tags(), "gpt-5")} for key_id in ("a", "b")
    ]
    assert bases[0] == {"a/key:a:cost:day:hard", "a/model:gpt-5:cost:day:hard"}
    assert not bases[0] & bases[1]


def test_leaving_the_customer_out_is_no_way_around_a_quota_for_each() -> None:
    each = Quota(Scope.CUSTOMER, "*", Unit.COST, Window.DAY, 5)
    nameless = claims([each], [], "k", Tags(), "m")
    assert [claim.base for claim in nameless] == ["customer::cost:day:hard"]


def test_of_two_quotas_on_one_counter_the_smaller_holds() -> None:
    found = claims([replace(CAP, name="*"), replace(CAP, limit=7)], [], "k", Tags(team="red"), "m")
    assert [claim.quota.limit for claim in found] == [7]


@given(name=st.text(max_size=20), unit=st.sampled_from(Unit), owner=st.text(max_size=5))
def test_a_counters_name_says_what_it_counts_whatever_the_names_hold(
    name: str, unit: Unit, owner: str
) -> None:
    window = Window.NOW if unit is Unit.CONCURRENT else Window.DAY
    quota = Quota(Scope.CUSTOMER, "*", unit, window, 5)
    for claim in claims([quota], [quota], owner, Tags(customer=name), "m"):
        named = counter(claim.base, span(window, us(2026, 5, 5)))
        expected = {"cost": 11, "tokens": 22, "requests": 1, "concurrent": 0}[unit]
        assert used_of(named, 11, 22) == expected


@pytest.mark.parametrize(
    ("quota", "part"),
    [
        (replace(CAP, limit=-1), "is -1"),
        (replace(CAP, limit=LARGEST_LIMIT + 1), "dollars"),
        (replace(CAP, unit=Unit.CONCURRENT), "counted `now`"),
        (replace(CAP, window=Window.NOW), "calendar window"),
    ],
)
def test_a_quota_that_cannot_hold_is_refused(quota: Quota, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        check(quota)


WORKERS = 3
STEPS = st.lists(
    st.tuples(
        st.integers(0, WORKERS - 1),
        st.floats(0, 1),  # how much of its lease it used
        st.floats(0, 1),  # how much of the rest it returns
        st.integers(0, 400),  # what it asks for
        st.integers(0, 500),  # what it would like
        st.integers(0, 3 * 10**6),  # how much time has passed
    ),
    max_size=60,
)


@given(limit=st.integers(0, 1000), steps=STEPS)
def test_spent_and_leased_never_pass_the_limit(
    limit: int, steps: list[tuple[int, float, float, int, int, int]]
) -> None:
    common = Standing(limit)
    mine, spent, now = [0] * WORKERS, 0, 0
    for who, share, back, asked, usual, passed in steps:
        now += passed
        used = int(mine[who] * share)
        returned = int((mine[who] - used) * back)
        draw = Draw("c", limit, None, used, 0, returned, asked, asked, usual)
        before = common._replace(mine=mine[who])
        common = drawn(draw, before, now)
        spent += used
        granted = common.mine - (mine[who] - used - returned)
        mine[who] = common.mine
        assert common.spent == spent
        assert common.leased == sum(mine)
        assert common.spent + common.leased <= limit
        assert granted == 0 or granted >= asked
        assert granted >= asked or limit - spent - (common.leased) < asked


@given(limit=st.integers(0, 100), used=st.integers(0, 300), mine=st.integers(0, 100), rest=INSTANTS)
def test_use_beyond_the_lease_is_counted_and_never_makes_a_lease_negative(
    limit: int, used: int, mine: int, rest: int
) -> None:
    mine = min(mine, limit)
    before = Standing(limit, leased=mine, mine=mine)
    after = drawn(Draw("c", limit, used=used, over=max(0, used - mine)), before, rest)
    assert (after.spent, after.mine) == (used, max(0, mine - used))
    assert after.spent + after.leased <= limit + after.over


def test_leases_shrink_with_the_rest_and_are_the_mere_need_after_a_recall() -> None:
    full = Standing(1000)
    wish = Draw("c", 1000, asked=10, least=10, usual=500)
    assert drawn(wish, full, 10**9).mine == 125
    assert drawn(wish, full._replace(spent=920), 10**9).mine == 10
    recalled = full._replace(recalled_us=10**9)
    assert drawn(wish, recalled, 10**9 + RECALL_US - 1).mine == 10
    assert drawn(wish, recalled, 10**9 + RECALL_US).mine == 125


def test_idle_leases_are_asked_back_only_where_others_hold_some() -> None:
    wish = Draw("c", 100, asked=10, least=10)
    assert drawn(wish, Standing(100, spent=95), 7).recalled_us == 0
    assert drawn(wish, Standing(100, spent=50, leased=45), 7).recalled_us == 7
    own = Standing(100, spent=50, leased=45, mine=45)
    assert drawn(wish, own, 7).recalled_us == 0


@given(amounts=st.lists(st.integers(1, 40), max_size=40))
def test_each_alert_of_a_soft_quota_is_given_once_and_refuses_nothing(amounts: list[int]) -> None:
    standing, given_alerts, spent = Standing(100), [], 0
    for amount in amounts:
        standing = drawn(Draw("c", 100, used=amount, soft=True), standing, 0)._replace(mine=0)
        spent += amount
        if standing.alert:
            given_alerts.append(standing.alert)
            assert 100 * spent >= standing.alert * 100
    assert standing.spent == spent
    assert given_alerts in ([], [80], [100], [80, 100])
    assert bool(given_alerts) == (spent >= 80)


def test_asking_again_helps_soon_while_calls_run_and_else_in_a_new_window() -> None:
    window = span(Window.MINUTE, us(2026, 5, 5, 10, 0, 20))
    now = us(2026, 5, 5, 10, 0, 20)
    assert retry_after_seconds(window, now, in_use=True) == 1.0
    assert retry_after_seconds(window, now, in_use=False) == 40.0
    assert retry_after_seconds(span(Window.TOTAL, now), now, in_use=False) is None
