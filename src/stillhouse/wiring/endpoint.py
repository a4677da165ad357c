"""What stands behind the endpoint: the ASGI app of one worker, put together from the settings."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import orjson

from stillhouse.core.calls import Done
from stillhouse.core.catalogue import Recorded, Route
from stillhouse.core.errors import ConfigError
from stillhouse.core.ports import Watch
from stillhouse.core.quotas import Alert, VirtualKey
from stillhouse.dialects.redact import hashed, redact_body
from stillhouse.flows.consulting import Staff
from stillhouse.flows.desk import LeasingDesk
from stillhouse.flows.house import House, Keeper
from stillhouse.flows.price_facts import facts_of
from stillhouse.gateway.admin import Admin
from stillhouse.gateway.app import Endpoint, Limits
from stillhouse.gateway.batches import Batches
from stillhouse.gateway.cache import Cache
from stillhouse.gateway.caller import Receive, Scope, Send
from stillhouse.gateway.door import LOOPBACK_NAMES, Door
from stillhouse.gateway.families import breakers, folding
from stillhouse.gateway.http import Handler
from stillhouse.gateway.keys import KeyRing, follow
from stillhouse.gateway.lines import Level, Lines
from stillhouse.gateway.metrics import Metrics
from stillhouse.gateway.models import Models
from stillhouse.gateway.openapi import Described
from stillhouse.gateway.other import Other
from stillhouse.gateway.probes import Probes
from stillhouse.gateway.student_admin import StudentAdmin
from stillhouse.gateway.student_families import student_gauges
from stillhouse.gateway.tracing import Tracing
from stillhouse.providers.tokens import ShapeCounter
from stillhouse.routing.catalogue import names
from stillhouse.routing.health import Health
from stillhouse.settings.addresses import is_loopback
from stillhouse.settings.nouns import Logged, Settings, WhenDown
from stillhouse.settings.reading import unpack
from stillhouse.settings.starting import database_of
from stillhouse.store.journal import JournalWriter
from stillhouse.store.remembered_keys import RememberedKeys
from stillhouse.students.asking import Asking
from stillhouse.wiring import SystemClock, price_book
from stillhouse.wiring.answering import socket_of
from stillhouse.wiring.books import access_of, spend_rows, student_books
from stillhouse.wiring.staff import StaffRoom, coin_key
from stillhouse.wiring.upstreams import free_hosts, open_providers

PUBLISH_SECONDS = 1.0
STDERR = 2


def app(payload: bytes, name: str) -> Application:
    """The ASGI app of a worker, from packed settings; ConfigError where it cannot be."""
    return Application(unpack(payload), name, os.environ)


class Application:
    """One worker's endpoint: everything that has to be begun and ended with it."""

    def __init__(self, settings: Settings, name: str, env: Mapping[str, str]) -> None:
        clock, server = SystemClock(), settings.server
        database = database_of(settings, env)
        self._journal_folder = folder = Path(settings.journal.folder)
        own = Path(settings.books.prices) if settings.books.prices else None
        prices = price_book(own, clock.now_us(), free_hosts(settings.catalogue))
        facts = {price.price_id: price for price in prices.prices}
        self._access = access_of(database)
        self._keyring = RememberedKeys(self._access, folder)
        self._journal = JournalWriter(
            folder,
            name,
            started_us=clock.now_us(),
            durability=settings.journal.durability.value,
            window_seconds=settings.journal.window_ms / 1000,
            segment_bytes=settings.journal.segment_bytes,
            price_facts=lambda price_id: facts_of(facts[price_id]) if price_id in facts else None,
        )
        self._ring, self._quotas = KeyRing(), settings.quotas
        self._desk = LeasingDesk(
            self._access,
            self._journal.run,
            clock.now_us,
            when_store_is_down="allow" if server.when_store_is_down is WhenDown.ALLOW else "deny",
            alerts=alert,
        )
        self._metrics = Metrics(names(settings.catalogue), folder)
        self._tracing = _tracing(settings, env)
        self._lines = _lines(settings)
        self._providers = open_providers(settings.catalogue, env)
        self._house = House(
            catalogue=settings.catalogue,
            providers=self._providers,
            keeper=Keeper(self._journal),
            desk=self._desk,
            prices=prices,
            health=Health(),
            watch=_watches([w for w in (self._metrics, self._tracing, self._lines) if w]),
            counter=ShapeCounter(),
            now_us=clock.now_us,
            seconds=time.perf_counter,
            draw=random.random,
            sleep=asyncio.sleep,
            keep_body=body_keeper(),
            cache=Cache(settings.cache.max_bytes),
        )
        hosts = frozenset(name.lower() for name in server.hosts) or None
        if hosts is not None or is_loopback(server.host):
            hosts = LOOPBACK_NAMES | (hosts or frozenset())  # no page elsewhere has such a name
        door = Door(self._ring, clock.now_us, lambda: not len(self._ring), hosts)
        limits = Limits(server.max_body_bytes, server.body_seconds)
        admin = Admin(self._access, lambda by: spend_rows(database, by), door, clock.now_us)
        students = StudentAdmin(
            lambda: student_books(database), settings.students.terms, door, clock.now_us
        )
        counted = self._metrics if settings.metrics.enabled else None
        rows = _rows(Models(lambda: self._house, door), Probes(self._faults, counted, door), admin)
        rows |= steering_rows(students)
        batches = Batches(lambda: self._house, door, self._once, Other(rows, limits, door), limits)
        self._endpoint = Endpoint(self._house, door, batches, limits)
        self._gauges()
        self._staff: StaffRoom | None = None
        if settings.students.enabled:
            asking = Asking(socket_of(settings))
            self._staff = StaffRoom(database, asking, coin_key(folder), settings)
        self._tasks: list[asyncio.Task[None]] = []

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request, or begin and end with the server."""
        if scope["type"] == "http":
            return self._endpoint(scope, receive, send)
        return self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.end()
        await send({"type": "lifespan.shutdown.complete"})

    async def begin(self) -> None:
        """Read the keys, begin to speak with the shared counters."""
        self._house.loop = asyncio.get_running_loop()
        version, keys = await asyncio.to_thread(self._keyring.known)
        self._keys_changed(keys)
        await self._desk.start()
        self._tasks = [
            asyncio.create_task(follow(self._keyring, self._keys_changed, known=version)),
            asyncio.create_task(self._publish()),
        ]
        if self._staff is not None:
            self._tasks.append(asyncio.create_task(self._staff.follow(self._staff_changed)))

    async def end(self) -> None:
        """Let upstreams go, give leases back, close the journal: nothing is under way any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._staff is not None:
            await self._staff.close()
        for provider in self._providers.values():
            await provider.close()
        await self._desk.close()
        self._metrics.publish(leaving=True)
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
        if self._lines is not None:
            await asyncio.to_thread(self._lines.close)
        self._faults()
        self._journal.close()
        self._access.close()

    async def _once(self, names: Sequence[str]) -> set[str]:
        return await asyncio.to_thread(self._access.once, names)

    def _keys_changed(self, keys: tuple[VirtualKey, ...]) -> None:
        self._ring.replace(keys)
        self._desk.replace(self._quotas, {key.key_id: key.quotas for key in keys if key.quotas})

    def _staff_changed(self, staff: Staff | None) -> None:
        """Other students are at work from the next request on."""
        self._house.staff = staff

    def _faults(self) -> Mapping[str, str]:
        """What keeps this worker from taking calls."""
        if self._house.keeper.blocked:
            return {"journal": "the journal cannot be written; free space on its disk"}
        return {}

    def _gauges(self) -> None:
        show = self._metrics.gauge
        endpoint, health = self._endpoint, self._house.health
        folder = self._journal_folder
        show("stillhouse_requests_in_flight", "Requests under way.", lambda: endpoint.in_flight)
        told = "Breakers that are not closed, as the number of workers that see it so."
        show("stillhouse_breaker", told, lambda: breakers(health, time.perf_counter()))
        told = "How far the books are behind the journal."
        show("stillhouse_fold", told, lambda: folding(folder), shared=True)
        for name, told, read in student_gauges(folder):
            show(name, told, read, shared=True)

    async def _publish(self) -> None:
        """Leave the counts where the other workers find them."""
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            self._metrics.publish()
            self._faults()  # writes what waits for the journal, if anything does


def alert(told: Alert) -> None:
    """Say on standard error, as a line of JSON, that a soft quota has reached a share."""
    line = orjson.dumps({"alert": "quota", **told._asdict()})
    with suppress(OSError):
        os.write(STDERR, line + b"\n")


def body_keeper() -> Callable[[Route, bytes], str]:
    """Turns a body into what a route's policy lets be kept of it."""
    key = os.urandom(32)

    def keep(route: Route, body: bytes) -> str:
        policy = route.recorded
        if policy is Recorded.FULL:
            return body.decode("utf-8", "replace")
        if policy is Recorded.NONE or not body:
            return ""
        if policy is Recorded.HASHED:
            return hashed(body, key)
        return redact_body(body).decode("utf-8", "replace")

    return keep


class _Several:
    """Tells several watches."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    def done(self, done: Done) -> None:
        """Tell each."""
        for watch in self._watches:
            watch.done(done)


def _watches(watches: Sequence[Watch]) -> Watch:
    return watches[0] if len(watches) == 1 else _Several(watches)


def _tracing(settings: Settings, env: Mapping[str, str]) -> Tracing | None:
    said = settings.tracing
    if not said.otlp_endpoint:
        return None
    headers = {}
    for pair in env.get(said.headers_env, "").split(",") if said.headers_env else ():
        name, _, value = pair.partition("=")
        if name.strip():
            headers[name.strip()] = value.strip()
    upstreams = settings.catalogue.upstreams
    return Tracing(said.otlp_endpoint, upstreams, headers, said.service, said.sample)


def _lines(settings: Settings) -> Lines | None:
    said = settings.logging
    if said.level is Logged.NONE:
        return None
    where = STDERR
    if said.file:
        try:
            where = os.open(said.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise ConfigError(
                f"the log {said.file} cannot be written ({fault.strerror}); give another file in "
                "[logging]"
            ) from fault
    return Lines(where, Level(said.level.value), said.share)


def steering_rows(students: StudentAdmin) -> dict[tuple[str, str], Handler]:
    """The paths by which students are steered."""
    return {
        ("GET", "/admin/students"): students.listing,
        ("POST", "/admin/students/*"): students.steer,
    }


def _rows(models: Models, probes: Probes, admin: Admin) -> dict[tuple[str, str], Handler]:
    """Every path beside the model calls; gateway.openapi describes the same ones."""
    return {
        ("GET", "/v1/models"): models.listing,
        ("GET", "/v1/models/*"): models.one,
        ("POST", "/v1/messages/count_tokens"): models.count_tokens,
        ("GET", "/healthz"): probes.health,
        ("GET", "/readyz"): probes.ready,
        ("GET", "/metrics"): probes.metrics,
        ("GET", "/openapi.json"): Described().document,
        ("GET", "/admin/keys"): admin.keys,
        ("POST", "/admin/keys"): admin.create,
        ("DELETE", "/admin/keys/*"): admin.revoke,
        ("GET", "/admin/budgets"): admin.budgets,
        ("GET", "/admin/spend"): admin.spend,
    }
