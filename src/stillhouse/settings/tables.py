"""Every table of the file and every key in it: what it holds and what it does.

The reader, the messages and the reference page all come from here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from stillhouse.core.catalogue import Balance, OnDisconnect, Recorded, Wire
from stillhouse.core.quotas import Window
from stillhouse.settings import nouns
from stillhouse.settings.complaints import At, Complaints, names_secret, nearest, shown
from stillhouse.settings.kinds import (
    ANY,
    ENV_NAME,
    FLAG,
    HEADERS,
    MONEY,
    SIZE,
    TABLE,
    TEXT,
    TEXTS,
    Field,
    KindError,
    number,
    one_of,
    some_of,
    whole,
)
from stillhouse.settings.student_tables import STUDENTS, STUDENTS_PROMISE

SECONDS = number(0, beyond=True)
KINDS = ("http", "replay", "scripted", "any-llm")


class Section(NamedTuple):
    """A table of its own: the noun it makes, where it stands in Settings, and its keys."""

    noun: type[Any]
    into: str
    promise: str
    fields: tuple[Field, ...]


SECTIONS: dict[str, Section] = {
    "server": Section(
        nouns.Server,
        "server",
        "Where callers are heard, and how much each of them may take up.",
        (
            Field("host", TEXT, "Address to listen on; loopback unless others are to reach it."),
            Field("port", whole(0, 65535), "Port to listen on; 0 for any free one."),
            Field("workers", whole(1, 256), "Processes that answer."),
            Field(
                "hosts",
                TEXTS,
                "Names that a request's Host field may have; empty for any (on "
                "loopback: loopback's own).",
            ),
            Field("insecure_open", FLAG, "Listen beyond loopback although no virtual key exists."),
            Field(
                "when_store_is_down",
                one_of(nouns.WhenDown),
                "Calls under a quota while its database is away and the leases are used up.",
            ),
            Field("max_body_bytes", SIZE, "Largest body of a request."),
            Field("max_header_bytes", SIZE, "Largest head of a request, all fields together."),
            Field("max_connections", whole(1), "Open connections per worker; more get a 503."),
            Field("header_seconds", SECONDS, "Time for a request's head to arrive."),
            Field("body_seconds", SECONDS, "Time for a request's body to arrive."),
            Field("write_seconds", SECONDS, "Time that a caller may leave its answer unread."),
            Field("keep_alive_seconds", SECONDS, "How long an idle connection stays open."),
            Field("drain_seconds", SECONDS, "Time for calls under way to end when a worker stops."),
        ),
    ),
    "journal": Section(
        nouns.Journaling,
        "journal",
        "Where every attempt is written before its answer leaves.",
        (
            Field(
                "folder",
                TEXT,
                "Folder of the journal, on a local disk.",
                default="beside the database: FILE.journal",
            ),
            Field(
                "durability",
                one_of(nouns.Durability),
                "What an entry survives before the last "
                "byte leaves: the death of the process, also a power cut less a window, also a "
                "power cut.",
            ),
            Field(
                "window_ms",
                number(0),
                "Milliseconds of entries that a power cut may take, with `window`.",
            ),
            Field("segment_bytes", SIZE, "Size from which on a new file is begun."),
            Field("keep_days", number(0), "How long a journal stays once the books have it."),
        ),
    ),
    "books": Section(
        nouns.Books,
        "books",
        "The database, and a team's own prices.",
        (
            Field("database", TEXT, "A SQLite file, or `postgresql://...` without a password."),
            Field(
                "database_env",
                ENV_NAME,
                "Environment variable with the database's address, for "
                "one that holds a password; goes before `database`.",
            ),
            Field("prices", TEXT, "Your own dated prices, a YAML file; they win over the rest."),
        ),
    ),
    "recording": Section(
        nouns.Recording,
        "recording",
        "How much of requests and answers is kept.",
        (Field("default", one_of(Recorded), "Where a model's own table does not say."),),
    ),
    "students": Section(nouns.Students, "students", STUDENTS_PROMISE, STUDENTS),
    "cache": Section(
        nouns.Caching,
        "cache",
        "Room for answers of deterministic requests; a model opts in with `cache_seconds`.",
        (Field("max_bytes", SIZE, "Bytes per worker."),),
    ),
    "metrics": Section(
        nouns.Metering,
        "metrics",
        "Figures for Prometheus.",
        (Field("enabled", FLAG, "Serve `/metrics`."),),
    ),
    "tracing": Section(
        nouns.Tracing,
        "tracing",
        "OpenTelemetry spans of every request; needs the extra `otel`.",
        (
            Field("otlp_endpoint", TEXT, "Where spans are sent, over HTTP; nowhere when absent."),
            Field(
                "headers_env",
                ENV_NAME,
                "Environment variable with the exporter's header fields, as `NAME=VALUE,...`.",
            ),
            Field("service", TEXT, "Name of this service in traces."),
            Field("sample", number(0, 1), "Share of the requests that is traced."),
        ),
    ),
    "logging": Section(
        nouns.Logging,
        "logging",
        "A line of JSON for each request, without what was said in it.",
        (
            Field("level", one_of(nouns.Logged), "Which requests get a line."),
            Field("share", number(0, 1), "Share of the requests that went well."),
            Field("file", TEXT, "Where lines go, at its end; standard error when absent."),
        ),
    ),
}

UPSTREAM: tuple[Field, ...] = (
    Field(
        "preset",
        TEXT,
        "A known vendor or server whose values count where this table has none; "
        "the table's own name where that is one.",
        default="the table's name, if known",
    ),
    Field(
        "kind",
        TEXT,
        "`http`, `replay` (answers from a log), `scripted` (faults on demand) or "
        "`any-llm` (needs the extra).",
    ),
    Field(
        "base_url",
        TEXT,
        "Address up to where `/chat/completions` follows; https unless `allow_private`.",
    ),
    Field("wires", some_of(Wire), "Formats that it speaks; the first one is translated into."),
    Field("host", TEXT, "Its name in the price book.", default="the preset's, or the table's name"),
    Field("region", TEXT, "Region, where prices depend on it."),
    Field("key_env", ENV_NAME, "Environment variable with the key."),
    Field("headers", HEADERS, "Further header fields for every call; no secrets."),
    Field("models", TEXTS, "Patterns of names that it serves without a table of their own."),
    Field("connect_seconds", SECONDS, "Time to connect."),
    Field("first_byte_seconds", SECONDS, "Time to the first byte of an answer."),
    Field("total_seconds", SECONDS, "Time for a whole answer."),
    Field("max_concurrency", whole(1), "Calls at the same time per worker."),
    Field("proxy", TEXT, "Proxy for its calls, `http://HOST:PORT`."),
    Field("http2", FLAG, "Speak HTTP/2."),
    Field("verify_tls", FLAG, "Check its certificate."),
    Field("ca_file", TEXT, "Certificates to trust in place of the system's."),
    Field(
        "allow_private",
        FLAG,
        "It may lie on loopback or in a private network, and speak http.",
        default="false (true for a local preset at its own address)",
    ),
    Field("pass_caller_key", FLAG, "Hand the caller's own provider key on."),
    Field(
        "free",
        FLAG,
        "Its calls cost nothing: priced at zero where no price is known.",
        default="false (true for a local preset)",
    ),
    Field("log", TEXT, "`replay`: the log to answer from.", default=""),
    Field(
        "latency",
        TEXT,
        "`replay`: `recorded`, `none`, or a factor.",
        default="recorded",
    ),
    Field("script", TEXT, "`scripted`: the file with its answers and faults.", default=""),
    Field("options", TABLE, "Further values of its kind."),
)

MODEL: tuple[Field, ...] = (
    Field("upstream", TEXT, "Upstream that serves it; or use `deployments`.", default=""),
    Field("model", TEXT, "Its name at that upstream.", default="the table's name"),
    Field(
        "deployments",
        ANY,
        'Several places: `["openai/gpt-4o", {upstream = "azure", model = '
        '"gpt-4o-eu", weight = 2}]`.',
        default="[]",
    ),
    Field("aliases", TEXTS, "Further public names."),
    Field("fallbacks", TEXTS, "Models to ask in turn once every deployment has failed."),
    Field("balance", one_of(Balance), "How one of several deployments is chosen."),
    Field(
        "retries",
        whole(0, 20),
        "Further calls after a failed one, deployments and fallbacks together.",
        into="max_attempts",
        default="2",
    ),
    Field(
        "hedge_after_seconds",
        SECONDS,
        "Ask a second deployment when the first has not answered by then; off when absent.",
        default="off",
    ),
    Field("recorded", one_of(Recorded), "How much of bodies is kept.", default="`[recording]`"),
    Field("cache_seconds", whole(0), "How long an answer may be given again; 0 for never."),
    Field(
        "on_disconnect", one_of(OnDisconnect), "What becomes of the call when the caller leaves."
    ),
    Field("max_output_tokens", whole(1), "Reserved under a budget where a request sets no limit."),
    Field("allow_unpriced", FLAG, "Answer under a budget although no price is known."),
)

DEPLOYMENT: tuple[Field, ...] = (
    Field("upstream", TEXT, "Upstream that serves it."),
    Field("model", TEXT, "Its name there.", default="the model's table's name"),
    Field("weight", number(0, beyond=True), "Share of the traffic, relative to the others."),
)

BUDGET: tuple[Field, ...] = (
    Field("key", TEXT, "Name of a virtual key."),
    Field("team", TEXT, 'Name of a team; `"*"` for each by itself, as with all of these.'),
    Field("customer", TEXT, "Name of a customer."),
    Field("feature", TEXT, "Name of a feature."),
    Field("model", TEXT, "Public name of a model."),
    Field(
        "per",
        one_of(Window, but=(Window.NOW,)),
        "Window, by the UTC calendar; not for `concurrent`.",
    ),
    Field("usd", MONEY, "Most dollars in a window; then calls are refused."),
    Field("soft_usd", MONEY, "Dollars from which on an alert is raised; nothing is refused."),
    Field("requests", whole(1), "Most requests in a window."),
    Field("tokens", whole(1), "Most tokens in a window, input and output together."),
    Field("concurrent", whole(1), "Most calls at the same time."),
)

TABLES = (*SECTIONS, "upstreams", "models", "budgets")


def read_table(
    content: object, fields: Sequence[Field], at: At, complaints: Complaints
) -> dict[str, Any]:
    """The values of a table by the names of its keys; what is wrong becomes a complaint."""
    if not isinstance(content, Mapping):
        complaints.say(at, f"is {shown(content)}; it must be a table")
        return {}
    known = {field.name: field for field in fields}
    found: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            complaints.say((*at, name), unknown_key(name, known))
            continue
        kind = known[name].kind
        try:
            found[name] = kind.read(value)
        except KindError as wrong:
            why = str(wrong) or f"is {shown(value)}; it must be {kind.expects}"
            complaints.say((*at, name), why)
    return found


def unknown_key(name: str, known: Collection[str]) -> str:
    """The sentence about a key that does not exist; never with its value."""
    if names_secret(name) and "key_env" in known:
        return (
            "is not read: secrets do not stand in this file; put the key into an environment "
            "variable and name that variable in key_env"
        )
    return f"is not known{nearest(name, known)}"
