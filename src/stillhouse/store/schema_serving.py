"""Tables of students at work: what they may be asked, what they said, what is still to be asked."""

from __future__ import annotations

from stillhouse.store.append_only import frozen

SERVING = f"""
-- what a change of who answers sets, as JSON
ALTER TABLE policy_events ADD COLUMN detail TEXT NOT NULL DEFAULT '{{}}';

-- by which artefact the requests of today's tasks are known; no row: by none
CREATE TABLE recogniser (
    artefact TEXT PRIMARY KEY REFERENCES artefacts
) STRICT;

CREATE TABLE charters (
    task TEXT NOT NULL,
    version INTEGER NOT NULL,
    charter TEXT NOT NULL,
    PRIMARY KEY (task, version)
) STRICT;

-- what repeats from request to request
CREATE TABLE student_versions (
    id INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    version INTEGER NOT NULL,
    UNIQUE (task, version)
) STRICT;

-- score: NULL where it is no number; about: exchange_id that a shadow call audits, NULL for the
-- caller's own request
CREATE TABLE consultations (
    exchange INTEGER PRIMARY KEY REFERENCES exchanges,
    student_version INTEGER NOT NULL REFERENCES student_versions,
    label TEXT NOT NULL,
    score REAL,
    threshold REAL,
    answerer TEXT NOT NULL,
    coin INTEGER NOT NULL,
    reason TEXT NOT NULL,
    about BLOB,
    voids TEXT NOT NULL,
    key_id TEXT NOT NULL
) STRICT;
CREATE INDEX consultations_of_version ON consultations (student_version);

-- teacher's answers that are still to be asked for; gone with the body once they are, or given up
CREATE TABLE shadow_calls (
    exchange INTEGER PRIMARY KEY REFERENCES consultations,
    tries INTEGER NOT NULL,
    not_before_us INTEGER NOT NULL,
    wire TEXT NOT NULL,
    model TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE shadow_tallies (
    student_version INTEGER PRIMARY KEY REFERENCES student_versions,
    done INTEGER NOT NULL,
    given_up INTEGER NOT NULL
) STRICT;

-- audited rows in the order of their stream; exchange_id: of the caller's request
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY,
    student_version INTEGER NOT NULL REFERENCES student_versions,
    exchange_id BLOB NOT NULL,
    at_us INTEGER NOT NULL,
    score REAL,
    label TEXT NOT NULL,
    taught TEXT NOT NULL,
    served INTEGER NOT NULL,
    UNIQUE (student_version, exchange_id)
) STRICT;
CREATE INDEX evidence_in_order ON evidence (student_version, id);
{frozen("charters", "consultations", "evidence")}
-- place: everything up to this row of exchanges was looked at
CREATE TABLE watch_places (
    name TEXT PRIMARY KEY,
    place INTEGER NOT NULL
) STRICT;

-- facts: JSON; delivered_us: NULL for what is still to be told
CREATE TABLE notices (
    id INTEGER PRIMARY KEY,
    notice_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL,
    sentence TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    facts TEXT NOT NULL,
    tries INTEGER NOT NULL,
    not_before_us INTEGER NOT NULL,
    delivered_us INTEGER
) STRICT;
CREATE INDEX notices_undelivered ON notices (id) WHERE delivered_us IS NULL;
"""
"""Migration 5."""
