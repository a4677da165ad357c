"""What may be called: upstreams, the models they serve, and under which terms of endurance.

Read from the configuration once and never changed: a reload makes a new Catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Wire(StrEnum):
    """A wire format: what a caller or an upstream speaks."""

    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    DECISIONS = "decisions"
    SYSTEMONE = "systemone"


class Recorded(StrEnum):
    """How much of the bodies of a route's calls is kept."""

    FULL = "full"
    REDACTED = "redacted"
    HASHED = "hashed"
    NONE = "none"


class OnDisconnect(StrEnum):
    """What becomes of a call upstream whose caller has left."""

    CANCEL = "cancel"
    DRAIN = "drain"


class Balance(StrEnum):
    """How one of several deployments is chosen."""

    WEIGHT = "weight"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a call may take, in seconds: to connect, to the first byte, in all."""

    connect_seconds: float = 5.0
    first_byte_seconds: float = 120.0
    total_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """One place that serves models, and how to reach it.

    `kind` is `http`, `replay`, `scripted` or `any-llm`; `wires` are the formats that it speaks,
    the first one where a translation has to choose. `host` is its name in the price book. `key_env`
    names the environment variable with the key; the key itself never stands in a noun. `models` are
    patterns (`gpt-*`) of the model names that it serves without a route of their own.
    `pass_caller_key` hands the caller's own provider key on. `options` belong to the kind.
    """

    name: str
    kind: str = "http"
    wires: tuple[Wire, ...] = (Wire.CHAT,)
    base_url: str = ""
    host: str = ""
    region: str = ""
    key_env: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    timeouts: Timeouts = Timeouts()
    max_concurrency: int = 256
    proxy: str = ""
    http2: bool = False
    verify_tls: bool = True
    ca_file: str = ""
    allow_private: bool = False
    pass_caller_key: bool = False
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model at one upstream, with its share of a route's traffic."""

    upstream: str
    model: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Route:
    """What a public model name stands for, and how its calls are treated.

    `fallbacks` are names of other routes, tried in order once this one's deployments have failed.
    `max_attempts` counts all calls upstream for one request; `pay_twice` lets one that timed out
    after it was sent be made again, although both may be billed. `hedge_after_seconds` is off when
    None. `cache_seconds` of 0 is no cache. `max_output_tokens` is reserved under a budget for
    requests that set no limit themselves. `params` are limits on what callers may send, by wire
    name; empty for none.
    """

    name: str
    deployments: tuple[Deployment, ...]
    aliases: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    balance: Balance = Balance.WEIGHT
    max_attempts: int = 3
    pay_twice: bool = False
    hedge_after_seconds: float | None = None
    recorded: Recorded = Recorded.FULL
    cache_seconds: int = 0
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    max_output_tokens: int = 4096
    allow_unpriced: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All upstreams and routes; `version` is a digest of the configuration that they come from.

    `usual` says how a model without a route of its own is treated; its name and deployments count
    for nothing.
    """

    upstreams: Mapping[str, Upstream]
    routes: Mapping[str, Route]
    version: str = ""
    usual: Route = Route("*", ())
