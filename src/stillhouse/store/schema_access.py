"""Tables of access: virtual keys, counters of quotas, leases of workers, and what these used."""

from __future__ import annotations

ACCESS = """
-- what a worker's folded calls used up of each quota counter: written in the same transaction as
-- the calls, so that the leases of a worker that died can be settled to the last digit
CREATE TABLE tallies (
    run TEXT NOT NULL,
    counter TEXT NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (run, counter)
) STRICT;
"""
"""Migration 4 of the books. Keys and counters stand apart from them: see `Access`."""

_KEYS_AND_QUOTAS = """
-- quotas and tags are JSON; the token itself is nowhere
CREATE TABLE access_keys (
    key_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    salt {blob} NOT NULL,
    digest {blob} NOT NULL,
    terms TEXT NOT NULL,
    admin {integer} NOT NULL,
    created_us {integer} NOT NULL,
    expires_us {integer},
    revoked_us {integer}
){strict};

-- one row: how often keys were changed
CREATE TABLE access_version (
    version {integer} NOT NULL
){strict};
INSERT INTO access_version VALUES (0);

-- spent + leased <= most, but for use that no reservation covered; uncovered: how much that was
CREATE TABLE access_counters (
    counter TEXT PRIMARY KEY,
    most {integer} NOT NULL,
    ends_us {integer},
    spent {integer} NOT NULL,
    leased {integer} NOT NULL,
    uncovered {integer} NOT NULL,
    alerted {integer} NOT NULL,
    recalled_us {integer} NOT NULL
){strict};
CREATE INDEX access_counters_ended ON access_counters (ends_us);

-- turn: the last of a worker's draws that was done
CREATE TABLE access_workers (
    worker TEXT PRIMARY KEY,
    turn {integer} NOT NULL,
    beat_us {integer} NOT NULL
){strict};

-- amount: what a worker may still spend; said: how much of its spending the counter has
CREATE TABLE access_leases (
    worker TEXT NOT NULL,
    counter TEXT NOT NULL,
    amount {integer} NOT NULL,
    said {integer} NOT NULL,
    PRIMARY KEY (worker, counter)
){strict};
CREATE INDEX access_leases_of_counter ON access_leases (counter);
"""

_ONCE = """
-- what was counted against quotas already and may be told again: lines of batches' results
CREATE TABLE access_once (
    name TEXT PRIMARY KEY
){strict};
"""

_HELD = """
-- what a worker holds now is little; what it ever held may be a customer for each of its requests
CREATE INDEX access_leases_held ON access_leases (worker, counter) WHERE amount > 0;
"""

_IN_ORDER = (_KEYS_AND_QUOTAS, _ONCE, _HELD)

SQLITE_SCRIPTS: tuple[str, ...] = tuple(
    script.format(blob="BLOB", integer="INTEGER", strict=" STRICT") for script in _IN_ORDER
)
POSTGRES_SCRIPTS: tuple[str, ...] = tuple(
    script.format(blob="BYTEA", integer="BIGINT", strict="") for script in _IN_ORDER
)
"""Scripts in order, append-only; the file or the database knows how many of them it has seen."""
