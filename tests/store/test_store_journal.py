from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.calls import Ended, Entry, Fate, Started
from stillhouse.core.errors import StoreError
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Attempt, Evidence, Tags, Usage
from stillhouse.store.journal import JournalWriter
from stillhouse.store.journal_frames import HEADER, MAGIC
from stillhouse.store.journal_reading import JournalFolder

FACTS = {"p1": '{"model": "m"}', "p2": '{"model": "n"}'}


def started(n: int, *, asked: str = "hello", price_id: str = "p1") -> Started:
    name = f"{n:032x}"
    attempt = Attempt(name, "m", at_us=n)
    tags = Tags(team="cards")
    return Started(
        name, attempt, "chat", "acme", tags, "k1", price_id, asked, len(asked), 9, ("c",)
    )


def ended(n: int, *, answer: str = "{}", price_id: str = "p1") -> Ended:
    name = f"{n:032x}"
    attempt = Attempt(name, "m", at_us=n, usage=Usage(3, output_tokens=2), latency_ms=1.5)
    computed, derived = CostSource.COMPUTED, Evidence.DERIVED
    charges = tuple(
        Charge(f"{name}:{leaf}", name, leaf, 3, "tokens", Paid(n), computed, derived, price_id)
        for leaf in ("input_tokens", "output_tokens")
    )
    return Ended(name, attempt, charges, Fate.OK, 200, 0.5, '{"a": 1}', answer, error="")


def writer(folder: Path, worker: str = "w0", at: int = 1, **settings: object) -> JournalWriter:
    return JournalWriter(
        folder,
        worker,
        started_us=at,
        price_facts=FACTS.get,
        **{"durability": "process", **settings},  # type: ignore[arg-type]
    )


def entries(folder: Path) -> list[Entry]:
    journals = JournalFolder(folder)
    return [entry for run in journals.runs() for _, entry in journals.read(run, (0, 0))]


def segment(folder: Path) -> Path:
    (found,) = folder.glob("*.journal")
    return found


@contextmanager
def no_file_longer_than(length: int) -> Iterator[None]:
    """A disk that is full after so many bytes of any one file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_appended_is_read_in_order_before_the_writer_closes(tmp_path: Path) -> None:
    kept: list[Entry] = [started(1), started(2), ended(2), ended(1)]
    journal = writer(tmp_path)
    for entry in kept:
        assert journal.append(entry) is None
    assert entries(tmp_path) == kept
    journal.close()
    journal.close()
    assert entries(tmp_path) == kept


def test_a_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    journal.append(started(1))
    reader = JournalFolder(tmp_path).read(journal.run, (0, 0))
    assert [entry for _, entry in reader] == [started(1)]
    assert list(reader) == []
    journal.append(ended(1))
    ((place, _),) = reader
    journal.close()
    again = JournalFolder(tmp_path).read(journal.run, place)
    assert [entry for _, entry in again] == [ended(1)]
    size = segment(tmp_path).stat().st_size
    assert JournalFolder(tmp_path).unread_bytes(journal.run, (0, 0)) == size


def test_a_segment_explains_the_prices_that_it_names_from_any_place_on(tmp_path: Path) -> None:
    journal = writer(tmp_path, segment_bytes=1)
    for n in range(3):
        journal.append(started(n, price_id="p2" if n else "p1"))
    journal.append(ended(0, price_id="unknown"))
    reader = JournalFolder(tmp_path).read(journal.run, (0, 0))
    places = [place for place, _ in reader]
    assert [number for number, _ in places] == [0, 1, 2, 3]
    assert reader.prices == FACTS
    later = JournalFolder(tmp_path).read(journal.run, places[2])
    assert len(list(later)) == 2
    assert later.prices == {"p2": FACTS["p2"]}
    journal.close()


def test_segments_turn_over_and_can_be_put_away(tmp_path: Path) -> None:
    journal = writer(tmp_path, segment_bytes=2000)
    kept = [started(n) for n in range(40)]
    for entry in kept:
        journal.append(entry)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) > 3
    journals = JournalFolder(tmp_path)
    assert journals.runs() == [journal.run]
    assert entries(tmp_path) == kept
    journals.put_away(journal.run, 2, keep=False)
    reader = journals.read(journal.run, (0, 0))
    rest = [entry for _, entry in reader]
    assert rest == kept[-len(rest) :]
    assert 0 < len(rest) < len(kept)
    assert reader.damaged == []
    journals.put_away(journal.run, 3, keep=True)
    (kept_one,) = tmp_path.glob("*.folded")
    written_us = kept_one.stat().st_mtime_ns // 1000
    assert journals.forget_folded(written_us) == 0
    assert journals.forget_folded(written_us + 1) == 1
    assert not kept_one.exists()
    journal.close()


def test_runs_are_told_apart_and_sorted_by_the_time_of_their_start(tmp_path: Path) -> None:
    late, early = writer(tmp_path, "w/0 é", at=2**40), writer(tmp_path, "w1", at=17)
    late.append(started(2))
    early.append(started(1))
    assert JournalFolder(tmp_path).runs() == [early.run, late.run]
    assert entries(tmp_path) == [started(1), started(2)]
    for journal in (early, late):
        journal.close()


def test_a_writer_is_alive_until_it_closes_through_all_of_its_segments(tmp_path: Path) -> None:
    journals = JournalFolder(tmp_path)
    journal = writer(tmp_path, segment_bytes=1)
    assert journals.alive(journal.run)
    for n in range(5):
        journal.append(started(n))
        assert journals.alive(journal.run)
    journal.close()
    assert not journals.alive(journal.run)
    assert not journals.alive("nobody")


def test_a_place_that_cannot_hold_a_journal_is_said(tmp_path: Path) -> None:
    place = tmp_path / "sub"
    place.write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        writer(place)


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    journal.close()
    with pytest.raises(StoreError, match="is closed"):
        journal.append(started(1))


def test_after_the_end_nothing_goes_into_a_file_that_has_the_same_number(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    other, number = tmp_path / "other", journal._file
    with other.open("wb") as file:
        journal.close()
        os.dup2(file.fileno(), number)
        for entry in (started(1, price_id="p2"), ended(1, price_id="p2")):
            with pytest.raises(StoreError, match="is closed"):
                journal.append(entry)
        os.close(number)
    assert other.read_bytes() == b""


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 400))
def test_a_torn_tail_loses_the_torn_entry_alone(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = writer(folder)
    journal.append(started(1))
    journal.append(ended(1))
    whole = segment(folder).stat().st_size
    journal.append(started(2))
    journal.close()
    path = segment(folder)
    frame = path.stat().st_size - whole
    with path.open("r+b") as file:
        file.truncate(whole + cut % (frame - 1))
    reader = JournalFolder(folder).read(journal.run, (0, 0))
    found = [entry for _, entry in reader]
    assert found[:2] == [started(1), ended(1)]
    assert found[2:] in ([], [started(2)])
    assert reader.damaged == []
    assert reader.torn_bytes == path.stat().st_size - reader.place[1]


def test_a_tail_of_zeros_after_a_power_cut_is_torn(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    journal.append(started(1))
    with segment(tmp_path).open("ab") as file:
        file.write(bytes(5000))
    reader = JournalFolder(tmp_path).read(journal.run, (0, 0))
    assert [entry for _, entry in reader] == [started(1)]
    assert (reader.torn_bytes, reader.damaged) == (5000, [])
    journal.close()


@settings(max_examples=80, deadline=None)
@given(at=st.integers(0, 10**6), sign=st.integers(1, 255))
def test_damage_in_the_middle_is_said_and_costs_what_it_hit_alone(
    tmp_path_factory: pytest.TempPathFactory, at: int, sign: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = writer(folder)
    kept = [started(n, price_id="") for n in range(6)]
    for entry in kept:
        journal.append(entry)
    journal.close()
    path = segment(folder)
    content = bytearray(path.read_bytes())
    frame = (len(content) - len(MAGIC) - HEADER.size - 1) // 6
    place = len(MAGIC) + at % (5 * frame)
    content[place] ^= sign
    path.write_bytes(content)
    reader = JournalFolder(folder).read(journal.run, (0, 0))
    found = [entry for _, entry in reader]
    hit = (place - len(MAGIC)) // frame
    assert found == kept[:hit] + kept[hit + 1 :]
    (said,) = reader.damaged
    assert f"is damaged from byte {len(MAGIC) + hit * frame}" in said
    assert list(reader) == []
    assert len(reader.damaged) == 1
    JournalFolder(folder).put_away(journal.run, None, keep=False, hurt=reader.hurt)
    assert [kept.suffix for kept in folder.iterdir()] == [".damaged"]


def test_a_file_of_another_kind_is_said_once_and_kept(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    journal.close()
    segment(tmp_path).write_bytes(b"something else, and long enough")
    reader = JournalFolder(tmp_path).read(journal.run, (0, 0))
    assert list(reader) == list(reader) == []
    (said,) = reader.damaged
    assert "is no segment of this version" in said


def test_an_entry_of_a_later_version_is_said_and_the_rest_is_read(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    journal.append(ended(1))
    odd = ended(2)._replace(fate="melted")
    journal.append(odd)
    journal.append(ended(3))
    reader = JournalFolder(tmp_path).read(journal.run, (0, 0))
    assert [entry for _, entry in reader] == [ended(1), ended(3)]
    (said,) = reader.damaged
    assert "this version cannot read" in said
    journal.close()


def test_an_entry_larger_than_a_piece_is_read_whole(tmp_path: Path) -> None:
    big = started(1, asked="x" * (9 * 2**20))
    journal = writer(tmp_path)
    journal.append(big)
    journal.append(ended(1))
    assert entries(tmp_path) == [big, ended(1)]
    journal.close()


def test_text_that_is_no_unicode_keeps_its_entry(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    journal.append(started(1, asked="a\ud800b"))
    (found,) = entries(tmp_path)
    assert isinstance(found, Started)
    assert found.asked == "a?b"
    assert found.attempt == started(1).attempt
    journal.close()


def test_a_full_disk_keeps_nothing_of_the_entry_and_later_ones_go_on(tmp_path: Path) -> None:
    journal = writer(tmp_path)
    journal.append(started(1))
    size = segment(tmp_path).stat().st_size
    with no_file_longer_than(size + 200):
        for _ in range(2):
            with pytest.raises(StoreError, match=r"cannot be written .* free some space"):
                journal.append(started(2, asked="long " * 100))
        assert segment(tmp_path).stat().st_size == size
    journal.append(ended(1))
    journal.close()
    assert entries(tmp_path) == [started(1), ended(1)]


def test_without_room_for_another_segment_the_old_one_goes_on(tmp_path: Path) -> None:
    journal = writer(tmp_path, segment_bytes=1)
    journal.append(started(1))
    not_even_the_first_bytes = no_file_longer_than(2)
    with not_even_the_first_bytes, pytest.raises(StoreError, match="cannot be written"):
        journal.append(started(2))
    assert [path.suffix for path in tmp_path.iterdir()] == [".journal"]
    journal.append(started(3))
    journal.close()
    assert entries(tmp_path) == [started(1), started(3)]


def test_power_means_that_the_disk_is_waited_for_and_many_wait_together(tmp_path: Path) -> None:
    async def run() -> None:
        journal = writer(tmp_path, durability="power", segment_bytes=3000)
        waits = [journal.append(started(n)) for n in range(50)]
        assert all(wait is not None and not wait.done() for wait in waits)
        await asyncio.gather(*[wait for wait in waits if wait is not None])
        alone = journal.append(ended(1))
        assert alone is not None
        await alone
        journal.close()

    asyncio.run(run())
    assert entries(tmp_path) == [*(started(n) for n in range(50)), ended(1)]


def test_power_without_an_event_loop_waits_in_place(tmp_path: Path) -> None:
    journal = writer(tmp_path, durability="power")
    assert journal.append(started(1)) is None
    journal.close()
    assert entries(tmp_path) == [started(1)]


def test_a_window_does_not_keep_anybody_waiting(tmp_path: Path) -> None:
    journal = writer(tmp_path, durability="window", window_seconds=0.01, segment_bytes=1)
    for n in range(20):
        assert journal.append(started(n)) is None
    journal.close()
    assert entries(tmp_path) == [started(n) for n in range(20)]
    assert not JournalFolder(tmp_path).alive(journal.run)


def test_every_write_within_a_window_is_followed_by_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fdatasync

    def watched(file: int) -> None:
        size = os.fstat(file).st_size
        sync(file)
        synced.append(size)

    monkeypatch.setattr(os, "fdatasync", watched)
    journal = writer(tmp_path, durability="window", window_seconds=0.001)
    for n in range(30):
        journal.append(started(n))
        if n % 3 == 0:
            size = segment(tmp_path).stat().st_size
            until = time.monotonic() + 20
            while not any(seen >= size for seen in list(synced)) and time.monotonic() < until:
                time.sleep(0.0005)
            assert any(seen >= size for seen in synced)
    journal.close()


def test_one_process_folds_at_a_time(tmp_path: Path) -> None:
    first, second = JournalFolder(tmp_path), JournalFolder(tmp_path)
    with (
        first.folding(),
        pytest.raises(StoreError, match="another process folds"),
        second.folding(),
    ):
        pytest.fail("both fold")
    with second.folding():
        pass
