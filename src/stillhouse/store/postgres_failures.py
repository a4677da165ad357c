"""What PostgreSQL refuses, in one sentence with a remedy; never a password, never a row's text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from stillhouse.core.errors import StoreError

_UNDONE = "this step was undone whole"

_SENTENCES = {
    "08": "the connection to {place} was lost: {undone}; it is made again by the next step, so see "
    "that the server runs and run this again",
    "25006": "{place} is read-only, as a standby is; give the address of the primary server",
    "40": "{place} put this step off for another one's sake: {undone}; run it again",
    "42501": "the user has no right to do this at {place} ({why}); grant it CREATE on the schema, "
    "or let it own the database",
    "42P07": "{place} holds a table of another program under a name of ours ({why}); give a schema "
    "of its own, as in postgresql://...?schema=stillhouse",
    "53100": "the server has no room left to write {place}: {undone}; free some disk space there "
    "and run it again",
    "53200": "the server at {place} is out of memory: {undone}; run it again when it has some",
    "53": "the server at {place} is short of something ({why}): {undone}",
    "54000": "{place} cannot keep something so long ({why}): {undone}; shorten the tags or names "
    "of this row",
    "55P03": "{place} is being written by another process; wait until it ends and run this again",
    "57014": "{place} stopped this step ({why}): {undone}; raise statement_timeout for this user",
    "57": "the server at {place} ended the connection ({why}): {undone}; see that it runs and run "
    "this again",
    "58": "the disk of {place} failed ({why}): {undone}; check the server's disk",
    "XX": "{place} is damaged or met a fault of its own ({why}); look into the server's log",
}
"""By SQLSTATE, or by its first two characters, which are its class."""


def lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, and not only the step refused."""
    state = error.sqlstate or ""
    if not state:
        return isinstance(error, psycopg.OperationalError)
    return state[:2] == "08" or state in ("57P01", "57P02", "57P03", "57P05")


def sentence(error: psycopg.Error, place: str, undone: str = _UNDONE) -> str:
    """Say a refusal for people; `undone` is what became of the step."""
    state = error.sqlstate or ("08000" if lost(error) else "")
    known = _SENTENCES.get(state) or _SENTENCES.get(state[:2])
    # The primary message names tables and constraints; details would hold what stood in the row.
    why = error.diag.message_primary or str(error).partition("\n")[0].strip()
    if known is None:
        return f"{place} refused this step: {why}"
    return known.format(place=place, why=why, undone=undone)


def unreachable(error: psycopg.Error, place: str) -> str:
    """Say why no connection was made; the server's refusal comes as text alone."""
    words = " ".join(str(error).split())
    why = words.rpartition("FATAL: ")[2].strip()
    why = why.rpartition(" failed: ")[2] if why == words else why
    remedy = next(
        (remedy for said, remedy in _REMEDIES if said in why),
        "see that the server runs there and that --db is right",
    )
    return f"{place} cannot be reached ({why}); {remedy}"


_USER = "give a user and its password in the DSN, in PGPASSWORD or in a .pgpass file"
_REMEDIES = (
    ("starting up", "wait until the server has started"),
    ("shutting down", "wait until the server has started again"),
    ("database", "make the database with createdb, or name another one"),
    ("authentication", _USER),
    ("password", _USER),
    ("role", _USER),
    ("pg_hba.conf", "let this host and user in there"),
    ("connection slots", "raise max_connections, or run fewer processes"),
    ("too many", "raise max_connections, or run fewer processes"),
)


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn every failure of PostgreSQL into a StoreError that names the place and the remedy."""
    try:
        yield
    except psycopg.Error as error:
        raise StoreError(sentence(error, place)) from error
