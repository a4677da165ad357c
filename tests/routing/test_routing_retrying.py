from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import Catalogue, Deployment, Route
from stillhouse.core.traffic import AttemptKind
from stillhouse.routing.health import Health
from stillhouse.routing.outcomes import Outcome, Retry, retry_of
from stillhouse.routing.retrying import TERMS, Plan, Terms, Try, Wait, hedge

A, B, C, D = (Deployment(name, "m") for name in "abcd")
ROUTE = Route("chat", (A, B), fallbacks=("spare", "last", "missing"), max_attempts=10)
SPARE, LAST = Route("spare", (C,)), Route("last", (D,), fallbacks=("chat",))
CATALOGUE = Catalogue({}, {route.name: route for route in (ROUTE, SPARE, LAST)})
ALONE = Route("alone", (A,), max_attempts=4)

OK, REFUSED = Outcome(Fate.OK, 200), Outcome(Fate.REFUSED)
BUSY = Outcome(Fate.STATUS, 503)


class Drive:
    """Answers a plan from a script, on a clock that moves only when a call or a wait takes time."""

    def __init__(
        self, health: Health | None = None, draws: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.now, self.health, self.draws = 0.0, health or Health(), draws
        self.tries: list[Try] = []
        self.waits: list[float] = []
        self.admitted: list[bool] = []

    def run(
        self,
        route: Route,
        script: Iterable[Outcome],
        terms: Terms = TERMS,
        took: float = 0.0,
    ) -> Outcome:
        outcomes = iter(script)
        plan = Plan(route, CATALOGUE, self.health, self.draws, lambda: self.now, terms)
        step: Try | Wait | None = plan.begin()
        while step is not None:
            if isinstance(step, Wait):
                self.waits.append(step.seconds)
                self.now += step.seconds
                step = plan.go_on()
            else:
                self.tries.append(step)
                self.admitted.append(self.health.admits(step.deployment, self.now))
                self.now += took
                verdict = next(outcomes)
                step = plan.after(verdict)
        return verdict

    @property
    def called(self) -> str:
        return "".join(step.deployment.upstream for step in self.tries)

    @property
    def kinds(self) -> list[AttemptKind]:
        return [step.kind for step in self.tries]


def test_a_good_answer_ends_it() -> None:
    drive = Drive()
    assert drive.run(ROUTE, [OK]) is OK
    assert (drive.called, drive.kinds, drive.waits) == ("a", [AttemptKind.TEACHER], [])


def test_another_deployment_comes_before_a_fallback_and_a_fallback_before_a_wait() -> None:
    drive = Drive()
    assert drive.run(ROUTE, [BUSY, REFUSED, BUSY, BUSY, OK]) is OK
    assert drive.called == "abcda"
    kinds = [kind.value for kind in drive.kinds]
    assert kinds == ["teacher", "retry", "fallback", "fallback", "retry"]
    assert len(drive.waits) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_an_error_of_the_callers_is_given_at_once(status: int) -> None:
    drive = Drive()
    failed = Outcome(Fate.STATUS, status)
    assert drive.run(ROUTE, [failed]) is failed
    assert drive.called == "a"


def test_the_last_outcome_is_the_verdict() -> None:
    drive = Drive()
    last = Outcome(Fate.STATUS, 400)
    assert drive.run(ROUTE, [BUSY, last]) is last


def test_the_wait_is_as_long_as_the_upstream_asks_and_some_chance_on_top() -> None:
    drive = Drive(draws=lambda: 0.5)
    asked = Outcome(Fate.STATUS, 429, retry_after_seconds=3.0)
    assert drive.run(ALONE, [asked, OK]) is OK
    assert drive.waits == [3.25]
    assert drive.called == "aa"


def test_waits_grow_and_are_drawn_from_nothing_to_the_whole() -> None:
    drive = Drive(draws=lambda: 0.999999)
    assert drive.run(ALONE, [BUSY, BUSY, BUSY, BUSY]) is BUSY
    assert drive.waits == pytest.approx([0.5, 1.0, 2.0], rel=1e-3)
    eager = Drive(draws=lambda: 0.0)
    eager.run(ALONE, [BUSY, BUSY, BUSY, BUSY])
    assert eager.waits == [0.0, 0.0, 0.0]


def test_asked_to_wait_for_longer_than_the_limit_the_caller_is_told_at_once() -> None:
    drive = Drive()
    asked = Outcome(Fate.STATUS, 429, retry_after_seconds=20.1)
    assert drive.run(ALONE, [asked]) is asked
    assert drive.waits == []


def test_nothing_new_is_begun_after_the_deadline() -> None:
    drive = Drive()
    assert drive.run(ROUTE, [BUSY], Terms(total_seconds=9.0), took=9.0) is BUSY
    waiting = Drive()
    asked = Outcome(Fate.STATUS, 429, retry_after_seconds=5.0)
    assert waiting.run(ALONE, [asked], Terms(total_seconds=5.0)) is asked
    assert waiting.waits == []


@pytest.mark.parametrize("fate", [Fate.FIRST_BYTE_TIMEOUT, Fate.TOTAL_TIMEOUT, Fate.TRUNCATED])
def test_what_is_very_likely_billed_is_bought_again_only_where_that_is_wanted(fate: Fate) -> None:
    failed = Outcome(fate)
    assert Drive().run(ROUTE, [failed]) is failed
    generous = Drive()
    assert generous.run(ROUTE, [failed, OK], Terms(pay_twice=True)) is OK
    assert generous.called == "ab"


@pytest.mark.parametrize("fate", [Fate.TLS, Fate.GARBAGE])
def test_what_stays_wrong_is_tried_elsewhere_but_not_again(fate: Fate) -> None:
    failed = Outcome(fate)
    drive = Drive()
    assert drive.run(ALONE, [failed]) is failed
    elsewhere = Drive()
    assert elsewhere.run(ROUTE, [failed] * 4) is failed
    assert elsewhere.called == "abcd"


def test_open_breakers_get_no_traffic_while_a_fallback_is_well() -> None:
    health = Health()
    for one in (A, B):
        for _ in range(5):
            health.began(one, 0.0)
            health.ended(one, REFUSED, 0.0, 0.0)
    drive = Drive(health)
    assert drive.run(ROUTE, [OK]) is OK
    assert (drive.called, drive.kinds) == ("c", [AttemptKind.FALLBACK])


def test_where_every_breaker_is_open_the_one_that_opens_soonest_is_tried() -> None:
    health = Health()
    for one, told in ((A, 9.0), (B, 3.0), (C, 7.0), (D, 5.0)):
        health.began(one, 0.0)
        health.ended(one, Outcome(Fate.STATUS, 429, told), 0.0, 0.0)
    drive = Drive(health)
    assert drive.run(ROUTE, [OK]) is OK
    assert drive.called == "b"


def test_after_a_wait_there_is_a_try_whatever_happened_to_the_breaker_meanwhile() -> None:
    health, now = Health(), [0.0]
    plan = Plan(ALONE, CATALOGUE, health, lambda: 0.0, lambda: now[0])
    plan.begin()
    assert isinstance(plan.after(Outcome(Fate.STATUS, 429, 3.0)), Wait)
    now[0] = 3.0
    health.began(A, 3.0)
    health.ended(A, Outcome(Fate.STATUS, 429, 60.0), 3.0, 3.0)
    assert plan.go_on() == Try(A, AttemptKind.RETRY)


@pytest.mark.parametrize("failed", [0, 1])
def test_a_plan_that_is_given_up_leaves_nothing_in_flight(failed: int) -> None:
    health = Health()
    plan = Plan(ROUTE, CATALOGUE, health, lambda: 0.0, lambda: 0.0)
    plan.begin()
    for _ in range(failed):
        assert isinstance(plan.after(REFUSED), Try)
    assert sum(one.in_flight for one in health.standings(0.0)) == 1
    plan.close()
    assert sum(one.in_flight for one in health.standings(0.0)) == 0
    assert health.calm


def test_an_outcome_of_nothing_is_a_fault() -> None:
    plan = Plan(ALONE, CATALOGUE, Health(), lambda: 0.0, lambda: 0.0)
    with pytest.raises(RuntimeError, match="nothing is under way"):
        plan.after(OK)


OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(Fate),
    st.sampled_from((200, 400, 401, 403, 408, 409, 429, 500, 503, 529)),
    st.none() | st.floats(0, 100),
    st.booleans(),
)


@given(
    st.integers(1, 6),
    st.lists(OUTCOMES, min_size=6, max_size=6),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=40, max_size=40),
    st.floats(0, 30),
    st.booleans(),
)
def test_whatever_happens_the_rules_of_retrying_hold(
    most: int, script: list[Outcome], chances: list[float], took: float, pay_twice: bool
) -> None:
    terms = Terms(longest_seconds=8.0, total_seconds=60.0, pay_twice=pay_twice)
    drive = Drive(draws=iter(chances).__next__)
    last = drive.run(replace(ROUTE, max_attempts=most), script, terms, took)
    made = len(drive.tries)
    assert 1 <= made <= most
    assert last is script[made - 1]
    for outcome in script[: made - 1]:
        assert not outcome.answered
        assert retry_of(outcome) is not Retry.NOWHERE
        assert retry_of(outcome) is not Retry.COSTLY or pay_twice
    assert all(0 <= wait <= 8.0 for wait in drive.waits)
    assert len(drive.waits) < most
    assert all(drive.admitted)  # at first everything is well, so an open breaker is never used
    assert drive.kinds[0] is AttemptKind.TEACHER
    assert AttemptKind.TEACHER not in drive.kinds[1:]
    assert drive.now <= 60.0 + took
    assert all(standing.in_flight == 0 for standing in drive.health.standings(drive.now))


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.floats(0, 1, exclude_max=True))
def test_an_open_breaker_gets_the_first_call_only_where_all_are_open(
    shut: list[bool], chance: float
) -> None:
    health = Health()
    for one, is_shut in zip((A, B, C, D), shut, strict=True):
        if is_shut:
            health.began(one, 0.0)
            health.ended(one, Outcome(Fate.STATUS, 429, 30.0), 0.0, 0.0)
    drive = Drive(health, draws=lambda: chance)
    assert drive.run(ROUTE, [OK]) is OK
    assert drive.admitted == [not all(shut)]


def test_a_hedge_goes_to_another_deployment_that_is_well() -> None:
    route = replace(ROUTE, hedge_after_seconds=2.0)
    assert hedge(route, Health(), A, 0.0, 0.0) == Try(B, AttemptKind.HEDGE)
    health = Health()
    health.began(B, 0.0)
    health.ended(B, Outcome(Fate.STATUS, 429, 30.0), 0.0, 0.0)
    assert hedge(route, health, A, 0.0, 0.0) == Try(A, AttemptKind.HEDGE)


def test_hedging_is_off_unless_it_is_asked_for_and_two_calls_are_allowed() -> None:
    assert hedge(ROUTE, Health(), A, 0.0, 0.0) is None
    once = replace(ROUTE, hedge_after_seconds=2.0, max_attempts=1)
    assert hedge(once, Health(), A, 0.0, 0.0) is None
