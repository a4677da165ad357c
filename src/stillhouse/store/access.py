"""Who may call and how much: virtual keys, counters of quotas, leases of workers.

Kept apart from the books, so that a call needs neither them nor their database: in a SQLite file of
their own (`<db>.access`), or in PostgreSQL over a connection of their own.
"""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self

import orjson
from msgspec.structs import asdict

from stillhouse.core.errors import CallerError
from stillhouse.core.quotas import Draw, Quota, Scope, Standing, Unit, VirtualKey, Window
from stillhouse.core.traffic import Tags
from stillhouse.store.access_postgres import PostgresTables
from stillhouse.store.access_tables import SqliteTables, Step
from stillhouse.store.opening import is_dsn

Rule = Callable[[Draw, Standing, int], Standing]

SILENT_US = 10 * 10**6
"""A worker that has said nothing for so long no longer counts for concurrent calls."""

KEPT_US = 7 * 86400 * 10**6
"""How long a counter is kept after its window, for those who ask what was spent."""

_CONCURRENT = ":now:hard@0"
_AT_ONCE = 500


class Tables(Protocol):
    """A place for the tables."""

    def step(self, *, writes: bool = True) -> AbstractContextManager[Step]:
        """One transaction."""
        ...

    def close(self) -> None:
        """Let go of the place."""
        ...


def beside(books: Path | str) -> Path | str:
    """Where keys and quotas stand for these books: a file beside theirs, or the same DSN.

    >>> str(beside(Path("data/stillhouse.db"))), beside("postgresql://me@db/books")
    ('data/stillhouse.db.access', 'postgresql://me@db/books')
    """
    if _is_dsn(books):
        return books
    path = Path(books)
    return path.with_name(f"{path.name}.access")


def _is_dsn(place: Path | str) -> bool:
    return isinstance(place, str) and is_dsn(place)


class Access:
    """Keys, counters and leases in one place; may be called from any thread.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, Access(Path(folder) / "s.db.access") as access:
    ...     access.add_key(VirtualKey("k1", "Rosa", b"salt", b"digest"))
    ...     access.revoke_key("k1", at_us=7)
    ...     [(key.name, key.revoked_us) for key in access.keys()], access.keys_version()
    ([('Rosa', 7)], 2)
    """

    def __init__(self, place: Path | str) -> None:
        self._tables: Tables
        if _is_dsn(place):
            self._tables = PostgresTables(str(place))
        else:
            self._tables = SqliteTables(Path(place))

    def add_key(self, key: VirtualKey) -> None:
        """Keep a new key; CallerError where its id is taken."""
        terms: dict[str, object] = {
            "tags": asdict(key.tags),
            "models": key.models,
            "quotas": [[q.scope, q.name, q.unit, q.window, q.limit, q.soft] for q in key.quotas],
        }
        if not key.students:
            terms["students"] = False
        with self._tables.step() as step:
            added = step.rows(
                "INSERT INTO access_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (key_id) DO NOTHING RETURNING key_id",
                *(key.key_id, key.name, key.salt, key.digest),
                *(orjson.dumps(terms).decode(), int(key.admin)),
                *(key.created_us, key.expires_us, key.revoked_us),
            )
            if not added:
                raise CallerError(f"there is a key {key.key_id!r} already; give another id")
            step.rows("UPDATE access_version SET version = version + 1")

    def revoke_key(self, key_id: str, at_us: int) -> None:
        """Make a key worthless from an instant on; the first revocation of a key stands."""
        with self._tables.step() as step:
            known = step.rows(
                "UPDATE access_keys SET revoked_us = coalesce(revoked_us, ?) WHERE key_id = ? "
                "RETURNING key_id",
                at_us,
                key_id,
            )
            if not known:
                raise CallerError(f"there is no key {key_id!r}; see `stillhouse keys list`")
            step.rows("UPDATE access_version SET version = version + 1")

    def keys(self) -> tuple[VirtualKey, ...]:
        """All keys in the order of their making, revoked ones included."""
        with self._tables.step(writes=False) as step:
            rows = step.rows(
                "SELECT key_id, name, salt, digest, terms, admin, created_us, expires_us, "
                "revoked_us FROM access_keys ORDER BY created_us, key_id"
            )
        return tuple(_key(*row) for row in rows)

    def keys_version(self) -> int:
        """How often keys were changed."""
        with self._tables.step(writes=False) as step:
            version: int = step.rows("SELECT version FROM access_version")[0][0]
        return version

    def draw(
        self, worker: str, turn: int, at_us: int, draws: Sequence[Draw], rule: Rule
    ) -> list[Standing]:
        """Put a worker's draws to the counters, all or none; see `core.ports.Counters`.

        Counters are taken in the order of their names, so that two workers never wait for each
        other.
        """
        with self._tables.step() as step:
            [(done,)] = step.rows(
                "INSERT INTO access_workers VALUES (?, 0, ?) ON CONFLICT (worker) "
                "DO UPDATE SET beat_us = excluded.beat_us RETURNING turn",
                worker,
                at_us,
            )
            known = done >= turn
            stood = {
                draw.counter: _standing(step, worker, draw)
                if known
                else _draw(step, worker, at_us, draw, rule)
                for draw in sorted(draws)
            }
            if not known:
                step.rows("UPDATE access_workers SET turn = ? WHERE worker = ?", turn, worker)
        return [stood[draw.counter] for draw in draws]

    def recalled(self, worker: str, since_us: int) -> list[str]:
        """Counters of which a worker holds a lease that was asked back since an instant."""
        with self._tables.step(writes=False) as step:
            rows = step.rows(
                "SELECT counter FROM access_leases WHERE worker = ? AND amount > 0 AND EXISTS "
                "(SELECT 1 FROM access_counters WHERE access_counters.counter = "
                "access_leases.counter AND recalled_us > ?)",
                worker,
                since_us,
            )
        return [counter for (counter,) in rows]

    def leave(self, worker: str) -> None:
        """Give back what a worker holds, and forget it."""
        self.recover(worker, {})

    def recover(self, worker: str, used: Mapping[str, int]) -> bool:
        """Settle the leases of a worker that is no more; False where it had left or is unknown.

        `used` is what its journal says that it used of each counter from its start to its end:
        what the counters have not been told of that is spent now, the rest of its leases is free.
        A worker must be dead when it is recovered: a live one would go on with leases it has lost.
        """
        with self._tables.step() as step:
            question = "SELECT 1 FROM access_workers WHERE worker = ?" + step.for_update
            if not step.rows(question, worker):
                return False
            leases = step.rows("SELECT counter FROM access_leases WHERE worker = ?", worker)
            for counter in sorted({counter for (counter,) in leases} | used.keys()):
                _settle(step, worker, counter, used.get(counter))
            step.rows("DELETE FROM access_leases WHERE worker = ?", worker)
            step.rows("DELETE FROM access_workers WHERE worker = ?", worker)
        return True

    def workers(self) -> dict[str, int]:
        """Workers that have not left, with the microsecond at which each was last heard."""
        with self._tables.step(writes=False) as step:
            return dict(step.rows("SELECT worker, beat_us FROM access_workers ORDER BY worker"))

    def counters(self) -> dict[str, Standing]:
        """How every counter stands that is still kept; `mine` is nobody's."""
        with self._tables.step(writes=False) as step:
            rows = step.rows(
                "SELECT counter, most, spent, leased, uncovered, alerted, recalled_us "
                "FROM access_counters ORDER BY counter"
            )
        return {counter: Standing(*facts) for counter, *facts in rows}

    def once(self, names: Sequence[str]) -> set[str]:
        """Which of these names were never given before; from now on they were.

        For what may be told twice and must count once, such as a line of a batch's results.
        """
        new: set[str] = set()
        with self._tables.step() as step:
            ordered = sorted(set(names))  # in one order, so that nobody waits in a ring
            for start in range(0, len(ordered), _AT_ONCE):
                some = ordered[start : start + _AT_ONCE]
                holes = ", ".join(["(?)"] * len(some))
                rows = step.rows(
                    f"INSERT INTO access_once VALUES {holes} ON CONFLICT (name) DO NOTHING "
                    "RETURNING name",
                    *some,
                )
                new.update(name for (name,) in rows)
        return new

    def forget(self, at_us: int) -> int:
        """Drop counters whose window ended long ago; how many they were."""
        with self._tables.step() as step:
            gone = step.rows(
                "DELETE FROM access_counters WHERE ends_us < ? RETURNING counter", at_us - KEPT_US
            )
            step.many("DELETE FROM access_leases WHERE counter = ?", gone)
        return len(gone)

    def close(self) -> None:
        """Let go of the tables."""
        self._tables.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _standing(step: Step, worker: str, draw: Draw) -> Standing:
    rows = step.rows(
        "SELECT most, spent, leased, uncovered, alerted, recalled_us FROM access_counters "
        "WHERE counter = ?" + step.for_update,
        draw.counter,
    )
    mine = step.rows(
        "SELECT amount FROM access_leases WHERE worker = ? AND counter = ?", worker, draw.counter
    )
    if not rows:
        return Standing(draw.limit)
    return Standing(*rows[0])._replace(mine=mine[0][0] if mine else 0)


def _draw(step: Step, worker: str, at_us: int, draw: Draw, rule: Rule) -> Standing:
    """Put one draw to its counter by the rule, which stands in another room."""
    step.rows(
        "INSERT INTO access_counters VALUES (?, ?, ?, 0, 0, 0, 0, 0) "
        "ON CONFLICT (counter) DO NOTHING",
        *(draw.counter, draw.limit, draw.ends_us),
    )
    before = _standing(step, worker, draw)
    after = rule(draw, before, at_us)
    if draw.asked and after.mine <= before.mine and draw.counter.endswith(_CONCURRENT):
        freed = _free_silent(step, draw.counter, at_us)
        if freed:
            before = before._replace(leased=before.leased - freed)
            after = rule(draw, before, at_us)
    step.rows(
        "UPDATE access_counters SET most = ?, ends_us = ?, spent = ?, leased = ?, uncovered = ?, "
        "alerted = ?, recalled_us = ? WHERE counter = ?",
        *(after.limit, draw.ends_us, after.spent, after.leased, after.over, after.alerted),
        *(after.recalled_us, draw.counter),
    )
    step.rows(
        "INSERT INTO access_leases VALUES (?, ?, ?, ?) ON CONFLICT (worker, counter) DO UPDATE "
        "SET amount = excluded.amount, said = access_leases.said + excluded.said",
        *(worker, draw.counter, after.mine, draw.used),
    )
    return after


def _settle(step: Step, worker: str, counter: str, used: int | None) -> None:
    """End one lease: spend what was used and not yet said; its counter is locked meanwhile."""
    step.rows(
        "INSERT INTO access_counters VALUES (?, 0, NULL, 0, 0, 0, 0, 0) "
        "ON CONFLICT (counter) DO NOTHING",
        counter,
    )
    step.rows("SELECT 1 FROM access_counters WHERE counter = ?" + step.for_update, counter)
    lease = step.rows(
        "SELECT amount, said FROM access_leases WHERE worker = ? AND counter = ?", worker, counter
    )
    amount, said = lease[0] if lease else (0, 0)
    unsaid = max(0, (used or 0) - said)
    step.rows(
        "UPDATE access_counters SET spent = spent + ?, leased = leased - ?, "
        "uncovered = uncovered + ? WHERE counter = ?",
        *(unsaid, amount, max(0, unsaid - amount), counter),
    )


def _free_silent(step: Step, counter: str, at_us: int) -> int:
    """Take the places for concurrent calls from workers that are silent: their calls are over."""
    silent = (
        "WHERE counter = ? AND amount > 0 AND worker IN "
        "(SELECT worker FROM access_workers WHERE beat_us < ?)"
    )
    bound = (counter, at_us - SILENT_US)
    [(freed,)] = step.rows(f"SELECT coalesce(sum(amount), 0) FROM access_leases {silent}", *bound)
    if freed:
        step.rows(f"UPDATE access_leases SET amount = 0 {silent}", *bound)
    return int(freed)


def _key(
    key_id: str,
    name: str,
    salt: bytes,
    digest: bytes,
    terms: str,
    admin: int,
    created_us: int,
    expires_us: int | None,
    revoked_us: int | None,
) -> VirtualKey:
    kept = orjson.loads(terms)
    quotas = tuple(
        Quota(Scope(scope), name, Unit(unit), Window(window), limit, soft)
        for scope, name, unit, window, limit, soft in kept["quotas"]
    )
    return VirtualKey(
        key_id,
        name,
        salt,
        digest,
        Tags(**kept["tags"]),
        tuple(kept["models"]),
        quotas,
        bool(admin),
        created_us,
        expires_us,
        revoked_us,
        kept.get("students", True),  # keys of before students came have no word of them
    )
