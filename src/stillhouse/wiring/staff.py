"""The students at work as a worker knows them: the roster followed, the coins' keys."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import get_ident
from typing import Any

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import StoreError
from stillhouse.core.serving import Terms
from stillhouse.core.traffic import Request
from stillhouse.flows.consulting import Staff
from stillhouse.flows.staffing import NOBODY, Roster, roster
from stillhouse.settings.nouns import Settings
from stillhouse.store.opening import existing_store
from stillhouse.students.asking import Asking
from stillhouse.wiring.upstreams import read_request

POLL_SECONDS = 1.0
_KEY_FILE = "coin.key"
_KEY_BYTES = 32


def coin_key(folder: Path) -> bytes:
    """The key of the audit's coin, made once: nobody who picks request ids can foresee a toss.

    It lies beside the journal. A folder that cannot be written costs the key's memory alone.
    """
    file = folder / _KEY_FILE
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            _make_key(file)
        key = file.read_bytes()
        if len(key) == _KEY_BYTES:
            return key
    return os.urandom(_KEY_BYTES)


def _make_key(file: Path) -> None:
    """Put a key there, whole from the first instant; of several processes one does."""
    new = file.with_name(f".{file.name}.{os.getpid()}.{get_ident()}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(os.urandom(_KEY_BYTES))
        with suppress(FileExistsError):
            os.link(new, file)
    finally:
        new.unlink(missing_ok=True)


def canary_key(key: bytes) -> bytes:
    """Another key, so that canaries and audits are chosen independently."""
    return blake2b(b"canary", key=key, digest_size=_KEY_BYTES).digest()


def terms_by(settings: Settings) -> Callable[[str], Terms | None]:
    """The terms of a task by the configuration; None where students may not answer it."""

    def terms(task: str) -> Terms | None:
        return settings.students.terms(task) if settings.students.may_serve(task) else None

    return terms


class StaffRoom:
    """Follows the roster and says so when it has changed; `close` it in the end.

    The database is asked in a thread of its own. While it is away the last roster stays; before
    it was read once the teacher answers everything. What one staff has seen become void stays void
    for the next.
    """

    def __init__(self, database: str, students: Asking, key: bytes, settings: Settings) -> None:
        self._database, self._students, self._key = database, students, key
        self._terms = terms_by(settings)
        self._thread = ThreadPoolExecutor(1, "staff")
        self._store: Any = None
        self._voided: set[tuple[str, int]] = set()
        self._calling: asyncio.Task[None] | None = None

    async def follow(self, changed: Callable[[Staff | None], None]) -> None:
        """Call `changed` with every new staff; ends only by being cancelled."""
        number = NOBODY.number
        loop = asyncio.get_running_loop()
        while True:
            # Whatever is wrong with a store or a row of it: a later withdrawal must not be missed.
            with suppress(Exception):
                found = await loop.run_in_executor(self._thread, self._newer, number)
                if found is not None:
                    changed(self._staff(found))
                    number = found.number
                    self._call_in(found)
            await asyncio.sleep(POLL_SECONDS)

    async def close(self) -> None:
        """Let the database go, and the students."""
        if self._calling is not None:
            self._calling.cancel()
        self._students.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._leave)
        self._thread.shutdown()

    def _call_in(self, found: Roster) -> None:
        """Let the students who may answer be loaded before the first request wants them."""
        digests = [one.policy.student for one in found.servings.values() if one.policy is not None]

        async def call() -> None:
            for digest in digests:
                await self._students.ask_many(digest, ())

        if self._calling is not None:
            self._calling.cancel()
        self._calling = asyncio.create_task(call())

    def _newer(self, than: int) -> Roster | None:
        if self._store is None:
            self._store = existing_store(self._database)
        try:
            if self._store.policy_number() == than:
                return None
            return roster(self._store, self._terms)
        except StoreError:
            self._leave()
            raise

    def _leave(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(StoreError):
                store.close()

    def _staff(self, found: Roster) -> Staff | None:
        if not found.servings:
            return None
        return Staff(
            found.servings,
            found.recognisers,
            self._students,
            reader,
            self._key,
            canary_key(self._key),
            self._voided,
        )


def reader(body: bytes, wire: Wire) -> Request:
    """The conversation in a caller's body."""
    return read_request(body, wire)
