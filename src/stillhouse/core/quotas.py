"""Who may use how much: virtual keys, quotas on money, requests, tokens and concurrent calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from stillhouse.core.nouns import Noun
from stillhouse.core.traffic import Tags


class Unit(StrEnum):
    """What a quota counts; money in millionths of a millionth of a dollar."""

    COST = "cost"
    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"


class Window(StrEnum):
    """Over which time a quota holds, in UTC calendar windows; `now` is for concurrent calls."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"
    NOW = "now"


class Scope(StrEnum):
    """Whose use a quota counts; EVERYBODY is the whole endpoint."""

    KEY = "key"
    TEAM = "team"
    CUSTOMER = "customer"
    FEATURE = "feature"
    MODEL = "model"
    EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` of a unit in each window, for one name of a scope (`*`: for each by itself).

    `soft` is an alert and refuses nothing. `limit` is pico-dollars for money.
    """

    scope: Scope
    name: str
    unit: Unit
    window: Window
    limit: int
    soft: bool = False

    @property
    def quota_id(self) -> str:
        """Stable name of the counter, without the window's start."""
        kind = "soft" if self.soft else "hard"
        return f"{self.scope}:{self.name}:{self.unit}:{self.window}:{kind}"


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A caller's key: only `salt` and `digest` of the token are kept, never the token.

    `models` are patterns of the public names that it may call; empty for all. `tags` are what its
    calls are booked under where the caller names nothing finer. `students` says whether a student
    may answer its calls.
    """

    key_id: str
    name: str
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    tags: Tags = field(default_factory=Tags)
    models: tuple[str, ...] = ()
    quotas: tuple[Quota, ...] = ()
    admin: bool = False
    created_us: int = 0
    expires_us: int | None = None
    revoked_us: int | None = None
    students: bool = True


class Denied(NamedTuple):
    """A quota says no: which one, in one sentence, and when asking again may help."""

    quota: Quota | None
    sentence: str
    retry_after_seconds: float | None = None


class Need(Noun):
    """What one request may use at most, reserved before it goes upstream.

    `cost_pico` is None where no price is known: no money quota lets such a request pass, unless
    `allow_unpriced` says that it may. `tokens` counts input and output together.
    """

    cost_pico: int | None
    tokens: int
    allow_unpriced: bool = False


class Hold(Noun):
    """What was set aside for a request: names of counters, and how much of each."""

    counters: tuple[str, ...]
    amounts: tuple[int, ...]


class Draw(NamedTuple):
    """What one worker tells the shared store of one counter, and asks of it.

    `used` has been spent out of its lease since it last said so, `over` of it beyond what was
    reserved; `returned` goes back. `asked` would serve all who wait, `least` the most modest one of
    them; 0 where nobody waits. `usual` is what the worker would like to have in hand. `ends_us` is
    the end of the counter's window, None where it has none.
    """

    counter: str
    limit: int
    ends_us: int | None = None
    used: int = 0
    over: int = 0
    returned: int = 0
    asked: int = 0
    least: int = 0
    usual: int = 0
    soft: bool = False


class Standing(NamedTuple):
    """How a counter stands in the shared store, seen by one worker.

    `leased` is out with all workers together and `mine` with this one. `over` was used beyond what
    was reserved. `alerted` is the share of the limit, in percent, whose alert has been given.
    `recalled_us` is when idle leases were last asked back.
    """

    limit: int
    spent: int = 0
    leased: int = 0
    over: int = 0
    alerted: int = 0
    recalled_us: int = 0
    mine: int = 0
    alert: int = 0

    @property
    def remaining(self) -> int:
        """What is neither spent nor leased; below 0 where more was used than was reserved."""
        return self.limit - self.spent - self.leased


class Alert(NamedTuple):
    """A soft quota has reached a share of its limit, in percent: said once in each window."""

    counter: str
    percent: int
    spent: int
    limit: int
