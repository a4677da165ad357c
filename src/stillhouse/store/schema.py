"""The tables, as numbered scripts: what has shipped is never edited, a change is a new script.

Texts, names of models and prices stand once and are referred to by row number, so that a charge
is a few integers. The view `books` shows the charges as people read them.
"""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from stillhouse.core.traffic import LEAVES
from stillhouse.store.append_only import frozen
from stillhouse.store.schema_access import ACCESS
from stillhouse.store.schema_live import LIVE
from stillhouse.store.schema_serving import SERVING

APPLICATION_ID = 0x5374696C  # "Stil"


_BOOKS = f"""
CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE tag_sets (
    id INTEGER PRIMARY KEY,
    task TEXT NOT NULL, team TEXT NOT NULL, customer TEXT NOT NULL,
    feature TEXT NOT NULL, region TEXT NOT NULL,
    UNIQUE (task, team, customer, feature, region)
) STRICT;

-- messages: JSON [[role, text | id in texts], ...]
CREATE TABLE exchanges (
    id INTEGER PRIMARY KEY,
    exchange_id BLOB NOT NULL UNIQUE,
    content BLOB NOT NULL,
    at_us INTEGER,
    tag_set INTEGER NOT NULL REFERENCES tag_sets,
    messages TEXT NOT NULL,
    tools INTEGER REFERENCES texts,
    response_format INTEGER REFERENCES texts,
    answer TEXT NOT NULL,
    tool TEXT NOT NULL,
    tool_arguments TEXT NOT NULL,
    finish TEXT NOT NULL,
    extra TEXT
) STRICT;
CREATE INDEX exchanges_in_time ON exchanges (at_us);

CREATE TABLE routes (
    id INTEGER PRIMARY KEY,
    model TEXT NOT NULL, host TEXT NOT NULL, kind TEXT NOT NULL, service_tier TEXT NOT NULL,
    region TEXT NOT NULL, batch INTEGER NOT NULL, evidence TEXT NOT NULL,
    UNIQUE (model, host, kind, service_tier, region, batch, evidence)
) STRICT;

-- attempt_id: NULL where it is the exchange's own; leaves: NULL where nothing was counted
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    exchange INTEGER NOT NULL REFERENCES exchanges,
    attempt_id TEXT,
    route INTEGER NOT NULL REFERENCES routes,
    at_us INTEGER,
    ok INTEGER NOT NULL,
    latency_ms REAL,
    reported_pico INTEGER,
    reported_currency TEXT,
    {", ".join(f"{leaf} INTEGER" for leaf in LEAVES)}
) STRICT;
CREATE INDEX attempts_of_exchange ON attempts (exchange);
CREATE UNIQUE INDEX attempts_by_id ON attempts (attempt_id) WHERE attempt_id IS NOT NULL;

CREATE TABLE prices (
    price_id TEXT PRIMARY KEY,
    facts TEXT NOT NULL
) STRICT;

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    leaf TEXT NOT NULL, unit TEXT NOT NULL, currency TEXT, cost_source TEXT NOT NULL,
    evidence TEXT NOT NULL, price_id TEXT REFERENCES prices
) STRICT;

-- billed_pico: NULL where unpriced; charge_id: NULL where it is attempt_id, a colon and the leaf
CREATE TABLE charges (
    attempt INTEGER NOT NULL REFERENCES attempts,
    place INTEGER NOT NULL,
    account INTEGER NOT NULL REFERENCES accounts,
    quantity INTEGER NOT NULL,
    billed_pico INTEGER,
    charge_id TEXT,
    reverses TEXT,
    PRIMARY KEY (attempt, place)
) STRICT, WITHOUT ROWID;
{frozen("exchanges", "attempts", "prices", "charges")}

CREATE VIEW books AS SELECT
    lower(hex(e.exchange_id)) AS exchange_id, place,
    datetime(t.at_us / 1000000, 'unixepoch') AS at_utc,
    model, host, leaf, quantity, unit, billed_pico / 1e12 AS billed, currency, cost_source,
    a.evidence, price_id, task, team, customer, feature, reverses
FROM charges
JOIN accounts a ON a.id = account
JOIN attempts t ON t.id = attempt
JOIN routes r ON r.id = t.route
JOIN exchanges e ON e.id = t.exchange
JOIN tag_sets ON tag_sets.id = e.tag_set;

-- occurrences: how often a row without id and time was met so far in an unfinished import
CREATE TABLE imports (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    byte_offset INTEGER NOT NULL,
    line INTEGER NOT NULL,
    new INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    finished INTEGER NOT NULL
) STRICT;
CREATE TABLE occurrences (
    import INTEGER NOT NULL REFERENCES imports,
    digest BLOB NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (import, digest)
) STRICT, WITHOUT ROWID;
"""

_WORK = f"""
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    task TEXT NOT NULL
) STRICT;
CREATE TABLE task_rows (
    exchange INTEGER PRIMARY KEY REFERENCES exchanges,
    task INTEGER NOT NULL REFERENCES tasks,
    slot TEXT NOT NULL
) STRICT;
CREATE INDEX task_rows_of_task ON task_rows (task);

CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,
    task TEXT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL,
    started_us INTEGER NOT NULL, wall_seconds REAL NOT NULL, cpu_seconds REAL NOT NULL,
    cost_pico INTEGER NOT NULL, currency TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;

CREATE TABLE artefacts (
    digest TEXT PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE students (
    task TEXT NOT NULL,
    version INTEGER NOT NULL,
    recipe TEXT NOT NULL,
    artefact TEXT NOT NULL REFERENCES artefacts,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (task, version)
) STRICT;
CREATE TABLE verdicts (
    id INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    verdict TEXT NOT NULL,
    at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX verdicts_of_task ON verdicts (task, version);
CREATE TABLE policy_events (
    id INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    version INTEGER NOT NULL,
    event TEXT NOT NULL,
    why TEXT NOT NULL,
    who TEXT NOT NULL,
    at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX policy_events_of_task ON policy_events (task);
{frozen("jobs", "artefacts", "students", "verdicts", "policy_events")}"""

MIGRATIONS: tuple[str, ...] = (_BOOKS, _WORK, LIVE, ACCESS, SERVING)
"""Scripts in order; `user_version` of a file is how many of them it has seen."""
