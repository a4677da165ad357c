from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import AnswerShape, Task
from stillhouse.core.money import Paid
from stillhouse.core.traffic import (
    Attempt,
    Completion,
    Evidence,
    Exchange,
    Message,
    Request,
    Tags,
    Usage,
    weakest,
)
from stillhouse.ledger.report import SpendSum, spend_report
from stillhouse.store.recording import Entry
from stillhouse.store.spending import GROUPINGS
from stillhouse.store.sqlite import SqliteStore

DAY_US = 86_400_000_000
FIELD_KEYS: dict[str, Callable[[Exchange], str]] = {
    "model": lambda e: e.attempts[0].model,
    "day": lambda e: "" if e.at_us is None else ("1970-01-01", "1970-01-02")[e.at_us // DAY_US],
    "task": lambda e: e.tags.task,
    "team": lambda e: e.tags.team,
    "customer": lambda e: e.tags.customer,
    "feature": lambda e: e.tags.feature,
    **dict.fromkeys(("key", "upstream", "fate"), lambda e: ""),
}


def booked(n: int, exchange: Exchange, costs: list[int | None]) -> Entry:
    """An entry with one charge a leaf; a cost of None is unpriced."""
    leaves = ("input_tokens", "output_tokens", "web_searches")
    charges = tuple(
        Charge(
            f"{exchange.exchange_id}:{leaf}",
            exchange.exchange_id,
            leaf,
            10,
            "tokens" if leaf.endswith("_tokens") else leaf,
            None if cost is None else Paid(cost),
            CostSource.UNPRICED if cost is None else CostSource.COMPUTED,
            exchange.attempts[0].evidence,
        )
        for leaf, cost in zip(leaves, costs, strict=False)
    )
    return exchange, n.to_bytes(4, "big"), charges


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    names = st.sampled_from(["", "a", "b"])
    pico = st.integers(0, 3 * 10**18)
    found = []
    for n in range(draw(st.integers(0, 12))):
        name = f"{n:032x}"
        attempt = Attempt(
            name,
            draw(names),
            at_us=draw(st.none() | st.integers(0, 2 * DAY_US - 1)),
            usage=draw(st.none() | st.builds(Usage, st.integers(0, 99), output_tokens=st.just(3))),
            reported_cost=draw(st.none() | pico.map(Paid)),
            evidence=draw(st.sampled_from(Evidence)),
        )
        tags = Tags(*(draw(names) for _ in range(4)))
        exchange = Exchange(name, Request((Message("user", "q"),)), Completion(), (attempt,), tags)
        costs = draw(st.lists(st.none() | pico, min_size=1, max_size=3))
        found.append(booked(n, exchange, costs))
    return found


def summed(kept: list[Entry], key: Callable[[Exchange], str]) -> dict[str, SpendSum]:
    """The same sums by the plainest means, row by row."""
    sums: dict[str, SpendSum] = {}
    for exchange, _, charges in kept:
        (attempt,) = exchange.attempts
        costs = [c.billed.pico for c in charges if c.billed is not None]
        priced = len(costs) == len(charges)
        reported = attempt.reported_cost
        both = priced and reported is not None
        old = sums.get(key(exchange), SpendSum(key(exchange), 0, evidence=Evidence.REPORTED))
        tokens = dict(old.tokens)
        for leaf, n in attempt.usage.leaves().items() if attempt.usage else ():
            tokens[leaf] = tokens.get(leaf, 0) + n
        sums[old.key] = SpendSum(
            key=old.key,
            n_requests=old.n_requests + 1,
            n_unpriced=old.n_unpriced + (not priced),
            billed_pico=old.billed_pico + (sum(costs) if priced else 0),
            n_reported=old.n_reported + (reported is not None),
            reported_pico=old.reported_pico + (reported.pico if reported else 0),
            tokens=tokens,
            unpriced_tokens=old.unpriced_tokens
            + sum(c.quantity for c in charges if c.billed is None and c.unit == "tokens"),
            evidence=weakest(old.evidence, attempt.evidence),
            n_both=old.n_both + both,
            both_billed_pico=old.both_billed_pico + (sum(costs) if both else 0),
            both_reported_pico=old.both_reported_pico
            + (reported.pico if reported is not None and both else 0),
        )
    return sums


@settings(max_examples=40, deadline=None)
@given(kept=entries())
def test_grouped_sums_equal_the_sums_over_the_rows_to_the_last_pico(
    tmp_path_factory: pytest.TempPathFactory, kept: list[Entry]
) -> None:
    with SqliteStore(tmp_path_factory.mktemp("store") / "some.db") as store:
        store.add_batch(kept, {}, fingerprint="log", position=(0, 0))
        for by in GROUPINGS:
            found = spend_report((SpendSum(**g._asdict()) for g in store.spend(by)), by)
            assert found == spend_report(summed(kept, FIELD_KEYS[by]).values(), by)


def test_an_assigned_task_wins_over_none_and_a_tag_stands_in(tmp_path: Path) -> None:
    def tagged(n: int, tag: str) -> Entry:
        name = f"{n:032x}"
        request = Request((Message("user", "q"),))
        attempt = Attempt(name, "m")
        return booked(n, Exchange(name, request, Completion(), (attempt,), Tags(task=tag)), [n])

    with SqliteStore(tmp_path / "some.db") as store:
        kept = [tagged(1, ""), tagged(2, "mine"), tagged(4, "mine")]
        store.add_batch(kept, {}, fingerprint="log", position=(0, 0))
        found = Task("found", "s", AnswerShape.LABELS, "t")
        store.save_tasks([found], [(f"{n:032x}", "found", "q") for n in (1, 4)])
        spent = {group.key: group.billed_pico for group in store.spend("task")}
    assert spent == {"found": 5, "mine": 2}


def test_an_unknown_grouping_is_said(tmp_path: Path) -> None:
    with (
        SqliteStore(tmp_path / "some.db") as store,
        pytest.raises(CallerError, match="spend by 'moon' is unknown; group by one of model, day"),
    ):
        list(store.spend("moon"))
