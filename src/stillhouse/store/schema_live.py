"""Tables of live traffic: what an attempt met on the wire, savings, how far journals are folded."""

from __future__ import annotations

from stillhouse.store.append_only import frozen

LIVE = f"""
-- what repeats from call to call; key_id: of the virtual key, empty for none; status: 0 for none
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY,
    key_id TEXT NOT NULL, upstream TEXT NOT NULL, wire TEXT NOT NULL, fate TEXT NOT NULL,
    status INTEGER NOT NULL,
    UNIQUE (key_id, upstream, wire, fate, status)
) STRICT;

-- one row for each live attempt, none for imported ones; price_id: by which it was charged, NULL
-- where no price was known; usage_body: the provider's usage object as JSON, NULL for none
CREATE TABLE attempt_facts (
    attempt INTEGER PRIMARY KEY REFERENCES attempts,
    outcome INTEGER NOT NULL REFERENCES outcomes,
    price_id TEXT REFERENCES prices,
    first_byte_ms REAL,
    usage_body TEXT,
    error TEXT
) STRICT;

-- what an answer from the cache would have cost, by whose price; never a part of the books
CREATE TABLE savings (
    attempt INTEGER PRIMARY KEY REFERENCES attempts,
    avoided_pico INTEGER NOT NULL,
    basis TEXT NOT NULL
) STRICT;
{frozen("attempt_facts", "savings")}
-- run: one life of one worker; everything before (segment, byte_offset) of its journal is booked
CREATE TABLE folds (
    run TEXT PRIMARY KEY,
    segment INTEGER NOT NULL,
    byte_offset INTEGER NOT NULL,
    exchanges INTEGER NOT NULL
) STRICT;
"""
"""Migration 3."""
