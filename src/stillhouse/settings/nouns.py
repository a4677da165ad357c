"""What a configuration says, once it is read and checked; a reload makes a new one.

No secret stands here: keys are named by the environment variables that hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

from stillhouse.core.catalogue import Catalogue, Recorded
from stillhouse.core.learning import Target
from stillhouse.core.quotas import Quota
from stillhouse.core.serving import Terms


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


class Hand(StrEnum):
    """Who does something: a person, by a command, or the endpoint by itself."""

    MANUAL = "manual"
    AUTO = "auto"


class OnInputs(StrEnum):
    """What is done where a student's inputs have changed, which proves no harm yet."""

    NOTICE = "notice"
    RAISE = "raise"
    STOP = "stop"


class OtherTeacher(StrEnum):
    """What becomes of a certificate when its task is asked of another model or prompt."""

    VOID = "void"
    DEFER = "defer"


class OnAlarm(StrEnum):
    """What becomes of a student whose audits disagree too often."""

    RAISE = "raise"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class TaskStudents:
    """What one task has otherwise than the rest; None where it has it like them."""

    enabled: bool | None = None
    shadow_share: float | None = None
    promote: Hand | None = None
    bridge: bool | None = None
    run_length: float | None = None
    on_alarm: OnAlarm | None = None
    on_inputs: OnInputs | None = None
    other_teacher: OtherTeacher | None = None
    canary_share: float | None = None


@dataclass(frozen=True, slots=True)
class Students:
    """What students may do, and who is told of it.

    `shadow_budget` caps the teacher's calls that are made for audits alone, as a virtual key's own
    quotas would (see core.serving.SHADOW_KEY); quotas of everybody count them as well.
    `webhook_secret_env` names the environment variable with the secret that notices are signed by.

    >>> students = Students(tasks={"intent": TaskStudents(shadow_share=0.2)})
    >>> students.terms("intent").shadow_share, students.terms("spam").shadow_share
    (0.2, 0.05)
    """

    enabled: bool = True
    shadow_share: float = 0.05
    promote: Hand = Hand.MANUAL
    bridge: bool = False
    run_length: float = 5000.0
    deadline_ms: float = 250.0
    on_alarm: OnAlarm = OnAlarm.RAISE
    on_inputs: OnInputs = OnInputs.NOTICE
    other_teacher: OtherTeacher = OtherTeacher.VOID
    canary_share: float = 1.0
    retrain: Hand = Hand.MANUAL
    retrain_rows: int = 2000
    first_rows: int = 1000
    max_risk: float = 0.05
    confidence: float = 0.95
    shadow_budget: tuple[Quota, ...] = ()
    webhook_url: str = ""
    webhook_secret_env: str = ""
    webhook_allow_private: bool = False
    tasks: Mapping[str, TaskStudents] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """What automatic distilling aims at."""
        return Target(self.max_risk, self.confidence)

    def terms(self, task: str) -> Terms:
        """How a task's student is used."""
        said = self._said(task)
        return Terms(
            shadow_share=said.shadow_share,
            auto_promote=said.promote is Hand.AUTO,
            bridge=said.bridge,
            run_length=said.run_length,
            deadline_seconds=said.deadline_ms / 1000,
            on_alarm=said.on_alarm,
            on_inputs=said.on_inputs,
            other_teacher=said.other_teacher,
            canary_share=said.canary_share,
        )

    def may_serve(self, task: str) -> bool:
        """Whether a student of this task may be asked at all."""
        return self.enabled and self._said(task).enabled

    def _said(self, task: str) -> Students:
        own = self.tasks.get(task)
        if own is None:
            return self
        said = {one.name: getattr(own, one.name) for one in fields(own)}
        return replace(self, **{name: v for name, v in said.items() if v is not None})


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
    students: Students = Students()
