from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import Balance, Deployment
from stillhouse.routing.balance import choose
from stillhouse.routing.health import BreakerState, Health, Limits
from stillhouse.routing.outcomes import Outcome

A, B, C = (Deployment(name, "m") for name in "abc")
OTHER_MODEL_OF_A = Deployment("a", "n")
OK, REFUSED = Outcome(Fate.OK, 200), Outcome(Fate.REFUSED)


def call(health: Health, one: Deployment, outcome: Outcome, at: float, took: float = 0.0) -> None:
    health.began(one, at)
    health.ended(one, outcome, at, at + took)


def state(health: Health, one: Deployment, now: float) -> BreakerState:
    return next(
        s.state for s in health.standings(now) if (s.upstream, s.model) == (one.upstream, one.model)
    )


def opened(limits: Limits | None = None) -> Health:
    """Health after five refusals of A, at time 0."""
    health = Health(limits)
    for _ in range(5):
        call(health, A, REFUSED, 0.0)
    return health


def test_a_breaker_opens_after_failures_in_a_row_and_a_success_between_them_counts_anew() -> None:
    health = Health()
    for outcome in (REFUSED, REFUSED, REFUSED, REFUSED, OK, REFUSED, REFUSED, REFUSED, REFUSED):
        call(health, A, outcome, 0.0)
        assert health.admits(A, 0.0)
    call(health, A, REFUSED, 0.0)
    assert not health.admits(A, 4.9)
    assert health.admits(B, 0.0)
    assert not health.calm


def test_a_breaker_opens_at_a_share_of_failures_that_never_come_in_a_row() -> None:
    health = Health()
    for n in range(19):
        call(health, A, REFUSED if n % 2 else OK, n * 0.01)
        assert health.admits(A, n * 0.01)
    for n in range(19, 22):
        call(health, A, REFUSED, n * 0.01)
    assert not health.admits(A, 0.5)


def test_failures_of_long_ago_do_not_count() -> None:
    health = Health()
    for n in range(40):
        call(health, A, REFUSED if n % 2 else OK, n * 60.0)
        assert health.admits(A, n * 60.0)


def test_half_open_lets_one_probe_through_until_it_is_heard_of() -> None:
    health = opened()
    assert state(health, A, 4.9) is BreakerState.OPEN
    assert state(health, A, 5.0) is BreakerState.HALF_OPEN
    assert health.admits(A, 5.0)
    health.began(A, 5.0)
    assert not health.admits(A, 5.1)
    health.ended(A, OK, 5.0, 5.5)
    assert state(health, A, 5.5) is BreakerState.CLOSED
    assert health.calm


def test_a_probe_that_fails_opens_the_breaker_for_twice_as_long_up_to_a_limit() -> None:
    health, now, spans = opened(), 5.0, []
    for _ in range(6):
        call(health, A, REFUSED, now)
        spans.append(health.opens_at(A) - now)
        now = health.opens_at(A)
    assert spans == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_a_probe_whose_caller_left_makes_room_for_another() -> None:
    health = opened()
    health.began(A, 5.0)
    health.ended(A, Outcome(Fate.CALLER_GONE), 5.0, 6.0)
    assert health.admits(A, 6.0)


def test_a_probe_that_is_never_heard_of_is_given_up() -> None:
    health = opened()
    health.began(A, 5.0)
    assert not health.admits(A, 34.9)
    assert health.admits(A, 35.0)


def test_what_began_before_the_breaker_opened_says_nothing_about_now() -> None:
    health = Health()
    health.began(A, 0.0)
    health.began(A, 0.0)
    for _ in range(5):
        call(health, A, REFUSED, 1.0)
    health.ended(A, OK, 0.0, 2.0)
    assert not health.admits(A, 2.0)
    health.ended(A, REFUSED, 0.0, 2.0)
    assert health.opens_at(A) == 6.0


def test_busy_opens_for_as_long_as_the_upstream_asks_and_no_longer_than_the_limit() -> None:
    health = Health()
    call(health, A, Outcome(Fate.STATUS, 429, retry_after_seconds=7.0), 1.0)
    assert health.opens_at(A) == 8.0
    assert health.admits(OTHER_MODEL_OF_A, 1.0)
    call(health, B, Outcome(Fate.STATUS, 503, retry_after_seconds=1e9), 1.0)
    assert health.opens_at(B) == 601.0


def test_a_key_that_is_refused_shuts_the_whole_upstream_and_a_probe_of_any_model_opens_it() -> None:
    health = Health()
    call(health, A, Outcome(Fate.STATUS, 401), 0.0)
    assert not health.admits(A, 59.0)
    assert not health.admits(OTHER_MODEL_OF_A, 59.0)
    assert health.admits(B, 0.0)
    health.began(OTHER_MODEL_OF_A, 60.0)
    assert not health.admits(A, 60.0)
    health.ended(OTHER_MODEL_OF_A, OK, 60.0, 61.0)
    assert health.admits(A, 61.0)
    assert health.calm


def test_a_model_that_is_forbidden_shuts_that_model_alone() -> None:
    health = Health()
    call(health, A, Outcome(Fate.STATUS, 403), 0.0)
    assert not health.admits(A, 59.0)
    assert health.admits(OTHER_MODEL_OF_A, 0.0)


def test_a_callers_own_wrong_key_shuts_nothing() -> None:
    health = Health()
    for status in (401, 403, 429):
        for _ in range(50):
            call(health, A, Outcome(Fate.STATUS, status, 9.0, caller_key=True), 0.0)
    assert health.calm


def test_callers_errors_never_open_a_breaker() -> None:
    health = Health()
    for n in range(200):
        call(health, A, Outcome(Fate.STATUS, (400, 404, 409, 413, 422)[n % 5]), n * 0.001)
    assert health.calm


def test_models_that_callers_invent_do_not_fill_the_memory() -> None:
    health = opened()
    for n in range(10_000):
        call(health, Deployment("b", f"invented-{n}"), OK, 1.0)
    assert len(health.standings(1.0)) <= 4096
    assert not health.admits(A, 1.0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from((A, B, OTHER_MODEL_OF_A)),
            st.sampled_from(Fate),
            st.sampled_from((200, 400, 401, 403, 429, 500)),
            st.none() | st.floats(0, 1e9),
            st.floats(0, 100),
            st.floats(0, 100),
        ),
        max_size=60,
    )
)
def test_whatever_happens_a_quiet_upstream_is_tried_again_and_a_success_closes_it(
    story: list[tuple[Deployment, Fate, int, float | None, float, float]],
) -> None:
    health, now = Health(), 0.0
    for one, fate, status, told, gap, took in story:
        now += gap
        call(health, one, Outcome(fate, status, told), now, took)
        now += took
    for one in (A, B, OTHER_MODEL_OF_A):
        assert health.opens_at(one) <= now + 600.0
        later = now + 631.0
        assert health.admits(one, later)
        call(health, one, OK, later)
        assert health.admits(one, later)
    assert health.calm
    assert all(standing.in_flight == 0 for standing in health.standings(now))


def test_weights_share_the_calls_and_a_weight_of_nothing_is_a_reserve() -> None:
    three = (Deployment("a", "m", 3.0), Deployment("b", "m", 1.0), Deployment("c", "m", 0.0))
    n = 1000
    chosen = [choose(three, Balance.WEIGHT, Health(), 0.0, i / n).upstream for i in range(n)]
    assert (chosen.count("a"), chosen.count("b"), chosen.count("c")) == (750, 250, 0)
    assert choose(three[2:], Balance.WEIGHT, Health(), 0.0, 0.5) is three[2]
    idle = tuple(Deployment(name, "m", 0.0) for name in "ab")
    assert {choose(idle, Balance.WEIGHT, Health(), 0.0, i / n).upstream for i in range(n)} == {
        "a",
        "b",
    }


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True))
def test_any_weights_and_any_draw_choose_one(weights: list[float], draw: float) -> None:
    all_of_them = tuple(Deployment(str(n), "m", w) for n, w in enumerate(weights))
    for balance in Balance:
        chosen = choose(all_of_them, balance, Health(), 0.0, draw)
        assert chosen in all_of_them
        assert chosen.weight > 0 or balance is Balance.LATENCY or not any(weights)


def test_by_latency_the_quick_one_gets_most_and_the_slow_one_is_not_forgotten() -> None:
    health = Health()
    for n in range(20):
        call(health, A, OK, n, took=2.0)
        call(health, B, OK, n, took=0.1)
    n = 1000
    now = 21.0
    chosen = [choose((A, B), Balance.LATENCY, health, now, i / n) for i in range(n)]
    assert chosen.count(B) == n
    for _ in range(30):
        health.began(B, now)  # a queue of thirty makes the quick one slow
    assert choose((A, B), Balance.LATENCY, health, now, 0.3) is A
    for _ in range(30):
        health.ended(B, OK, now, now + 0.1)
    for at in range(22, 400):
        call(health, B, OK, at, took=0.1)
    assert choose((A, B), Balance.LATENCY, health, 400.0, 0.3) is A


def test_a_failure_however_quick_is_no_latency() -> None:
    health = Health()
    call(health, A, OK, 0.0, took=1.0)
    call(health, A, REFUSED, 1.0, took=0.001)
    assert health.standings(1.0)[0].latency_seconds == pytest.approx(1.0)


def test_one_not_heard_yet_is_tried_first_but_not_by_everybody_at_once() -> None:
    health = Health()
    call(health, A, OK, 0.0, took=0.2)
    assert health.load(B, 0.0) < health.load(A, 0.0)
    health.began(B, 0.0)
    assert health.load(B, 0.0) > health.load(A, 0.0)
