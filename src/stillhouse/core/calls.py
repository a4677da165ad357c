"""What goes through the endpoint: a caller's request, a call upstream, and what came of it.

These are made many thousand times a second, so they are structs (`core.nouns`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from stillhouse.core.books import Charge
from stillhouse.core.catalogue import Wire
from stillhouse.core.nouns import Noun
from stillhouse.core.serving import Consultation
from stillhouse.core.traffic import Attempt, Tags

Headers = list[tuple[bytes, bytes]]
"""Header fields as ASGI has them: names in lower case."""


class Ask(Noun):
    """What a peek into a request's body says, without reading it whole.

    `max_output_tokens` is None where the caller set no limit; `choices` is how many answers are
    asked for. `wants_usage` says that a streaming chat caller asked for the usage event itself.
    `deterministic` says that the same request may be answered from a cache.
    """

    wire: Wire
    model: str
    stream: bool = False
    max_output_tokens: int | None = None
    choices: int = 1
    wants_usage: bool = False
    deterministic: bool = False
    service_tier: str = ""
    images: int = 0
    metadata: Mapping[str, object] | None = None


class Seen(Noun):
    """What an answer's body or stream says of itself: what the books need, and no more.

    `usage_body` is the provider's usage object as received, None where it holds none. `model` is
    the model that answered. `complete` is False where a stream ended without its last event or a
    body is cut. `error` is the text of an error event inside a stream. `partial` says that the
    usage is only what a stream said at its beginning, before there was any output to count.
    """

    usage_body: Mapping[str, object] | None = None
    model: str = ""
    service_tier: str = ""
    reported_cost: object = None
    complete: bool = True
    error: str = ""
    partial: bool = False


class Fate(StrEnum):
    """How a call upstream ended.

    WITHDRAWN is one whose caller left before a byte of it did; OUTRUN is a hedged one whose twin
    answered first.
    """

    OK = "ok"
    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    STATUS = "status"
    TRUNCATED = "truncated"
    GARBAGE = "garbage"
    DROPPED = "dropped"
    TOO_LARGE = "too_large"
    CALLER_GONE = "caller_gone"
    WITHDRAWN = "withdrawn"
    OUTRUN = "outrun"
    INTERRUPTED = "interrupted"

    @property
    def sent(self) -> bool:
        """Whether the upstream may have seen the request at all."""
        return self not in _NEVER_SENT


_NEVER_SENT = frozenset((Fate.REFUSED, Fate.DNS, Fate.TLS, Fate.CONNECT_TIMEOUT, Fate.WITHDRAWN))


class UpstreamCall(Noun):
    """One call as it goes out: `path` follows the upstream's base URL (`/chat/completions`).

    `caller_key` is the caller's own provider key where the upstream lets it pass; never logged.
    `max_answer_bytes` is for answers that are passed on in pieces and may be long; 0 for the usual.
    `attempt_id` goes out as `x-stillhouse-attempt`, where there is one.
    """

    wire: Wire
    method: str
    path: str
    model: str
    body: bytes
    stream: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()
    caller_key: str = ""
    max_answer_bytes: int = 0
    attempt_id: str = ""

    def __repr__(self) -> str:
        return f"UpstreamCall({self.method} {self.path}, {self.model}, {len(self.body)} bytes)"


class Started(Noun):
    """Journal: a call is about to go upstream; should nothing more be heard, it is booked so.

    `asked` is the caller's body as the route's policy lets it be kept, only in the first attempt of
    an exchange; `asked_bytes` its length. `expected_output_tokens` is what an unheard answer is
    taken to have. `claims` are the quota counters that the call draws on. `wire` is the caller's,
    `spoken` the upstream's where that is another one. `consultation` says what a student was asked
    about the request: with the first attempt of an exchange alone.
    """

    exchange_id: str
    attempt: Attempt
    wire: str
    upstream: str
    tags: Tags
    key_id: str = ""
    price_id: str = ""
    asked: str = ""
    asked_bytes: int = 0
    expected_output_tokens: int = 0
    claims: tuple[str, ...] = ()
    spoken: str = ""
    consultation: Consultation | None = None


class Ended(Noun):
    """Journal: a call ended, with what it used and cost; `last` closes its exchange.

    `answer` is the body as kept (of a stream: the events joined to one body's worth of bytes),
    `streamed` says which. `usage_body` is the provider's usage object as JSON text.
    `avoided_pico` is what a cached answer would have cost, `basis` by whose price. `upstream` is
    the name of the one that was called.
    """

    exchange_id: str
    attempt: Attempt
    charges: tuple[Charge, ...]
    fate: Fate
    status: int = 0
    first_byte_ms: float | None = None
    usage_body: str = ""
    answer: str = ""
    streamed: bool = False
    error: str = ""
    last: bool = True
    avoided_pico: int = 0
    basis: str = ""
    upstream: str = ""


Entry = Started | Ended
"""What a journal holds."""


class Done(Noun):
    """A request that has ended, for those who watch: never bodies, never secrets.

    `status` is what the caller was sent. `cost_pico` is None where a part is unpriced.
    `overhead_seconds` is the time that the endpoint itself took: all of it less the wait for
    upstreams. `refused_by` is the id of the quota that said no. `traceparent` is the caller's own
    W3C header of that name, empty where it sent none. `consultation` says what a student was asked
    about the request, and `student_seconds` for how long it was waited for.
    """

    exchange_id: str
    at_us: int
    wire: Wire
    model: str
    key_id: str
    tags: Tags
    status: int
    stream: bool
    attempts: tuple[Ended, ...]
    cost_pico: int | None
    seconds: float
    overhead_seconds: float
    first_byte_seconds: float | None = None
    cached: bool = False
    refused_by: str = ""
    traceparent: str = ""
    consultation: Consultation | None = None
    student_seconds: float = 0.0
