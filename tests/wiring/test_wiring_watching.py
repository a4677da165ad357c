"""The room of the watch: whatever is away, the rest goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from stillhouse.gateway.student_families import STATUS_FILE, student_gauges
from stillhouse.settings.nouns import Books, Journaling, Settings, Students
from stillhouse.store.sqlite import SqliteStore
from stillhouse.testing.student_traffic import (
    TASK,
    Scripted,
    a_certificate,
    a_charter,
    a_note,
    ask,
    change,
    fold,
    open_desk,
    served,
    taught,
)
from stillhouse.wiring.watching import HELD_UP_SECONDS, PAUSE_SECONDS, WatchRoom


def configured(folder: Path, **students: Any) -> Settings:
    return Settings(
        books=Books(database=str(folder / "books.db")),
        journal=Journaling(folder=str(folder)),
        students=Students(**students),
    )


def in_room(settings: Settings, steps: Callable[[WatchRoom], Awaitable[None]]) -> None:
    async def live() -> None:
        nobody = Scripted()
        nobody.away = {"s2"}
        room = WatchRoom(settings, {}, nobody)
        try:
            await steps(room)
        finally:
            await room.close()

    asyncio.run(live())


def at_work(folder: Path) -> SqliteStore:
    """A desk whose version 1 serves, with three audits, one of which disagrees."""
    store = SqliteStore(folder / "books.db")
    open_desk(store, {})
    store.add_verdict(TASK, 1, a_certificate(0.2), 0)
    change(store, "promoted", at_us=1500, threshold=0.2)
    for n in (1, 2, 3):
        one = ask(n, 0.9, wrong=n == 3)
        note = a_note(one, "student")
        fold(store, [taught(one._replace(number=n + 100), note, about=n)])
    return store


def figure(folder: Path, name: str) -> Any:
    readings = {full.removeprefix("stillhouse_student_"): read for full, _, read in
                student_gauges(folder)}  # fmt: skip
    return readings[name]()


def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async def steps(room: WatchRoom) -> None:
        assert await room.round() == HELD_UP_SECONDS
        at_work(tmp_path).close()
        assert await room.round() == 0.0
        assert await room.round() == PAUSE_SECONDS

    in_room(configured(tmp_path), steps)
    with SqliteStore(tmp_path / "books.db") as store:
        assert len(list(store.evidence(TASK, 1))) == 3


def test_the_metrics_find_how_versions_stand(tmp_path: Path) -> None:
    async def steps(room: WatchRoom) -> None:
        await room.round()

    at_work(tmp_path).close()
    in_room(configured(tmp_path), steps)
    version = (("task", TASK), ("version", "1"))
    assert figure(tmp_path, "mode") == {(*version, ("mode", "serving")): 1.0}
    assert figure(tmp_path, "agreement") == {version: 2 / 3}
    assert 0 < figure(tmp_path, "alarm_share")[version] < 1
    assert figure(tmp_path, "shadows_waiting") == {version: 0.0}
    assert json.loads((tmp_path / STATUS_FILE).read_bytes())[0]["audited"] == 3


def test_a_webhook_that_is_away_holds_nothing_else_up(tmp_path: Path, capfd: Any) -> None:
    async def steps(room: WatchRoom) -> None:
        assert await room.round() == 0.0
        assert await room.round() == PAUSE_SECONDS

    at_work(tmp_path).close()
    address = {"webhook_url": "http://127.0.0.1:9/hook", "webhook_allow_private": True}
    in_room(configured(tmp_path, **address), steps)
    with SqliteStore(tmp_path / "books.db") as store:
        assert len(list(store.evidence(TASK, 1))) == 3
        assert [one.kind for one in store.undelivered(9, 2**62)] == ["promoted"]
    assert '"kind":"promoted"' in capfd.readouterr().err


def test_audits_and_notices_go_on_while_the_students_are_away(tmp_path: Path) -> None:
    async def steps(room: WatchRoom) -> None:
        for _ in range(2):
            await room.round()

    with at_work(tmp_path) as store:
        open_shadow(store)
        one = ask(500, 0.9, wrong=False)
        fold(store, [served(one, a_note(one, "student")), taught(ask(501, 0.9, wrong=False))])
        assert store.shadows_waiting()[0] == 1
    in_room(configured(tmp_path), steps)
    with SqliteStore(tmp_path / "books.db") as store:
        assert store.watch_place("evidence") == 0, "the second version could not be asked"
        assert store.shadows_waiting()[0] == 0, "its model is gone, so the audit is done"
        assert store.undelivered(9, 2**62) == []
    assert (tmp_path / STATUS_FILE).exists()


def open_shadow(store: SqliteStore) -> None:
    """A second version in shadow, whose student nobody has."""
    store.put_charter(a_charter(store.recogniser(), 2))
    change(store, "shadowed", version=2, at_us=1500)
