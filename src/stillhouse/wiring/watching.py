"""What stands behind the watch: audits, evidence, changes of policy and notices, in one process."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from stillhouse.core.calls import Done
from stillhouse.core.errors import StoreError
from stillhouse.core.ports import Students
from stillhouse.core.serving import SHADOW_KEY
from stillhouse.flows.certificates import Holding, holdings
from stillhouse.flows.desk import LeasingDesk
from stillhouse.flows.house import House, Keeper
from stillhouse.flows.notices import deliver_due
from stillhouse.flows.price_facts import facts_of
from stillhouse.flows.shadowing import Audited, audit
from stillhouse.flows.watching import StudentsAwayError, Watch
from stillhouse.gateway.cache import Cache
from stillhouse.gateway.student_families import statuses, write_status
from stillhouse.providers.tokens import ShapeCounter
from stillhouse.routing.health import Health
from stillhouse.settings.nouns import Settings, WhenDown
from stillhouse.settings.reading import unpack
from stillhouse.settings.starting import database_of
from stillhouse.store.journal import JournalWriter
from stillhouse.store.opening import existing_store
from stillhouse.students.asking import Asking
from stillhouse.wiring import SystemClock, price_book
from stillhouse.wiring.answering import socket_of
from stillhouse.wiring.books import access_of
from stillhouse.wiring.endpoint import alert, body_keeper
from stillhouse.wiring.notices import announcer
from stillhouse.wiring.upstreams import free_hosts, open_providers

PAUSE_SECONDS = 0.5
HELD_UP_SECONDS = 5.0
AUDITS_A_ROUND = 16
STATUS_SECONDS = 5.0
STATUS_SHARE = 0.02
"""Of the time may go into telling the metrics how versions stand."""


def watch(payload: bytes, ended: Callable[[float], bool]) -> None:
    """Watch until `ended` says so; see flows.watching."""
    asyncio.run(_watch(unpack(payload), ended))


async def _watch(settings: Settings, ended: Callable[[float], bool]) -> None:
    room = WatchRoom(settings, os.environ)
    try:
        pause = 0.0
        while not await asyncio.to_thread(ended, pause):
            pause = await room.round()
    finally:
        await room.close()


class WatchRoom:
    """Everything the watch leans on, opened when it is first needed."""

    def __init__(
        self, settings: Settings, env: Mapping[str, str], students: Students | None = None
    ) -> None:
        self._settings, self._env = settings, env
        self._folder = Path(settings.journal.folder)
        self._database = database_of(settings, env)
        self._asking = Asking(socket_of(settings))
        self._students = students or self._asking
        self._clock = SystemClock()
        self._store: Any = None
        self._watch: Watch | None = None
        self._auditor: Auditor | None = None
        self._auditing: asyncio.Task[Audited] | None = None
        self._tell = announcer(settings.students, env, self._clock.now_us)
        self._audit_from = self._show_from = 0.0

    async def round(self) -> float:
        """Look, ask, tell; how many seconds to pause. What fails is done again in the next."""
        busy = False
        try:
            books = self._opened()
            assert self._watch is not None
            with suppress(StudentsAwayError):
                busy = await self._watch.step()
            await self._audit(books)
            await deliver_due(books, self._tell, self._clock.now_us)
            self._show(books)
        except StoreError:
            self._leave()
            return HELD_UP_SECONDS
        return 0.0 if busy else PAUSE_SECONDS

    async def _audit(self, books: Any) -> None:
        """See that teachers are asked about what waits, beside everything else.

        The upstreams are opened with the first such call.
        """
        now = time.monotonic()
        if self._auditing is not None:
            if not self._auditing.done():
                return
            ended, self._auditing = self._auditing, None
            self._audit_from = now + HELD_UP_SECONDS
            if not (await ended).held_up:
                self._audit_from = now
        if now < self._audit_from or not books.waiting_shadows(1, self._clock.now_us()):
            return
        if self._auditor is None:
            auditor = Auditor(self._settings, self._env)
            await auditor.begin()
            self._auditor = auditor
        asking = audit(self._auditor.house, books, AUDITS_A_ROUND)
        self._auditing = asyncio.create_task(asking)

    def _show(self, books: Any) -> None:
        """Leave how versions stand where the metrics find it; seldom where that takes long."""
        now = time.monotonic()
        if now >= self._show_from:
            found = holdings(books, self._settings.students.terms, evidence=False)
            shown = (self._shown(books, one) for one in found)
            write_status(self._folder, statuses(shown))
            took = time.monotonic() - now
            self._show_from = now + max(STATUS_SECONDS, took / STATUS_SHARE)

    def _shown(self, books: Any, holding: Holding) -> Holding:
        """With what the watch knows of its evidence: to read all of that again would take long."""
        version = (holding.charter.task, holding.charter.version)
        judge = self._watch.judges.get(version) if self._watch is not None else None
        if judge is None:
            return holding
        judge.take(list(books.evidence(*version, judge.read)))
        level = judge.level if judge.standing.threshold is not None else None
        return replace(holding, audited=judge.audited, agreed=judge.agreed, alarm_share=level)

    async def close(self) -> None:
        """Let everything go; audits under way end first, for they cost money."""
        if self._auditing is not None:
            with suppress(StoreError):
                await self._auditing
        if self._auditor is not None:
            await self._auditor.end()
        self._asking.close()
        await self._tell.close()
        self._leave()

    def _opened(self) -> Any:
        if self._store is None:
            self._store = existing_store(self._database)
            terms = self._settings.students.terms
            self._watch = Watch(self._store, self._students, terms, self._clock.now_us)
        return self._store

    def _leave(self) -> None:
        store, self._store, self._watch = self._store, None, None
        if store is not None:
            with suppress(StoreError):
                store.close()


class Auditor:
    """The house in which teachers are asked again: upstreams, a journal, a budget of its own."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        clock, folder = SystemClock(), Path(settings.journal.folder)
        own = Path(settings.books.prices) if settings.books.prices else None
        prices = price_book(own, clock.now_us(), free_hosts(settings.catalogue))
        facts = {price.price_id: price for price in prices.prices}
        self._journal = JournalWriter(
            folder,
            f"watch-{os.getpid()}",
            started_us=clock.now_us(),
            durability=settings.journal.durability.value,
            window_seconds=settings.journal.window_ms / 1000,
            segment_bytes=settings.journal.segment_bytes,
            price_facts=lambda price_id: facts_of(facts[price_id]) if price_id in facts else None,
        )
        down = settings.server.when_store_is_down is WhenDown.ALLOW
        self._access = access_of(database_of(settings, env))
        self._desk = LeasingDesk(
            self._access,
            self._journal.run,
            clock.now_us,
            when_store_is_down="allow" if down else "deny",
            alerts=alert,
        )
        self._quotas, self._budget = settings.quotas, settings.students.shadow_budget
        self._providers = open_providers(settings.catalogue, env)
        self.house = House(
            catalogue=settings.catalogue,
            providers=self._providers,
            keeper=Keeper(self._journal),
            desk=self._desk,
            prices=prices,
            health=Health(),
            watch=_Unwatched(),
            counter=ShapeCounter(),
            now_us=clock.now_us,
            seconds=time.perf_counter,
            draw=random.random,
            sleep=asyncio.sleep,
            keep_body=body_keeper(),
            cache=Cache(0),
        )

    async def begin(self) -> None:
        """Begin to speak with the shared counters."""
        self.house.loop = asyncio.get_running_loop()
        self._desk.replace(self._quotas, {SHADOW_KEY: self._budget} if self._budget else {})
        await self._desk.start()

    async def end(self) -> None:
        """Let upstreams go, give leases back, close the journal."""
        for provider in self._providers.values():
            await provider.close()
        await self._desk.close()
        self._journal.close()
        self._access.close()


class _Unwatched:
    def done(self, done: Done) -> None:
        """Audits are nobody's requests: the books have them, the metrics of callers do not."""
