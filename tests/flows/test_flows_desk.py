from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import ConfigError, StoreError
from stillhouse.core.quotas import (
    Alert,
    Denied,
    Draw,
    Hold,
    Need,
    Quota,
    Scope,
    Standing,
    Unit,
    Window,
)
from stillhouse.core.traffic import Tags
from stillhouse.flows.desk import LeasingDesk
from stillhouse.ledger.quotas import used_of
from stillhouse.store.access import Access

RED = Tags(team="red")
BUDGET = Quota(Scope.TEAM, "red", Unit.COST, Window.DAY, 1000)
COUNTER = "team:red:cost:day:hard@1793232000"
NOON_US = 1_793_275_200_000_000


class Clock:
    """A scripted instant."""

    def __init__(self) -> None:
        self.now_us = NOON_US

    def __call__(self) -> int:
        return self.now_us


class Flaky:
    """The real counters behind a line that can be cut, before or after a step is done."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.down = False
        self.loses_answers = False
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()

    def draw(
        self,
        worker: str,
        turn: int,
        at_us: int,
        draws: Sequence[Draw],
        rule: Callable[[Draw, Standing, int], Standing],
    ) -> list[Standing]:
        self.gate.wait()
        if self.down:
            raise StoreError("the line is cut")
        self.asked += 1
        stood = self._access.draw(worker, turn, at_us, draws, rule)
        if self.loses_answers:
            self.loses_answers = False
            raise StoreError("the answer was lost")
        return stood

    def recalled(self, worker: str, since_us: int) -> list[str]:
        if self.down:
            raise StoreError("the line is cut")
        return self._access.recalled(worker, since_us)

    def leave(self, worker: str) -> None:
        if self.down:
            raise StoreError("the line is cut")
        self._access.leave(worker)


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    with Access(tmp_path / "s.db.access") as opened:
        yield opened


def desk_of(access: Any, *quotas: Quota, worker: str = "w1", **more: Any) -> LeasingDesk:
    desk = LeasingDesk(access, worker, more.pop("clock", Clock()), **more)
    desk.replace(quotas, {})
    return desk


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def got(desk: LeasingDesk, cost: int | None, tags: Tags = RED, **more: Any) -> Hold:
    held = await desk.hold("k1", tags, "gpt-5", Need(cost, 10, **more))
    assert isinstance(held, Hold), held
    return held


async def refused(desk: LeasingDesk, cost: int | None, tags: Tags = RED) -> Denied:
    denied = await desk.hold("k1", tags, "gpt-5", Need(cost, 10))
    assert isinstance(denied, Denied), denied
    return denied


def test_without_quotas_nothing_is_held_and_no_store_is_asked() -> None:
    desk = LeasingDesk(None, "w1", Clock())  # type: ignore[arg-type]
    assert desk.try_hold("k1", RED, "gpt-5", Need(None, 10)) == Hold((), ())


def test_a_call_is_held_out_of_a_lease_and_settled_by_what_it_used(access: Access) -> None:
    async def story() -> None:
        async with desk_of(access, BUDGET) as desk:
            assert desk.try_hold("k1", RED, "gpt-5", Need(100, 10)) is None
            held = await got(desk, 100)
            assert held == Hold((COUNTER,), (100,))
            desk.settle(held, 40, 10)
            assert desk.try_hold("k1", RED, "gpt-5", Need(60, 10)) is not None
            desk.settle(Hold((COUNTER,), (60,)), 60, 10)

    run(story())
    assert access.counters() == {COUNTER: Standing(1000, spent=100)}
    assert access.workers() == {}


def test_a_call_that_one_quota_refuses_holds_nothing_of_the_others(access: Access) -> None:
    async def story() -> None:
        twice = Quota(Scope.TEAM, "red", Unit.REQUESTS, Window.DAY, 2)
        async with desk_of(access, twice, BUDGET) as desk:
            desk.settle(await got(desk, 300), 300, 10)
            for _ in range(3):
                await refused(desk, 900)
            desk.settle(await got(desk, 700), 700, 10)

    run(story())


def test_a_call_of_another_team_is_held_by_nothing(access: Access) -> None:
    async def story() -> None:
        async with desk_of(access, BUDGET) as desk:
            assert desk.try_hold("k1", Tags(team="blue"), "gpt-5", Need(5000, 1)) == Hold((), ())

    run(story())


def test_a_spent_budget_refuses_and_says_which_and_until_when(access: Access) -> None:
    async def story() -> None:
        async with desk_of(access, BUDGET) as desk:
            desk.settle(await got(desk, 1000), 1000, 10)
            denied = await refused(desk, 10)
            assert denied.quota == BUDGET
            assert "for team 'red'" in denied.sentence
            too_much = await refused(desk, 1001)
            assert too_much.retry_after_seconds is None

    run(story())


def test_once_the_spending_is_said_the_refusal_lasts_until_the_window_ends(access: Access) -> None:
    async def story() -> None:
        async with desk_of(access, BUDGET) as desk:
            desk.settle(await got(desk, 1000), 1000, 10)
        async with desk_of(access, BUDGET, worker="w2") as later:
            assert (await refused(later, 10)).retry_after_seconds == 43200

    run(story())


def test_a_new_window_begins_with_the_whole_limit(access: Access) -> None:
    async def story() -> None:
        clock = Clock()
        async with desk_of(access, BUDGET, clock=clock) as desk:
            late = await got(desk, 900)
            clock.now_us += 12 * 3600 * 10**6
            desk.settle(await got(desk, 900), 900, 10)
            desk.settle(late, 800, 10)

    run(story())
    today, tomorrow = access.counters().values()
    assert (today.spent, today.leased, tomorrow.spent, tomorrow.leased) == (800, 0, 900, 0)


def test_calls_that_cost_nothing_pass_though_the_budget_is_spent(access: Access) -> None:
    async def story() -> None:
        async with desk_of(access, BUDGET) as desk:
            desk.settle(await got(desk, 1000), 1200, 10)
            desk.settle(await got(desk, 0), 0, 10)

    run(story())
    assert access.counters()[COUNTER] == Standing(1000, spent=1200, over=200)


def test_an_unpriced_call_is_refused_under_a_budget_unless_it_is_allowed(access: Access) -> None:
    async def story() -> None:
        async with desk_of(access, BUDGET) as desk:
            assert "no price is known" in (await refused(desk, None)).sentence
            held = await got(desk, None, allow_unpriced=True)
            assert held.amounts == (0,)
            desk.settle(held, 0, 10)

    run(story())


def test_an_unpriced_call_passes_where_only_tokens_and_requests_are_counted(access: Access) -> None:
    async def story() -> None:
        tokens = Quota(Scope.KEY, "*", Unit.TOKENS, Window.MINUTE, 15)
        requests = Quota(Scope.KEY, "*", Unit.REQUESTS, Window.HOUR, 9)
        async with desk_of(access, tokens, requests) as desk:
            held = await got(desk, None)
            assert held.amounts == (10, 1)
            desk.settle(held, 0, 7)
            assert (await refused(desk, None)).quota == tokens

    run(story())
    assert [standing.spent for standing in access.counters().values()] == [1, 7]


def test_concurrent_calls_are_counted_while_they_run(access: Access) -> None:
    async def story() -> None:
        places = Quota(Scope.MODEL, "gpt-5", Unit.CONCURRENT, Window.NOW, 2)
        async with desk_of(access, places) as desk:
            first, second = await got(desk, 1), await got(desk, 1)
            assert (await refused(desk, 1)).retry_after_seconds == 1.0
            desk.settle(first, 1, 1)
            third = await got(desk, 1)
            for held in (second, third):
                desk.settle(held, 1, 1)

    run(story())


def test_a_request_that_is_given_back_may_be_made_again_and_was_none(access: Access) -> None:
    async def story() -> None:
        rate = Quota(Scope.TEAM, "red", Unit.REQUESTS, Window.DAY, 1)
        seen = Quota(Scope.TEAM, "red", Unit.REQUESTS, Window.DAY, 9, soft=True)
        async with desk_of(access, rate, seen) as desk:
            for _ in range(3):
                desk.release(await got(desk, 1))
            desk.settle(await got(desk, 1), 1, 1)
            assert isinstance(await desk.hold("k1", RED, "gpt-5", Need(1, 10)), Denied)

    run(story())
    assert [(one.spent, one.leased) for one in access.counters().values()] == [(1, 0), (1, 0)]


def test_a_call_that_can_never_fit_is_told_so_whatever_else_is_used_up(access: Access) -> None:
    async def story() -> None:
        rate = Quota(Scope.TEAM, "red", Unit.REQUESTS, Window.DAY, 1)
        for order in ((rate, BUDGET), (BUDGET, rate)):
            async with desk_of(access, *order, worker=f"w{order.index(rate)}") as desk:
                if order[0] is rate:
                    desk.settle(await got(desk, 1), 1, 1)
                assert (await refused(desk, 1)).retry_after_seconds is not None
                denied = await refused(desk, 1001)
                assert (denied.quota, denied.retry_after_seconds) == (BUDGET, None)
                assert "smaller than this call alone" in denied.sentence
                assert "ask again" not in denied.sentence

    run(story())


def test_idle_leases_of_another_worker_come_back_when_they_are_needed(access: Access) -> None:
    async def story() -> None:
        async with (
            desk_of(access, BUDGET, worker="w1") as one,
            desk_of(access, BUDGET, worker="w2") as other,
        ):
            held = await got(one, 900)
            one.settle(held, 100, 10)
            desk_holds = await got(other, 900)
            other.settle(desk_holds, 900, 10)
            await refused(one, 1)

    run(story())
    assert access.counters()[COUNTER].spent == 1000


def test_two_workers_with_half_of_the_rest_each_do_not_block_one_another(access: Access) -> None:
    async def story() -> None:
        async with (
            desk_of(access, BUDGET, worker="w1") as one,
            desk_of(access, BUDGET, worker="w2") as other,
        ):
            for desk in (one, other):
                desk.settle(await got(desk, 500), 0, 10)
            answers = await asyncio.gather(
                *(desk.hold("k1", RED, "gpt-5", Need(800, 1)) for desk in (one, other))
            )
            assert sorted(type(answer).__name__ for answer in answers) == ["Denied", "Hold"]
            for desk, answer in zip((one, other), answers, strict=True):
                if isinstance(answer, Hold):
                    desk.settle(answer, 800, 1)

    run(story())
    assert access.counters()[COUNTER].spent == 800


def test_while_the_store_is_away_leases_in_hand_go_on_and_then_calls_are_refused(
    access: Access,
) -> None:
    async def story() -> None:
        line = Flaky(access)
        async with desk_of(line, BUDGET) as desk:
            desk.settle(await got(desk, 100), 0, 10)
            line.down = True
            held = await got(desk, 60)
            denied = await refused(desk, 60)
            assert "cannot be checked" in denied.sentence
            assert desk.store_is_down
            desk.settle(held, 60, 10)
            line.down = False

    run(story())
    assert access.counters()[COUNTER] == Standing(1000, spent=60)


def test_a_desk_that_is_told_to_allows_calls_without_the_store_and_counts_them(
    access: Access,
) -> None:
    async def story() -> None:
        line = Flaky(access)
        line.down = True
        async with desk_of(line, BUDGET, when_store_is_down="allow") as desk:
            for _ in range(3):
                desk.settle(await got(desk, 400), 400, 10)
            line.down = False

    run(story())
    assert access.counters()[COUNTER].spent == 1200


def test_an_answer_that_was_lost_is_asked_for_again_and_nothing_is_counted_twice(
    access: Access,
) -> None:
    async def story() -> None:
        line = Flaky(access)
        async with desk_of(line, BUDGET) as desk:
            desk.settle(await got(desk, 100), 70, 10)
            line.loses_answers = True
        assert not line.loses_answers

    run(story())
    assert access.counters()[COUNTER] == Standing(1000, spent=70)


def test_use_that_the_store_never_heard_of_stays_counted_as_leased(access: Access) -> None:
    async def story() -> None:
        line = Flaky(access)
        async with desk_of(line, BUDGET) as desk:
            held = await got(desk, 100)
            line.down = True
            desk.settle(held, 70, 10)

    run(story())
    assert access.counters()[COUNTER] == Standing(1000, leased=100)
    access.recover("w1", {COUNTER: 70})
    assert access.counters()[COUNTER] == Standing(1000, spent=70)


def test_a_soft_quota_refuses_nothing_and_alerts_once_for_each_share(access: Access) -> None:
    told: list[Alert] = []
    soft = Quota(Scope.TEAM, "red", Unit.COST, Window.DAY, 1000, soft=True)

    async def story(worker: str) -> None:
        async with desk_of(access, soft, worker=worker, alerts=told.append) as desk:
            desk.settle(await got(desk, 5000), 600, 10)
            desk.settle(await got(desk, None), 0, 10)

    for worker in ("w1", "w2", "w3"):
        run(story(worker))
    assert [(alert.percent, alert.spent) for alert in told] == [(100, 1200)]
    assert access.counters()[told[0].counter].spent == 1800


def test_a_caller_that_leaves_while_it_waits_holds_nothing(access: Access) -> None:
    async def story() -> None:
        line = Flaky(access)
        async with desk_of(line, BUDGET) as desk:
            line.gate.clear()
            waiting = asyncio.create_task(desk.hold("k1", RED, "gpt-5", Need(1000, 1)))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            line.gate.set()
            desk.settle(await got(desk, 1000), 1000, 1)

    run(story())


def test_a_limit_that_is_changed_holds_for_the_next_call(access: Access) -> None:
    async def story() -> None:
        async with desk_of(access, BUDGET) as desk:
            desk.settle(await got(desk, 1000), 1000, 1)
            desk.replace((Quota(Scope.TEAM, "red", Unit.COST, Window.DAY, 1500),), {})
            desk.settle(await got(desk, 500), 500, 1)
            desk.replace((), {"k1": (Quota(Scope.KEY, "", Unit.REQUESTS, Window.DAY, 1),)})
            desk.settle(await got(desk, 9999), 1, 1)
            assert "key 'k1'" in (await refused(desk, 1)).sentence
            with pytest.raises(ConfigError):
                desk.replace((Quota(Scope.TEAM, "x", Unit.COST, Window.NOW, 1),), {})

    run(story())


@settings(max_examples=25)
@given(
    limit=st.integers(0, 400),
    calls=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 90), st.floats(0, 1)), max_size=25),
)
def test_two_desks_never_pass_the_cap_and_waste_no_more_than_one_call(
    limit: int, calls: list[tuple[int, int, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    cap = Quota(Scope.EVERYBODY, "", Unit.COST, Window.TOTAL, limit)
    path = tmp_path_factory.mktemp("quotas") / "s.access"
    spent = 0

    async def story(access: Access) -> None:
        nonlocal spent
        desks = [desk_of(access, cap, worker=name) for name in ("w1", "w2")]
        async with desks[0], desks[1]:

            async def call(who: int, most: int, share: float) -> int:
                held = await desks[who].hold("k", Tags(), "m", Need(most, 1))
                if isinstance(held, Denied):
                    return most
                await asyncio.sleep(0)
                used = int(most * share)
                desks[who].settle(held, used, 1)
                nonlocal spent
                spent += used
                return 0

            wanted = await asyncio.gather(*(call(*one) for one in calls))
            smallest = min(filter(None, wanted), default=None)
        counted = sum(standing.spent for standing in access.counters().values())
        assert counted == spent <= limit
        if smallest is not None and smallest <= limit - spent:
            async with desk_of(access, cap, worker="w3") as last:
                last.settle(await got(last, smallest, Tags()), 0, 1)

    with Access(path) as access:
        run(story(access))


def test_what_a_journal_claims_adds_up_to_what_the_counters_say(access: Access) -> None:
    quotas = [
        Quota(Scope.TEAM, "*", unit, window, 10**9)
        for unit, window in (
            (Unit.COST, Window.MONTH),
            (Unit.TOKENS, Window.MINUTE),
            (Unit.REQUESTS, Window.TOTAL),
            (Unit.CONCURRENT, Window.NOW),
        )
    ]
    journal: dict[str, int] = {}

    async def story() -> None:
        async with desk_of(access, *quotas) as desk:
            for cost, tokens in ((5, 3), (70, 8), (0, 0)):
                held = await got(desk, 100)
                desk.settle(held, cost, tokens)
                for name in held.counters:
                    journal[name] = journal.get(name, 0) + used_of(name, cost, tokens)

    run(story())
    assert journal == {name: standing.spent for name, standing in access.counters().items()}
    assert sorted(journal.values()) == [0, 3, 11, 75]


def test_what_was_bought_elsewhere_counts_beyond_what_is_left_and_refuses_what_follows(
    access: Access,
) -> None:
    quotas = (
        BUDGET,
        Quota(Scope.TEAM, "red", Unit.TOKENS, Window.DAY, 10**6),
        Quota(Scope.TEAM, "red", Unit.TOKENS, Window.HOUR, 10**6),
        Quota(Scope.TEAM, "red", Unit.REQUESTS, Window.DAY, 1),
        Quota(Scope.TEAM, "red", Unit.CONCURRENT, Window.NOW, 1),
    )

    async def story() -> None:
        async with desk_of(access, *quotas) as desk:
            for _ in range(3):
                desk.settle(desk.unreserved("k1", RED, "gpt-5"), 700, 50)
            nothing = desk.unreserved("k1", RED, "gpt-5")
            desk.settle(nothing, 0, 0)
            assert (await refused(desk, 1)).quota == BUDGET
        assert desk.unreserved("k1", Tags(team="blue"), "gpt-5") == Hold((), ())

    run(story())
    stood = {name.partition("@")[0]: standing for name, standing in access.counters().items()}
    assert stood["team:red:cost:day:hard"] == Standing(1000, spent=2100, over=2100)
    assert stood["team:red:tokens:day:hard"].spent == 150
    idle = ("team:red:tokens:hour:hard", "team:red:requests:day:hard")
    assert [stood.get(name, Standing(0)).spent for name in idle] == [0, 0]


def test_without_quotas_nothing_that_was_bought_elsewhere_counts() -> None:
    desk = LeasingDesk(None, "w1", Clock())  # type: ignore[arg-type]
    assert desk.unreserved("k1", RED, "gpt-5") == Hold((), ())
