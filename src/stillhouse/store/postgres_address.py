"""Where a PostgreSQL database is: read from a DSN, and told again without its password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from stillhouse.core.errors import StoreError

_MANNERS = {
    "application_name": "stillhouse",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""A server that vanished without a word is noticed within a minute; the DSN may say otherwise."""

_UNREADABLE = (
    "the address of the PostgreSQL database cannot be read; write "
    "postgresql://USER:PASSWORD@HOST:PORT/NAME, with %40, %2F, %3A and %3F for @ / : ? in the "
    "password"
)


@dataclass(frozen=True, slots=True)
class Address:
    """`conninfo` is for the driver and holds the password; `place` is for people and does not.

    `schema` is where the tables are, empty where the connection's search path decides.
    """

    place: str
    conninfo: str = field(repr=False)
    schema: str = ""

    @property
    def file_name(self) -> str:
        """A name for files that belong to this database."""
        told = self.place.removeprefix("postgresql://").rpartition("@")[2]
        return "-".join(["stillhouse", *filter(None, re.split(r"\?schema=|[^\w.]+", told))])


def read_address(dsn: str) -> Address:
    """Read a DSN as libpq does, and `schema=NAME` among its parameters besides.

    Raises StoreError without a word of the DSN, for what cannot be read may hold a password.

    >>> read_address("postgresql://ana:secret@db.local/books?schema=spend").place
    'postgresql://ana@db.local/books?schema=spend'
    """
    # As libpq reads it: a name and a password end at the first @ that no slash precedes.
    start = dsn.index("://") + 3
    authority = dsn[start:].partition("/")[0]
    start += authority.find("@") + 1
    head, _, query = dsn[start:].partition("?")
    pairs = [part.partition("=") for part in query.split("&") if part]
    schema = next((unquote(value) for name, _, value in pairs if name == "schema"), "")
    rest = "&".join(
        f"{name}={quote(unquote(value))}" for name, _, value in pairs if name != "schema"
    )
    try:
        facts = conninfo_to_dict(f"{dsn[:start]}{head}?{rest}")
    except ProgrammingError:
        raise StoreError(_UNREADABLE) from None
    told = {name: str(value) for name, value in facts.items() if value is not None}
    host, port, name = (told.get(fact, "") for fact in ("host", "port", "dbname"))
    # A password that is not quoted spills into its neighbours, and from there into messages.
    if "@" in host + name or not (port or "0").replace(",", "0").isdigit():
        raise StoreError(_UNREADABLE)
    user = f"{quote(told['user'], safe='')}@" if "user" in told else ""
    where = quote(host, safe=",:[]") + (f":{port}" if port else "")
    tail = f"?schema={quote(schema)}" if schema else ""
    return Address(
        f"postgresql://{user}{where}/{name}{tail}", make_conninfo(**_MANNERS | told), schema
    )
