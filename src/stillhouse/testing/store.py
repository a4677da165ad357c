"""What every store must do, whichever database stands behind it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stillhouse.core.money import Paid
from stillhouse.core.traffic import (
    Attempt,
    AttemptKind,
    Completion,
    Evidence,
    Exchange,
    Message,
    Request,
    Tags,
    Usage,
)
from stillhouse.testing.odd import ODD_TEXTS
from stillhouse.testing.store_entries import Opener, an_entry, count, keep, numbers, refused
from stillhouse.testing.store_serving import SERVING_CHECKS
from stillhouse.testing.store_work import check_append_only, check_live, check_workshop

_LARGEST = 2**63 - 1


def check_store(make: Callable[[], Opener]) -> None:
    """Check a store. Raises AssertionError.

    `make` prepares an empty place and gives the function that opens it.
    """
    for check in STORE_CHECKS:
        check(make())


def check_round_trip(opened: Opener) -> None:
    """What goes in comes out, odd texts too, also after the place was opened anew."""
    kept = []
    for n, odd in enumerate(ODD_TEXTS):
        name = f"{n:032x}"
        kept.append(
            Exchange(
                name,
                Request(
                    (Message("system", odd), Message("user", odd)),
                    tools=("refund", odd),
                    response_format=odd,
                ),
                Completion(odd, "refund", '{"n": 1}', "tool_calls"),
                (
                    Attempt(name, "m", at_us=n, ok=False),
                    Attempt(
                        f"{name}-2",
                        "n",
                        at_us=n + 1,
                        host="azure",
                        kind=AttemptKind.RETRY,
                        usage=Usage(*range(1, 13)),
                        latency_ms=0.1 + n,
                        reported_cost=Paid(_LARGEST, "EUR"),
                        service_tier="flex",
                        batch=True,
                        region="eu",
                        evidence=Evidence.ESTIMATED,
                    ),
                ),
                Tags("t", odd[:100], "c", "f", "eu"),
                {"note": odd},
            )
        )
    with opened() as store:
        keep(store, [(exchange, b"c", ()) for exchange in kept])
        found = list(store.exchanges())
    with opened() as store:
        again = list(store.exchanges())
    for exchange, one, other in zip(kept, found, again, strict=True):
        assert one == other == exchange, f"{exchange} came back as {one}, and later as {other}"


def check_idempotence(opened: Opener) -> None:
    """An exchange is kept once, however often it comes; an id that is taken is reported."""
    with opened() as store:
        assert keep(store, [an_entry(n) for n in (1, 2, 2)]) == (2, 1, ())
        assert keep(store, [an_entry(n) for n in range(1, 1200)], 7) == (1197, 2, ())
        other = an_entry(2, content=b"other", asked="other")
        assert keep(store, [an_entry(2000), other, an_entry(2000)], 8) == (1, 1, (1,))
        assert numbers(store.exchanges()) == [*range(1, 1200), 2000]
        asked = {exchange.request.messages[-1].text for exchange in store.exchanges()}
        assert asked == {"hello"}, "an exchange of other content was kept under a taken id"
        assert count(store, "charges") == count(store, "attempts") == 1200


def check_whole_or_nothing(opened: Opener) -> None:
    """A batch that fails leaves neither rows nor a place, and the next one is kept."""
    with opened() as store:
        keep(store, [an_entry(1)], 1)
        broken = [an_entry(2, model="new"), an_entry(3, price_id="unknown")]
        refused(lambda: keep(store, broken, 3), "a charge by a price that nobody named")
        refused(lambda: keep(store, [an_entry(4, billed=_LARGEST + 1)], 4), "a cost of 65 bits")
        assert numbers(store.exchanges()) == [1]
        assert count(store, "routes") == 1
        assert store.import_state("log").position == (10, 1)
        assert keep(store, [an_entry(2, model="new"), an_entry(3)], 3) == (2, 0, ())
        models = [exchange.attempts[0].model for exchange in store.exchanges()]
        assert models == ["m", "new", "m"], "a row number of an undone step was used again"


def check_resuming(opened: Opener) -> None:
    """An import is taken up where its last batch ended; a finished one counts anew."""
    digests = [bytes([n]) for n in range(200)]

    def after(store: Any, counts: dict[bytes, int], *, finished: bool = False) -> dict[bytes, int]:
        store.add_batch(
            [], {}, fingerprint="log", position=(9, 1), occurrences=counts, finished=finished
        )
        found: dict[bytes, int] = store.occurrences("log", digests)
        return found

    with opened() as store:
        assert store.import_state("log") is None
        keep(store, [an_entry(1)], 1)
        assert after(store, {b"\1": 1}) == {b"\1": 1}
        assert after(store, {b"\1": 3, b"\2": 1}) == {b"\1": 3, b"\2": 1}
    with opened() as store:
        state = store.import_state("log")
        assert (state.position, state.new, state.duplicates) == ((9, 1), 1, 0)
        assert not state.finished
        assert store.occurrences("another", digests) == {}
        assert after(store, {}, finished=True) == {}
        assert store.import_state("log").finished
        keep(store, [an_entry(1)], 1)
        assert (store.import_state("log").new, store.import_state("log").duplicates) == (0, 1)


def check_one_importer(opened: Opener) -> None:
    """One process imports at a time, and lets go when it ends, also by a failure."""
    with opened() as first, opened() as second:
        with first.importing():
            sentence = refused(lambda: second.importing().__enter__(), "a second importer")
            assert "another process is importing" in sentence
        try:
            with second.importing():
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        with first.importing():
            keep(first, [an_entry(1)])


def check_two_writers(opened: Opener) -> None:
    """Writers at the same time wait for each other; what both bring is kept once."""

    def write(first: int) -> int:
        with opened() as store:
            batches = ([an_entry(first + 10 * k + i) for i in range(20)] for k in range(20))
            return sum(keep(store, batch)[0] for batch in batches)

    with opened() as store, ThreadPoolExecutor(3) as pool:
        new = sum(pool.map(write, (0, 50, 100)))
        found = numbers(store.exchanges())
        assert new == len(found) == len(set(found)) == 310, f"{new} new, {len(found)} kept"
        assert count(store, "attempts") == count(store, "charges") == 310
        ((models,),) = store.database.rows("SELECT count(*) FROM routes")
        assert models == 1, "what repeats was stored more than once"


def check_reading(opened: Opener) -> None:
    """Exchanges come in time order and through filters, while others are read and written."""
    times = {1: 30, 2: 10, 3: None, 4: 20, 5: 10}
    with opened() as store:
        found = store.exchanges()
        assert list(found) == []
        keep(store, [an_entry(n, at_us=at, model=f"m{n % 2}") for n, at in times.items()])
        assert numbers(found) == numbers(found) == [3, 2, 5, 4, 1]
        assert numbers(store.exchanges(model="m1")) == [3, 5, 1]
        assert numbers(store.exchanges(since_us=20)) == [4, 1]
        assert numbers(store.exchanges(until_us=20)) == [2, 5]
        assert numbers(store.exchanges(since_us=10, until_us=30, model="m0")) == [2, 4]
        keep(store, [an_entry(n, at_us=n) for n in range(100, 3000)])
        reading = iter(store.exchanges(since_us=100))
        begun = [next(reading) for _ in range(10)]
        keep(store, [an_entry(4000, at_us=None)])
        assert numbers(store.exchanges())[:2] == [3, 4000]
        assert numbers([*begun, *reading]) == list(range(100, 3000))
        for _ in range(20):
            next(iter(store.exchanges()))
        assert keep(store, [an_entry(4001)]) == (1, 0, ())


def check_sums(opened: Opener) -> None:
    """Sums of the books are exact beyond 64 bits; what has no price is counted and not summed."""
    with opened() as store:
        costs = [_LARGEST, _LARGEST - 1, 7, None, 3]
        keep(store, [an_entry(n, at_us=n, billed=cost) for n, cost in enumerate(costs)])
        for by in ("model", "day", "task", "team", "customer", "feature"):
            groups = list(store.spend(by))
            total = sum(group.billed_pico for group in groups)
            assert total == 2 * _LARGEST + 9, f"by {by} the sum is {total}"
            assert all(type(group.billed_pico) is int for group in groups)
            assert sum(group.n_unpriced for group in groups) == 1
            assert sum(group.unpriced_tokens for group in groups) == 10
            assert groups[0].tokens == {"input_tokens": 50, "output_tokens": 10}
            assert groups[0].evidence is Evidence.DERIVED
        (first, *_) = store.database.rows(
            "SELECT exchange_id, at_utc, model, leaf, billed, price_id FROM books ORDER BY 1"
        )
        assert first[:4] == ("0" * 32, "1970-01-01 00:00:00", "m", "input_tokens")
        assert (float(first[4]), first[5]) == (_LARGEST / 1e12, "p1")


STORE_CHECKS: tuple[Callable[[Opener], None], ...] = (
    check_round_trip,
    check_idempotence,
    check_whole_or_nothing,
    check_resuming,
    check_one_importer,
    check_two_writers,
    check_reading,
    check_sums,
    check_workshop,
    check_live,
    check_append_only,
    *SERVING_CHECKS,
)
"""Each of what `check_store` checks, for a test runner that wants to name them."""
