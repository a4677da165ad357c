"""`[upstreams.NAME]`: places that serve models, with what is known of vendors filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stillhouse.core.catalogue import Timeouts, Upstream
from stillhouse.settings.addresses import fault_of_url
from stillhouse.settings.complaints import At, Complaints, nearest, shown
from stillhouse.settings.presets import CHAT, EMBEDDINGS, MESSAGES, PRESETS, RESPONSES, Preset
from stillhouse.settings.tables import KINDS, UPSTREAM, read_table

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LATENCY = re.compile(r"none|recorded|\d+(\.\d+)?")
ALL_WIRES = (CHAT, RESPONSES, MESSAGES, EMBEDDINGS)
_TIMES = ("connect_seconds", "first_byte_seconds", "total_seconds")
_OFFLINE = ("replay", "scripted")
_WIRES = dict.fromkeys(_OFFLINE, ALL_WIRES) | {"any-llm": (CHAT,)}
_OPTIONS = {"replay": ("log", "latency"), "scripted": ("script",)}
_NO_PRESET = Preset("", ())


def read_upstreams(
    content: object, env: Mapping[str, str], complaints: Complaints
) -> dict[str, Upstream]:
    """All upstreams of a file by name; what is wrong becomes a complaint."""
    if not isinstance(content, Mapping):
        complaints.say(("upstreams",), f"is {shown(content)}; it must be a table of tables")
        return {}
    found = {}
    for name, table in content.items():
        at = ("upstreams", name)
        if not NAME.fullmatch(name):
            complaints.say(at, "is no name of an upstream; use letters, digits, '.', '_' and '-'")
        found[name] = _upstream(name, read_table(table, UPSTREAM, at, complaints), env, complaints)
    return found


def preset_upstream(name: str, env: Mapping[str, str]) -> Upstream:
    """A known vendor as it is, under its own name."""
    return _upstream(name, {}, env, Complaints(""))


def key_env_of(preset: Preset, env: Mapping[str, str]) -> str:
    """The environment variable with a vendor's key: the first that is set, else the first."""
    there = [name for name in preset.key_envs if env.get(name)]
    return next(iter((*there, *preset.key_envs)), "")


def _upstream(
    name: str, table: dict[str, Any], env: Mapping[str, str], complaints: Complaints
) -> Upstream:
    at = ("upstreams", name)
    kind = table.get("kind", "http")
    if kind not in KINDS:
        complaints.say((*at, "kind"), f"is {kind!r}; it must be one of {', '.join(KINDS)}")
    preset = _preset(name, table, at, complaints) if kind == "http" else _NO_PRESET
    base_url = str(table.get("base_url", preset.base_url)).rstrip("/")
    own_place = preset.local and base_url == preset.base_url
    allow_private = bool(table.get("allow_private", own_place))
    upstream = Upstream(
        name=name,
        kind=kind,
        wires=table.get("wires", _WIRES.get(kind, preset.wires)),
        base_url=base_url,
        host=table.get("host", preset.host or ("" if kind in _OFFLINE else name)),
        key_env=table.get("key_env", key_env_of(preset, env)),
        models=table.get("models", ("*",) if kind in _OFFLINE else preset.models),
        timeouts=Timeouts(**{key: table[key] for key in _TIMES if key in table}),
        allow_private=allow_private,
        options=_options(kind, table, preset, at, complaints),
        **{key: table[key] for key in _AS_THEY_ARE if key in table},
    )
    _check(upstream, at, complaints)
    return upstream


_AS_THEY_ARE = (
    "region",
    "headers",
    "max_concurrency",
    "proxy",
    "http2",
    "verify_tls",
    "ca_file",
    "pass_caller_key",
)


def _preset(name: str, table: dict[str, Any], at: At, complaints: Complaints) -> Preset:
    wanted = table.get("preset", name)
    found = PRESETS.get(wanted)
    if found is None and "preset" in table:
        complaints.say(
            (*at, "preset"), f"is {wanted!r}, which is unknown{nearest(wanted, PRESETS)}"
        )
    elif found is None and "base_url" not in table:
        complaints.say(
            at,
            f"has no base_url and is no known vendor (give it a base_url, or name one in preset)"
            f"{nearest(name, PRESETS)}",
        )
    return found or Preset("", (CHAT,))


def _options(
    kind: str, table: dict[str, Any], preset: Preset, at: At, complaints: Complaints
) -> dict[str, object]:
    options = dict(table.get("options", {}))
    if table.get("free", preset.local and kind == "http"):
        options["free"] = True
    if preset.bearer:
        options.setdefault("auth", "bearer")
    for owner, keys in _OPTIONS.items():
        for key in keys:
            if key not in table:
                continue
            if owner == kind:
                options[key] = table[key]
            else:
                complaints.say((*at, key), f'is only read where kind = "{owner}"')
    return options


def _check(upstream: Upstream, at: At, complaints: Complaints) -> None:
    if upstream.kind not in _OFFLINE and upstream.base_url:
        if fault := fault_of_url(upstream.base_url, upstream.allow_private):
            complaints.say((*at, "base_url"), fault)
    elif upstream.kind in _OFFLINE and upstream.base_url:
        complaints.say((*at, "base_url"), f'is not read where kind = "{upstream.kind}"')
    if upstream.kind == "replay" and "log" not in upstream.options:
        complaints.say(at, 'has no log; name the file to answer from: log = "calls.jsonl"')
    if not _LATENCY.fullmatch(str(upstream.options.get("latency", "none"))):
        complaints.say((*at, "latency"), "must be recorded, none, or a factor such as 0.5")
    if upstream.proxy and (fault := fault_of_url(upstream.proxy, allow_private=True)):
        complaints.say((*at, "proxy"), fault)
    times = upstream.timeouts
    if times.total_seconds < times.first_byte_seconds and at:
        complaints.say(
            at,
            f"waits {times.first_byte_seconds:g} s for the first byte and {times.total_seconds:g} "
            "s in all; the whole cannot be shorter than its part",
        )
