from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.calls import Ended, Entry, Fate, Started
from stillhouse.core.errors import StoreError
from stillhouse.core.serving import Consultation
from stillhouse.core.traffic import (
    Attempt,
    AttemptKind,
    Completion,
    Evidence,
    Message,
    Request,
    Tags,
    Usage,
)
from stillhouse.flows import fold
from stillhouse.flows.fold import Folder, fold_forever
from stillhouse.flows.fold_making import LiveEntry, Making
from stillhouse.flows.fold_ports import Place
from stillhouse.flows.price_facts import facts_of
from stillhouse.flows.verify import Audit, verify
from stillhouse.ledger.charging import charge, nothing_bought
from stillhouse.ledger.prices import Price
from stillhouse.store.journal import JournalWriter
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.store.recording_live import LiveOutcome
from stillhouse.store.sqlite import SqliteStore

PRICE = Price("acme", "m", {"input_tokens": 3 * 10**12, "output_tokens": 5 * 10**12})
LATER = Price("acme", "m", {"input_tokens": 4 * 10**12})
GUESS = Usage(input_tokens=1000, output_tokens=9)


def read_bodies(started: Started, ended: Ended) -> tuple[Request, Completion]:
    asked = orjson.loads(started.asked)
    answer = orjson.loads(ended.answer) if ended.answer else ""
    return Request((Message("user", asked),)), Completion(answer)


MAKING = Making(lambda started: GUESS, {LATER.price_id: LATER}.get, read_bodies)


def started(exchange: str, nth: int = 1, *, asked: str = '"hi"', price: Price = PRICE) -> Started:
    attempt_id = exchange if nth == 1 else f"{exchange}-{nth}"
    kind = AttemptKind.TEACHER if nth == 1 else AttemptKind.RETRY
    attempt = Attempt(attempt_id, "m", at_us=1_000_000 + nth, host="acme", kind=kind)
    tags = Tags(team="cards")
    return Started(exchange, attempt, "chat", "acme", tags, "k", price.price_id, asked)


def ended(of: Started, *, tokens: int = 7, last: bool = True, ok: bool = True) -> Ended:
    attempt = of.attempt._replace(usage=Usage(input_tokens=tokens, output_tokens=2), ok=ok)
    price = PRICE if of.price_id == PRICE.price_id else LATER
    body = f'{{"prompt_tokens": {tokens}, "completion_tokens": 2}}'
    return Ended(
        of.exchange_id,
        attempt,
        charge(attempt, price),
        Fate.OK if ok else Fate.DROPPED,
        200,
        usage_body=body,
        answer='"fine"',
        last=last,
    )


def writer(folder: Path, worker: str = "w0", at: int = 1, **settings: int) -> JournalWriter:
    facts = {PRICE.price_id: facts_of(PRICE)}
    return JournalWriter(
        folder, worker, started_us=at, durability="process", price_facts=facts.get, **settings
    )


def name(n: int) -> str:
    return f"{n:032x}"


def told(store: SqliteStore) -> dict[str, Counter[tuple[str, str, int]]]:
    """The books as: exchange, to its attempts with their fates and costs."""
    found: dict[str, Counter[tuple[str, str, int]]] = {}
    for booked in store.booked():
        cost = sum(c.billed.pico for c in booked.charges if c.billed is not None)
        attempt_id = booked.attempt.attempt_id
        facts = (attempt_id, booked.fate, cost)
        found.setdefault(attempt_id.partition("-")[0], Counter())[facts] += 1
    return found


def cost(of: Ended) -> int:
    return sum(c.billed.pico for c in of.charges if c.billed is not None)


def check(store: SqliteStore) -> None:
    """What every test's books have to stand."""
    assert list(verify(store, Audit())) == []
    (total,) = store._database.rows("SELECT count(*) FROM attempt_facts")
    assert total == (store.n_attempts(),)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "some.db") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_an_exchange_is_booked_once_its_last_entry_is_read(
    store: SqliteStore, folder: Path
) -> None:
    journal = writer(folder)
    folding = Folder(JournalFolder(folder), store, MAKING)
    first = started(name(1))
    journal.append(first)
    assert folding.fold_once(2_000_000).open == 1
    assert list(store.exchanges()) == []
    journal.append(ended(first, ok=False, last=False))
    assert folding.fold_once(2_000_000).open == 1
    second = started(name(1), 2, asked="")
    journal.append(second)
    journal.append(ended(second))
    status = folding.fold_once(2_000_000)
    assert (status.open, status.totals.new, status.lag_bytes, status.lag_seconds) == (0, 1, 0, 0.0)
    (kept,) = store.exchanges()
    assert kept.request.messages == (Message("user", "hi"),)
    assert kept.completion.text == "fine"
    assert kept.tags == Tags(team="cards")
    assert [a.attempt_id for a in kept.attempts] == [name(1), f"{name(1)}-2"]
    journal.close()
    folding.fold_once(3_000_000)
    assert [path.name for path in folder.iterdir()] == ["fold.json"]
    noted = orjson.loads((folder / "fold.json").read_bytes())
    assert (noted["at_us"], noted["totals"]["new"], noted["error"]) == (3_000_000, 1, "")
    check(store)


def test_a_hedge_that_ends_after_the_answer_is_waited_for(store: SqliteStore, folder: Path) -> None:
    journal = writer(folder)
    folding = Folder(JournalFolder(folder), store, MAKING)
    first, hedge = started(name(1)), started(name(1), 2)
    for entry in (first, hedge, ended(hedge)):
        journal.append(entry)
    assert folding.fold_once(0).totals.new == 0
    journal.append(ended(first, last=False, ok=False))
    assert folding.fold_once(0).totals.new == 1
    assert [len(e.attempts) for e in store.exchanges()] == [2]
    journal.close()


def test_what_a_dead_worker_left_open_is_booked_as_interrupted_and_estimated(
    store: SqliteStore, folder: Path
) -> None:
    journal = writer(folder)
    failed, cut = started(name(1)), started(name(1), 2, asked="")
    for entry in (failed, ended(failed, ok=False, last=False), cut):
        journal.append(entry)
    journal.append(started(name(2), price=LATER))
    journal.append(started(name(3), price=replace(PRICE, model="nobody's")))
    folding = Folder(JournalFolder(folder), store, MAKING)
    folding.fold_once(0)
    assert list(store.exchanges()) == []
    journal.close()
    status = folding.fold_once(0)
    assert (status.totals.new, status.totals.interrupted, status.open) == (3, 3, 0)
    booked = {b.attempt.attempt_id: b for b in store.booked()}
    one = booked[f"{name(1)}-2"]
    assert (one.fate, one.attempt.usage, one.attempt.ok) == ("interrupted", GUESS, False)
    assert [(c.billed, c.evidence) for c in one.charges] == [
        (c.billed, Evidence.ESTIMATED) for c in charge(one.attempt, PRICE)
    ]
    by_leaf = {c.leaf: c.billed for c in booked[name(2)].charges}
    assert by_leaf["output_tokens"] is None
    assert by_leaf["input_tokens"] is not None
    assert all(c.billed is None for c in booked[name(3)].charges)
    assert booked[name(1)].fate == "dropped"
    check(store)


@pytest.mark.parametrize("kind", [AttemptKind.CACHE, AttemptKind.STUDENT])
def test_an_answer_of_the_house_that_a_death_cut_off_has_cost_nothing(
    store: SqliteStore, folder: Path, kind: AttemptKind
) -> None:
    journal = writer(folder)
    begun = started(name(1))._replace(price_id="")
    journal.append(begun._replace(attempt=begun.attempt._replace(kind=kind, usage=Usage())))
    journal.close()
    assert Folder(JournalFolder(folder), store, MAKING).fold_once(0).totals.interrupted == 1
    assert told(store) == {name(1): Counter({(name(1), "interrupted", 0): 1})}
    check(store)


def test_what_a_student_was_asked_is_booked_with_its_exchange(
    store: SqliteStore, folder: Path
) -> None:
    journal = writer(folder)
    body = '{"model": "m", "messages": []}'
    note = Consultation("t", 1, "a", 0.9, 0.5, "student", True, "certified")
    begun = started(name(1), asked=body)._replace(
        price_id="", asked_bytes=len(body), consultation=note
    )
    attempt = begun.attempt._replace(kind=AttemptKind.STUDENT, usage=Usage())
    begun = begun._replace(attempt=attempt)
    given = Ended(name(1), attempt, nothing_bought(attempt), Fate.OK, 200, answer='"a"')
    given = given._replace(avoided_pico=5, basis="m at acme")
    for entry in (begun, given):
        journal.append(entry)
    making = replace(MAKING, read_bodies=lambda *_: (Request(()), Completion("a")))
    Folder(JournalFolder(folder), store, making).fold_once(0)
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM folds")  # as if the place had been lost: all is read again
    status = Folder(JournalFolder(folder), store, making).fold_once(0)
    assert (status.totals.new, status.totals.duplicates) == (0, 1)
    (watched,) = store.watched(0, 9)
    assert watched.consultation == note
    assert [call.body for call in store.waiting_shadows(9, 0)] == [body.encode()]
    assert [figures.avoided_pico for figures in store.serving_figures("t")] == [5]
    check(store)


def test_a_call_that_never_left_is_booked_with_what_its_exchange_knows(
    store: SqliteStore, folder: Path
) -> None:
    journal = writer(folder)
    first, second = started(name(1)), started(name(1), 2)
    for entry in (ended(first, ok=False, last=False), second, ended(second)):
        journal.append(entry)
    alone = started(name(2))
    journal.append(ended(alone, ok=False))
    Folder(JournalFolder(folder), store, MAKING).fold_once(0)
    kept = list(store.exchanges())
    assert [(e.tags.team, len(e.attempts)) for e in kept] == [("cards", 2), ("", 1)]
    assert {(b.attempt.attempt_id, b.fate) for b in store.booked()} == {
        (name(1), "dropped"),
        (f"{name(1)}-2", "ok"),
        (name(2), "dropped"),
    }
    journal.close()


@pytest.mark.parametrize("asked", ["", "no JSON", '"\\ud800"', "[1, 2]"])
def test_a_body_that_cannot_be_read_costs_the_body_alone(
    store: SqliteStore, folder: Path, asked: str
) -> None:
    journal = writer(folder)
    call = started(name(1), asked=asked)
    journal.append(call)
    journal.append(ended(call)._replace(answer=""))
    journal.close()
    status = Folder(JournalFolder(folder), store, MAKING).fold_once(0)
    booked = sum(1 for _ in store.booked())
    assert booked + status.totals.set_aside == 1
    if asked in ("", "no JSON"):
        (kept,) = store.exchanges()
        assert (kept.request, kept.completion) == (Request(()), Completion())
        assert status.totals.unreadable == (asked == "no JSON")


def test_an_estimator_that_fails_leaves_the_call_unpriced_and_in_the_books(
    store: SqliteStore, folder: Path
) -> None:
    def broken(started: Started) -> Usage:
        raise RecursionError("deep")

    journal = writer(folder)
    journal.append(started(name(1)))
    journal.close()
    Folder(JournalFolder(folder), store, replace(MAKING, estimate=broken)).fold_once(0)
    (booked,) = store.booked()
    assert [(c.leaf, c.billed) for c in booked.charges] == [("requests", None)]
    check(store)


def test_what_can_never_be_kept_is_set_aside_and_does_not_hold_up_the_others(
    store: SqliteStore, folder: Path
) -> None:
    journal = writer(folder)
    for n in range(9):
        call = started(name(n))
        journal.append(call)
        journal.append(ended(call))
    odd = started("no id")
    journal.append(odd)
    journal.append(ended(odd))
    journal.close()
    status = Folder(JournalFolder(folder), store, MAKING).fold_once(0)
    assert (status.totals.new, status.totals.set_aside) == (9, 1)
    (row,) = (folder / "aside.jsonl").read_text().splitlines()
    aside = orjson.loads(row)
    assert "cannot be kept" in aside["reason"]
    assert [entry["exchange_id"] for entry in aside["entries"]] == ["no id"] * 2
    assert not list(folder.glob("*.journal"))
    check(store)


def test_segments_go_when_they_are_folded_and_not_before(store: SqliteStore, folder: Path) -> None:
    journal = writer(folder, segment_bytes=3000)
    folding = Folder(JournalFolder(folder), store, MAKING)
    slow = started(name(999))
    journal.append(slow)
    for n in range(30):
        call = started(name(n))
        journal.append(call)
        journal.append(ended(call))
    folding.fold_once(0)
    held = len(list(folder.glob("*.journal")))
    assert held > 5
    journal.append(ended(slow))
    folding.fold_once(0)
    assert len(list(folder.glob("*.journal"))) == 1
    assert folding.totals.new == 31
    journal.close()
    check(store)


def test_segments_are_kept_under_another_name_where_that_is_wanted(
    store: SqliteStore, folder: Path
) -> None:
    journal = writer(folder, segment_bytes=3000)
    for n in range(20):
        call = started(name(n))
        journal.append(call)
        journal.append(ended(call))
    journal.close()
    folding = Folder(JournalFolder(folder), store, MAKING, keep_segments=True)
    folding.fold_once(0)
    folding.fold_once(0)
    assert folding.totals.new == 20
    assert {path.suffix for path in folder.iterdir()} == {".folded", ".json"}


def test_damage_is_said_and_its_segment_kept(store: SqliteStore, folder: Path) -> None:
    journal = writer(folder)
    for n in range(3):
        call = started(name(n))
        journal.append(call)
        journal.append(ended(call))
    journal.close()
    (path,) = folder.glob("*.journal")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    status = Folder(JournalFolder(folder), store, MAKING).fold_once(0)
    (said,) = status.damaged
    assert "is damaged" in said
    assert status.totals.new == 3
    assert [kept.suffix for kept in folder.iterdir() if kept.suffix != ".json"] == [".damaged"]


class DeathError(Exception):
    """The folder's process is dead."""


class Mortal:
    """Books whose process dies, or whose database is down, at stated steps."""

    def __init__(self, store: SqliteStore, faults: Iterator[str]) -> None:
        self._store, self._faults = store, faults

    def fold_place(self, run: str) -> Place | None:
        return self._store.fold_place(run)

    def add_live(
        self,
        entries: Sequence[LiveEntry],
        prices: Mapping[str, str],
        *,
        run: str,
        place: Place | None,
    ) -> LiveOutcome:
        fault = next(self._faults, "")
        if fault == "down":
            raise StoreError("the database is down; start it")
        if fault == "dies before":
            raise DeathError
        outcome = self._store.add_live(entries, prices, run=run, place=place)
        if fault == "dies after":
            raise DeathError
        return outcome


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[str, Entry]]:
    """Entries of two workers in some order in time; some exchanges never end."""
    streams: list[list[tuple[str, Entry]]] = []
    for n in range(draw(st.integers(0, 7))):
        worker = draw(st.sampled_from(["w0", "w1"]))
        entries: list[Entry] = []
        n_attempts = draw(st.integers(1, 3))
        for nth in range(1, n_attempts + 1):
            call = started(name(n), nth)
            entries.append(call)
            end = ended(call, tokens=draw(st.integers(0, 9)), last=nth == n_attempts)
            entries.append(end)
        if draw(st.booleans()) and len(entries) > 2:  # a hedge: the first one ends at last
            entries[1], entries[2] = entries[2], entries[1]
        kept = draw(st.integers(1, len(entries)))
        streams.append([(worker, entry) for entry in entries[:kept]])
    merged: list[tuple[str, Entry]] = []
    while any(streams):
        stream = draw(st.sampled_from([s for s in streams if s]))
        merged.append(stream.pop(0))
    return merged


FAULTS = ["", "", "down", "dies before", "dies after"]


@settings(max_examples=120, deadline=None)
@given(
    life=lives(),
    steps=st.lists(st.sampled_from(["fold", "restart", "write", "write"]), max_size=40),
    faults=st.lists(st.sampled_from(FAULTS), max_size=12),
    segment_bytes=st.sampled_from([1, 1500, 10**6]),
    keep=st.booleans(),
)
def test_any_interleaving_and_any_deaths_of_the_folder_give_the_same_books(
    tmp_path_factory: pytest.TempPathFactory,
    life: list[tuple[str, Entry]],
    steps: list[str],
    faults: list[str],
    segment_bytes: int,
    keep: bool,
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    writers = {w: writer(folder, w, segment_bytes=segment_bytes) for w in ("w0", "w1")}
    left = iter(life)
    with SqliteStore(folder / "some.db") as store:
        books = Mortal(store, iter(faults))

        def fresh() -> Folder:
            return Folder(JournalFolder(folder), books, MAKING, keep_segments=keep)

        def step(folding: Folder) -> Folder:
            try:
                folding.fold_once(0)
            except StoreError:
                return folding
            except DeathError:
                return fresh()
            return folding

        folding = fresh()
        for what in steps:
            if what == "write":
                for worker, entry in [e for e in (next(left, None),) if e is not None]:
                    writers[worker].append(entry)
            else:
                folding = step(fresh() if what == "restart" else folding)
        for worker, entry in left:
            writers[worker].append(entry)
        for journal in writers.values():
            journal.close()
        for _ in range(len(faults) + 2):
            folding = step(folding)
        assert not list(folder.glob("*.journal"))
        assert told(store) == wanted(life)
        check(store)


def wanted(life: list[tuple[str, Entry]]) -> dict[str, Counter[tuple[str, str, int]]]:
    """The same by the plainest means: the last word on every attempt."""
    words: dict[str, Entry] = {}
    for _, entry in life:
        if isinstance(entry, Ended) or entry.attempt.attempt_id not in words:
            words[entry.attempt.attempt_id] = entry
    guess = Ended("", GUESSED, charge(GUESSED, PRICE), Fate.INTERRUPTED)
    found: dict[str, Counter[tuple[str, str, int]]] = {}
    for attempt_id, entry in words.items():
        end = entry if isinstance(entry, Ended) else guess
        facts = (attempt_id, end.fate.value, cost(end))
        found.setdefault(entry.exchange_id, Counter())[facts] += 1
    return found


GUESSED = Attempt("", "m", usage=GUESS, evidence=Evidence.ESTIMATED)


def test_a_run_that_is_longer_than_a_turn_or_a_batch_is_folded_whole(
    store: SqliteStore, folder: Path
) -> None:
    journals = {w: writer(folder, w, segment_bytes=400_000) for w in ("w0", "w1")}
    count = fold.A_ROUND // 2 + fold.A_BATCH // 2 + 3
    for n in range(count):
        call = started(name(n), asked="")
        for entry in (call, ended(call)._replace(answer="")):
            journals["w0"].append(entry)
    other = started(name(10**6))
    journals["w1"].append(other)
    journals["w1"].append(ended(other))
    folding = Folder(JournalFolder(folder), store, MAKING)
    first = folding.fold_once(11_000_001)
    assert first.totals.new == fold.A_ROUND // 2 + 1
    assert first.lag_seconds == 10.0
    assert first.lag_bytes > 0
    for journal in journals.values():
        journal.close()
    second = folding.fold_once(11_000_001)
    assert (second.totals.new, second.lag_bytes, second.lag_seconds) == (count + 1, 0, 0.0)


def test_a_database_that_is_down_for_hours_loses_nothing(store: SqliteStore, folder: Path) -> None:
    journal = writer(folder)
    journals = JournalFolder(folder)
    folding = Folder(journals, Mortal(store, iter(["down"] * 20)), MAKING)
    clock = [0.0]
    waits: list[float] = []
    statuses = []

    def wait(seconds: float) -> bool:
        n = len(waits)
        if n < 30:
            call = started(name(n))
            journal.append(call)
            journal.append(ended(call))
        statuses.append(orjson.loads((folder / "fold.json").read_bytes()))
        waits.append(seconds)
        clock[0] += seconds
        return n == 40

    fold_forever(folding, journals, now_us=lambda: int(clock[0] * 1e6), wait=wait)
    assert sum(1 for _ in store.exchanges()) == 30
    assert waits[:8] == [0.25, 0.25, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert waits[-1] == 0.25
    down = statuses[10]
    assert down["error"].startswith("the database is down")
    assert down["lag_seconds"] > 100
    assert down["lag_bytes"] > 0
    assert statuses[-1]["error"] == ""
    journal.close()


def test_the_last_fold_comes_after_the_word_to_stop(store: SqliteStore, folder: Path) -> None:
    journal = writer(folder)

    def wait(seconds: float) -> bool:
        call = started(name(1))
        journal.append(call)
        journal.append(ended(call))
        journal.close()
        return True

    journals = JournalFolder(folder)
    fold_forever(Folder(journals, store, MAKING), journals, now_us=lambda: 0, wait=wait)
    assert sum(1 for _ in store.exchanges()) == 1


WORKER = """
import sys, time
from pathlib import Path
from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.traffic import Attempt, Tags, Usage
from stillhouse.ledger.charging import charge
from stillhouse.ledger.prices import Price
from stillhouse.flows.price_facts import facts_of
from stillhouse.store.journal import JournalWriter

folder, worker, life = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
price = Price("acme", "m", {"input_tokens": 3 * 10**12, "output_tokens": 5 * 10**12})
journal = JournalWriter(folder, worker, started_us=time.time_ns() // 1000, segment_bytes=100_000,
    price_facts=lambda price_id: facts_of(price))
say = sys.stdout.write
under_way = []
for n in range(10**9):
    name = f"{int(worker):04x}{life:04x}{n:024x}"
    attempt = Attempt(name, "m", at_us=1)
    asked = "x" * (n % 999)
    journal.append(Started(name, attempt, "chat", "acme", Tags(), "k", price.price_id, asked))
    say(f"started {name} 0\\n")
    usage = Usage(input_tokens=n % 13, output_tokens=n % 7 + 1)
    under_way.append(attempt._replace(usage=usage))
    if len(under_way) > n % 5:
        done = under_way.pop(n % len(under_way))
        charges = charge(done, price)
        journal.append(Ended(done.attempt_id, done, charges, Fate.OK, 200))
        say(f"ended {done.attempt_id} {sum(c.billed.pico for c in charges)}\\n")
    sys.stdout.flush()
    time.sleep(0.0005)
"""


@contextmanager
def worker(folder: Path, number: int, life: int) -> Iterator[Callable[[], list[list[str]]]]:
    """A process that writes a journal; killing it gives what it said that it had written."""
    said = folder / f"{number}-{life}.said"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder / "journal"), str(number), str(life)],
            stdout=out,
        )

        def kill() -> list[list[str]]:
            process.send_signal(signal.SIGKILL)
            process.wait()
            lines = said.read_text().splitlines(keepends=True)
            return [line.split() for line in lines if line.endswith("\n")]

        try:
            yield kill
        finally:
            process.kill()
            process.wait()


def test_workers_killed_at_any_moment_lose_nothing_and_double_nothing(
    tmp_path: Path, store: SqliteStore, folder: Path
) -> None:
    draws = random.Random(20261122)
    folding = Folder(JournalFolder(folder), store, MAKING)
    said: list[list[str]] = []
    for life in range(3):
        with worker(tmp_path, 0, life) as kill_one, worker(tmp_path, 1, life) as kill_other:
            for _ in range(1000):
                if all((tmp_path / f"{n}-{life}.said").stat().st_size for n in (0, 1)):
                    break
                time.sleep(0.01)
            for _ in range(3):
                time.sleep(draws.random() / 10)
                folding.fold_once(0)
            said += kill_one()
            folding = Folder(JournalFolder(folder), store, MAKING)
            folding.fold_once(0)
            said += kill_other()
    folding.fold_once(0)
    assert not list(folder.glob("*.journal"))
    begun = {words[1] for words in said if words[0] == "started"}
    costs = {words[1]: int(words[2]) for words in said if words[0] == "ended"}
    booked = told(store)
    assert len(costs) > 200
    assert all(sum(attempts.values()) == 1 for attempts in booked.values())
    assert begun <= booked.keys()
    # Each of six deaths may come between an entry and the word about it, not more.
    assert len(booked.keys() - begun) <= 6
    unsaid = 0
    for exchange_id, attempts in booked.items():
        ((_, fate, cost),) = attempts
        if exchange_id in costs:
            assert (fate, cost) == ("ok", costs[exchange_id])
        else:
            unsaid += fate == "ok"
    assert unsaid <= 6
    check(store)


def test_a_line_of_a_batch_that_a_death_cut_off_is_left_to_the_next_fetching(
    store: SqliteStore, folder: Path
) -> None:
    journal = writer(folder)
    line = started(name(1))
    line = line._replace(attempt=line.attempt._replace(batch=True))
    journal.append(line)
    journal.append(started(name(2)))
    journal.close()
    folding = Folder(JournalFolder(folder), store, MAKING)
    assert folding.fold_once(0).totals.interrupted == 1
    assert list(told(store)) == [name(2)]
    again = writer(folder, "w1", at=2)
    for entry in (line, ended(line), line, ended(line)):
        again.append(entry)
    again.close()
    folding.fold_once(0)
    assert told(store)[name(1)] == Counter({(name(1), "ok", cost(ended(line))): 1})
    check(store)
