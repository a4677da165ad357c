"""`[models.NAME]`: public names, and what each of them stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from stillhouse.core.catalogue import Deployment, Route, Upstream
from stillhouse.settings.complaints import At, Complaints, nearest, shown
from stillhouse.settings.tables import DEPLOYMENT, MODEL, read_table

USUAL = "*"
"""The table that holds for every model without one of its own."""

_AS_THEY_ARE = (
    "aliases",
    "fallbacks",
    "balance",
    "hedge_after_seconds",
    "recorded",
    "cache_seconds",
    "on_disconnect",
    "max_output_tokens",
    "allow_unpriced",
)


def read_models(
    content: object, upstreams: Mapping[str, Upstream], usual: Route, complaints: Complaints
) -> tuple[dict[str, Route], Route]:
    """All routes of a file by name, and how other models are treated."""
    if not isinstance(content, Mapping):
        complaints.say(("models",), f"is {shown(content)}; it must be a table of tables")
        return {}, usual
    tables = {
        name: read_table(table, MODEL, ("models", name), complaints)
        for name, table in content.items()
    }
    usual = _treated(usual, tables.pop(USUAL, {}))
    if usual.aliases or usual.deployments:
        complaints.say(("models", USUAL), "has aliases; it stands for all other models")
    routes = {}
    for name, table in tables.items():
        at: At = ("models", name)
        route = replace(_treated(usual, table), name=name, aliases=table.get("aliases", ()))
        deployments = tuple(_deployments(name, table, upstreams, at, complaints))
        routes[name] = replace(route, deployments=deployments)
    return _joined(routes, complaints), usual


def _treated(route: Route, table: dict[str, Any]) -> Route:
    changes = {key: table[key] for key in _AS_THEY_ARE if key in table}
    if "retries" in table:
        changes["max_attempts"] = table["retries"] + 1
    return replace(route, **changes)


def _deployments(
    name: str,
    table: dict[str, Any],
    upstreams: Mapping[str, Upstream],
    at: At,
    complaints: Complaints,
) -> Iterator[Deployment]:
    listed = table.get("deployments", [])
    if not isinstance(listed, list):
        complaints.say((*at, "deployments"), f"is {shown(listed)}; it must be a list")
        return
    if "upstream" in table and listed:
        complaints.say((*at, "upstream"), "stands beside deployments; keep one of the two")
        return
    if "upstream" in table:
        listed = [{key: table[key] for key in ("upstream", "model") if key in table}]
    elif "model" in table:
        complaints.say((*at, "model"), "has no upstream beside it; say which one serves it")
        return
    if not listed and not _served(name, upstreams):
        complaints.say(at, f"is served by nobody; give it an upstream{nearest('', upstreams)}")
    elif not listed:
        yield Deployment(_served(name, upstreams)[0], name)
    for number, one in enumerate(listed):
        place = (*at, "deployments", number) if "deployments" in table else at
        found = _deployment(name, one, upstreams, place, complaints)
        if found is not None:
            yield found


def _served(name: str, upstreams: Mapping[str, Upstream]) -> list[str]:
    """The upstreams that a model without a place of its own belongs to: the only one there is."""
    return list(upstreams) if len(upstreams) == 1 else []


def _deployment(
    name: str, one: object, upstreams: Mapping[str, Upstream], at: At, complaints: Complaints
) -> Deployment | None:
    if isinstance(one, str):
        upstream, slash, model = one.partition("/")
        table: dict[str, Any] = {"upstream": upstream, "model": model if slash else name}
    else:
        table = read_table(one, DEPLOYMENT, at, complaints)
    if "upstream" not in table:
        complaints.say(at, "names no upstream; say which one serves it")
        return None
    if table["upstream"] not in upstreams:
        wanted = table["upstream"]
        complaints.say(
            at, f"is at upstream {wanted!r}, which is unknown{nearest(wanted, upstreams)}"
        )
        return None
    return Deployment(table["upstream"], table.get("model", name), table.get("weight", 1.0))


def _joined(routes: dict[str, Route], complaints: Complaints) -> dict[str, Route]:
    """Routes whose fallbacks are names of routes, once nothing is named twice or goes round."""
    owner: dict[str, str] = {name: name for name in routes}
    for route in routes.values():
        for alias in route.aliases:
            if alias in owner:
                complaints.say(
                    ("models", route.name, "aliases"),
                    f"has {alias!r}, which names models.{owner[alias]} already; take it from one "
                    "of the two",
                )
            else:
                owner[alias] = route.name
    joined = {}
    for route in routes.values():
        known = []
        for wanted in route.fallbacks:
            if wanted in owner:
                known.append(owner[wanted])
            else:
                complaints.say(
                    ("models", route.name, "fallbacks"),
                    f"has {wanted!r}, which is no model here{nearest(wanted, owner)}",
                )
        joined[route.name] = replace(route, fallbacks=tuple(known))
    for ring in _rings(joined):
        complaints.say(
            ("models", ring[0], "fallbacks"), f"goes round: {' -> '.join(ring)}; leave one out"
        )
    return joined


def _rings(routes: Mapping[str, Route]) -> Iterator[list[str]]:
    """Each ring of fallbacks once, from the route where the file comes upon it first."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> Iterator[list[str]]:
        if name in path:
            yield [*path[path.index(name) :], name]
            return
        if name in done:
            return
        for below in routes[name].fallbacks:
            yield from walk(below, [*path, name])
        done.add(name)

    for name in routes:
        yield from walk(name, [])
