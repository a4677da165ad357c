"""Which provider stands behind each kind of upstream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from stillhouse import logs
from stillhouse.core.catalogue import Catalogue, Upstream, Wire
from stillhouse.core.errors import CallerError, ConfigError
from stillhouse.core.ports import Provider
from stillhouse.core.traffic import Completion, LoggedCall, Request, Usage
from stillhouse.dialects.decision_reading import conversation
from stillhouse.ledger.usage import decompose
from stillhouse.logs.bodies import ANTHROPIC, OPENAI, RESPONSES, Dialect
from stillhouse.logs.values import RowError
from stillhouse.providers.http import HttpProvider

DIALECTS: Mapping[Wire, Dialect] = {
    Wire.CHAT: OPENAI,
    Wire.RESPONSES: RESPONSES,
    Wire.MESSAGES: ANTHROPIC,
}
"""How the bodies of each conversational wire are read: the same way as those of a log."""

DECISIONS = frozenset((Wire.DECISIONS, Wire.SYSTEMONE))
"""Wires whose requests are questions: read as a prompt and a state, and as the option chosen."""

_LATENCY = {"recorded": 1.0, "none": 0.0}


def open_providers(catalogue: Catalogue, env: Mapping[str, str]) -> dict[str, Provider]:
    """A provider for each upstream; ConfigError where one cannot be used as it is written."""
    return {name: _provider(upstream, env) for name, upstream in catalogue.upstreams.items()}


def free_hosts(catalogue: Catalogue) -> list[str]:
    """Hosts whose models cost nothing: those that the configuration calls free."""
    return [u.host or u.name for u in catalogue.upstreams.values() if u.options.get("free")]


def _provider(upstream: Upstream, env: Mapping[str, str]) -> Provider:
    if upstream.kind == "http":
        key = env.get(upstream.key_env) if upstream.key_env else None
        return HttpProvider(upstream, key or None)
    if upstream.kind == "replay":
        return _replay(upstream)
    if upstream.kind == "scripted":
        return _scripted(upstream)
    if upstream.kind == "any-llm":
        from stillhouse.providers.anyllm import AnyLlmProvider

        return AnyLlmProvider(upstream, env.get(upstream.key_env) or None)
    raise ConfigError(
        f"upstream {upstream.name} is of the kind {upstream.kind!r}; use http, replay, scripted or "
        "any-llm"
    )


def read_request(body: bytes, wire: Wire) -> Request:
    """The conversation in a body; CallerError where it holds none that can be read."""
    if wire in DECISIONS:
        return conversation(body)
    dialect = DIALECTS.get(wire)
    if dialect is None:
        raise CallerError(f"{wire} holds no conversation; use chat, responses or messages")
    try:
        return dialect.request_of(orjson.loads(body))
    except (RowError, KeyError, TypeError, AttributeError, IndexError, ValueError) as wrong:
        raise CallerError(f"the request cannot be read as a conversation: {wrong}") from wrong


def read_completion(body: bytes, wire: Wire) -> Completion:
    """The answer in a body; raises what the reader of a log would."""
    return DIALECTS[wire].completion_of(orjson.loads(body))


def _replay(upstream: Upstream) -> Provider:
    from stillhouse.providers.replay import RecordedCall, Recordings, ReplayProvider

    path = Path(str(upstream.options.get("log", "")))
    latency = upstream.options.get("latency", "recorded")
    factor = _LATENCY.get(str(latency))
    if factor is None:
        try:
            factor = float(str(latency))
        except ValueError:
            raise ConfigError(
                f"upstream {upstream.name} has the latency {latency!r}; use recorded, none or a "
                "factor"
            ) from None

    def calls() -> Iterator[RecordedCall]:
        for row in logs.read(path, logs.detect(path, {}, {}, [path]), logs.Position(0, 0)):
            if isinstance(row, LoggedCall) and row.ok:
                yield RecordedCall(
                    row.request, row.completion, row.model, _usage(row), row.latency_ms
                )

    unknown = str(upstream.options.get("unknown", "refuse"))
    return ReplayProvider(
        upstream, Recordings(calls()), read_request, latency=factor, unknown=unknown
    )


def _usage(row: LoggedCall) -> Usage | None:
    if row.usage_body is None:
        return None
    try:
        return decompose(row.usage_body, row.dialect)
    except CallerError:
        return None


def _scripted(upstream: Upstream) -> Provider:
    from stillhouse.providers.script import BUILT_IN, read_rules
    from stillhouse.providers.scripted import ScriptedProvider

    script = upstream.options.get("script")
    if script is None:
        return ScriptedProvider(upstream, read_request, BUILT_IN)
    return ScriptedProvider(upstream, read_request, read_rules(_script(Path(str(script)))))


def _script(path: Path) -> list[Mapping[str, Any]]:
    """The rules of a script: TOML tables `[[rules]]`, or a JSON list."""
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        found = orjson.loads(text) if path.suffix == ".json" else tomllib.loads(text).get("rules")
    except (OSError, ValueError) as wrong:
        raise ConfigError(f"the script {path} cannot be read: {wrong}") from wrong
    if not isinstance(found, list):
        raise ConfigError(f"the script {path} holds no list of rules; write [[rules]] tables")
    return found
