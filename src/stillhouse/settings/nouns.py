"""What a configuration says, once it is read and checked; a reload makes a new one.

No secret stands here: keys are named by the environment variables that hold them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from stillhouse.core.catalogue import Catalogue, Recorded
from stillhouse.core.quotas import Quota


class Durability(StrEnum):
    """What an entry of the journal survives before anybody is told of it."""

    PROCESS = "process"
    WINDOW = "window"
    POWER = "power"


class WhenDown(StrEnum):
    """What becomes of calls under a quota while nobody can say what is left of it."""

    DENY = "deny"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Server:
    """Where callers are heard, and how much each of them may take up.

    `hosts` are the names that a request's Host field may have, empty for any; on a loopback address
    an empty list means loopback's own names, so that no web page can call by a name of its own.
    `insecure_open` lets everybody in on an address that others can reach, without a virtual key.
    `when_store_is_down` is about calls under a quota once the leases in hand are used up and the
    quotas' database cannot be asked for more.
    """

    host: str = "127.0.0.1"
    port: int = 4100
    workers: int = 1
    hosts: tuple[str, ...] = ()
    insecure_open: bool = False
    when_store_is_down: WhenDown = WhenDown.DENY
    max_body_bytes: int = 32 * 2**20
    max_header_bytes: int = 64 * 2**10
    max_connections: int = 4096
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    write_seconds: float = 60.0
    keep_alive_seconds: float = 75.0
    drain_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Journaling:
    """Where the journal lies and what its entries survive.

    `process`: the death of the process, not of the machine. `window`: also a power cut, less the
    last `window_ms` milliseconds. `power`: also a power cut, at the price of a disk's sync before
    an answer ends. `keep_days` is how long a journal stays once the books have it. An empty
    `folder` lies beside the database.
    """

    folder: str = ""
    durability: Durability = Durability.WINDOW
    window_ms: float = 200.0
    segment_bytes: int = 64 * 2**20
    keep_days: float = 0.0


@dataclass(frozen=True, slots=True)
class Books:
    """The database: a SQLite file or a PostgreSQL address, and a team's own dated prices.

    `database_env` names the environment variable with the address where it holds a password.
    """

    database: str = "stillhouse.db"
    database_env: str = ""
    prices: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """How much of the bodies is kept where a model's own entry does not say."""

    default: Recorded = Recorded.FULL


@dataclass(frozen=True, slots=True)
class Caching:
    """Room for answers in memory; a model opts in with `cache_seconds`."""

    max_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Metering:
    """Whether `/metrics` is served."""

    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where spans are sent; off without an endpoint. `headers_env` names `NAME=VALUE,...`."""

    otlp_endpoint: str = ""
    headers_env: str = ""
    service: str = "stillhouse"
    sample: float = 1.0


class Logged(StrEnum):
    """Which requests get a line in the log."""

    ALL = "all"
    ERRORS = "errors"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Logging:
    """Lines of JSON about requests, never about what was said in them.

    They go to standard error, or to `file`, at its end. `share` is of the requests that went well.
    """

    level: Logged = Logged.ERRORS
    share: float = 1.0
    file: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration; `source` is the file it came from, or says that there was none."""

    catalogue: Catalogue = field(default_factory=lambda: Catalogue({}, {}))
    server: Server = Server()
    journal: Journaling = Journaling()
    books: Books = Books()
    recording: Recording = Recording()
    cache: Caching = Caching()
    metrics: Metering = Metering()
    tracing: Tracing = Tracing()
    logging: Logging = Logging()
    quotas: tuple[Quota, ...] = ()
    source: str = ""
