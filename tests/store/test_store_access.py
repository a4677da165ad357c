from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.quotas import Draw, Quota, Scope, Standing, Unit, VirtualKey, Window
from stillhouse.core.traffic import Tags
from stillhouse.ledger.quotas import drawn
from stillhouse.store.access import KEPT_US, SILENT_US, Access
from stillhouse.store.access_tables import APPLICATION_ID
from stillhouse.store.schema_access import SQLITE_SCRIPTS

COST = "everybody::cost:total:hard@0"
PLACES = "everybody::concurrent:now:hard@0"
KEY = VirtualKey(
    "k1",
    "Rosa's laptop",
    b"salt",
    b"digest",
    Tags(team="red"),
    ("gpt-*",),
    (Quota(Scope.KEY, "*", Unit.COST, Window.DAY, 2**62, soft=True),),
    admin=True,
    created_us=5,
    expires_us=99,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "stillhouse.db.access"
    new_schema: Callable[[], str] = request.getfixturevalue("new_schema")
    return new_schema()


@pytest.fixture
def access(place: Path | str) -> Iterator[Access]:
    with Access(place) as opened:
        yield opened


def ask(amount: int, *, used: int = 0, returned: int = 0, of: str = COST, limit: int = 100) -> Draw:
    return Draw(of, limit, None, used, 0, returned, amount, amount)


def test_a_key_comes_back_as_it_was_kept(access: Access) -> None:
    access.add_key(KEY)
    assert access.keys() == (KEY,)


def test_a_key_whose_calls_no_student_answers_comes_back_as_such(access: Access) -> None:
    access.add_key(replace(KEY, students=False))
    assert not access.keys()[0].students


def test_an_id_is_given_once(access: Access) -> None:
    access.add_key(KEY)
    with pytest.raises(CallerError, match="'k1' already"):
        access.add_key(KEY)
    assert access.keys_version() == 1


def test_every_change_of_keys_counts_the_version_up_and_a_first_revocation_stands(
    access: Access,
) -> None:
    assert access.keys_version() == 0
    access.add_key(KEY)
    access.revoke_key("k1", at_us=70)
    access.revoke_key("k1", at_us=80)
    assert access.keys_version() == 3
    assert access.keys()[0].revoked_us == 70
    with pytest.raises(CallerError, match="no key 'nobody'"):
        access.revoke_key("nobody", at_us=1)


def test_what_is_kept_is_there_for_the_next_process(place: Path | str) -> None:
    with Access(place) as first:
        first.add_key(KEY)
        first.draw("w1", 1, 0, [ask(40)], drawn)
    with Access(place) as second:
        assert second.keys() == (KEY,)
        assert second.counters() == {COST: Standing(100, leased=40)}


def test_two_workers_share_one_counter(access: Access) -> None:
    [first] = access.draw("w1", 1, 0, [ask(60)], drawn)
    [second] = access.draw("w2", 1, 0, [ask(60)], drawn)
    assert (first.mine, second.mine, second.remaining) == (60, 0, 40)
    [second] = access.draw("w2", 2, 7, [ask(60)], drawn)
    assert access.recalled("w1", since_us=6) == [COST]
    assert access.recalled("w2", since_us=6) == []
    access.draw("w1", 2, 8, [ask(0, used=20, returned=40)], drawn)
    [second] = access.draw("w2", 3, 9, [ask(60)], drawn)
    assert second == Standing(100, spent=20, leased=60, recalled_us=7, mine=60)


def test_a_turn_that_is_said_again_changes_nothing(access: Access) -> None:
    access.draw("w1", 1, 0, [ask(50)], drawn)
    said = access.draw("w1", 2, 0, [ask(10, used=30)], drawn)
    again = access.draw("w1", 2, 0, [ask(10, used=30)], drawn)
    assert said == again == [Standing(100, spent=30, leased=30, mine=30)]


def test_draws_are_answered_in_the_order_in_which_they_were_said(access: Access) -> None:
    stood = access.draw("w1", 1, 0, [ask(3, of="z"), ask(1, of="a"), ask(2, of="m")], drawn)
    assert [standing.mine for standing in stood] == [3, 1, 2]


def test_a_step_that_fails_changes_nothing(access: Access) -> None:
    def broken(draw: Draw, standing: Standing, at_us: int) -> Standing:
        if draw.counter == "m":
            raise RuntimeError("halfway")
        return drawn(draw, standing, at_us)

    access.draw("w1", 1, 0, [ask(1, of="a")], drawn)
    with pytest.raises(RuntimeError, match="halfway"):
        access.draw("w1", 2, 0, [ask(5, of="a"), ask(5, of="m")], broken)
    assert access.counters() == {"a": Standing(100, leased=1)}
    [again] = access.draw("w1", 2, 0, [ask(5, of="a")], drawn)
    assert again.mine == 6


def test_a_dead_workers_leases_are_settled_by_what_its_journal_says(access: Access) -> None:
    access.draw("dead", 1, 0, [ask(60), ask(10, of="requests")], drawn)
    access.draw("dead", 2, 0, [ask(0, used=25)], drawn)  # the rest of what it used it never said
    assert access.counters()[COST] == Standing(100, spent=25, leased=35)
    assert access.recover("dead", {COST: 41, "requests": 3, "soft": 7})
    assert access.counters() == {
        COST: Standing(100, spent=41),
        "requests": Standing(100, spent=3),
        "soft": Standing(0, spent=7, over=7),
    }
    assert not access.recover("dead", {COST: 41})
    assert access.counters()[COST].spent == 41


def test_leases_of_the_dead_count_until_they_are_recovered(access: Access) -> None:
    access.draw("dead", 1, 0, [ask(60)], drawn)
    [refused] = access.draw("w1", 1, 10 * SILENT_US, [ask(60)], drawn)
    assert refused.mine == 0
    access.recover("dead", {})
    [granted] = access.draw("w1", 2, 10 * SILENT_US, [ask(60)], drawn)
    assert granted.mine == 60


def test_what_the_counters_know_already_is_not_taken_back(access: Access) -> None:
    access.draw("dead", 1, 0, [ask(60)], drawn)
    access.draw("dead", 2, 0, [ask(0, used=30)], drawn)
    access.recover("dead", {COST: 20})
    assert access.counters()[COST] == Standing(100, spent=30)


def test_places_for_concurrent_calls_of_a_silent_worker_are_free_again(access: Access) -> None:
    access.draw("dead", 1, 0, [ask(4, of=PLACES, limit=4)], drawn)
    [full] = access.draw("w1", 1, SILENT_US, [ask(1, of=PLACES, limit=4)], drawn)
    [freed] = access.draw("w1", 2, SILENT_US + 1, [ask(1, of=PLACES, limit=4)], drawn)
    assert (full.mine, freed.mine, freed.leased) == (0, 1, 1)
    access.recover("dead", {PLACES: 0})
    assert access.counters()[PLACES].leased == 1


def test_a_worker_that_leaves_gives_everything_back(access: Access) -> None:
    access.draw("w1", 1, 5, [ask(60)], drawn)
    assert access.workers() == {"w1": 5}
    access.leave("w1")
    assert access.workers() == {}
    assert access.counters()[COST] == Standing(100)


def test_counters_of_windows_long_past_are_forgotten(access: Access) -> None:
    old = Draw("day@0", 100, 1000, asked=5, least=5)
    access.draw("w1", 1, 0, [old, ask(5)], drawn)
    assert access.forget(KEPT_US + 1000) == 0
    assert access.forget(KEPT_US + 1001) == 1
    assert list(access.counters()) == [COST]


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with Access(path) as access, pytest.raises(StoreError, match="another program"):
        access.keys()


def test_a_place_that_cannot_be_opened_is_said_and_tried_again(tmp_path: Path) -> None:
    with Access(tmp_path / "later" / "s.access") as access:
        with pytest.raises(StoreError, match="cannot be opened"):
            access.keys_version()
        (tmp_path / "later").mkdir()
        assert access.keys_version() == 0


def test_an_unreachable_server_is_said_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with Access("postgresql://me:hunter2@127.0.0.1:1/db") as access:
        with pytest.raises(StoreError, match="cannot be reached") as failed:
            access.keys_version()
        assert "hunter2" not in str(failed.value)


def test_a_name_is_new_once(access: Access) -> None:
    assert access.once(["a", "b", "a"]) == {"a", "b"}
    assert access.once(["b", "c"]) == {"c"}
    assert access.once([]) == set()
    many = [f"line-{number}" for number in range(1200)]
    assert access.once(many) == set(many)
    assert access.once([*many, "new"]) == {"new"}


def test_a_name_is_new_to_one_worker_alone(place: Path | str) -> None:
    names = [f"line-{number}" for number in range(300)]
    with Access(place) as one, Access(place) as other, ThreadPoolExecutor(4) as pool:
        told = pool.map(
            lambda turn: (one, other)[turn % 2].once(names[turn * 10 : turn * 10 + 100]), range(20)
        )
        assert Counter(name for new in told for name in new) == Counter(names[:290])


def test_tables_of_the_version_before_take_names_as_well(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.access")) as old:
        old.executescript(SQLITE_SCRIPTS[0])
        old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
    with Access(tmp_path / "old.access") as access:
        assert access.once(["a"]) == {"a"}
