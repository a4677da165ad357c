"""`stillhouse check`: what would be served, before it is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from stillhouse import wiring
from stillhouse.cli.configured import configured, with_place
from stillhouse.cli.keys_verb import limit_text
from stillhouse.cli.terminal import as_json, console, print_json, table
from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Route, Upstream
from stillhouse.core.errors import ConfigError, StillhouseError
from stillhouse.core.quotas import Unit
from stillhouse.ledger.book import PriceBook
from stillhouse.providers.http import HttpProvider
from stillhouse.settings.addresses import is_loopback
from stillhouse.settings.nouns import Durability, Hand, OnAlarm, Settings, Students
from stillhouse.settings.starting import database_of, find_settings
from stillhouse.wiring.upstreams import free_hosts, open_providers

LIVE_SECONDS = 10.0


@click.command("check")
@configured
@click.option("--live", is_flag=True, help="Ask every upstream for its models, with its key.")
@as_json
@click.pass_context
def verb(
    ctx: click.Context, config: Path | None, place: str | None, live: bool, as_json: bool
) -> None:
    """Say what would be served: upstreams and keys, models and prices, and what looks wrong.

    Every error of the configuration is said at once, with its line; then the exit code is 2. Keys
    are never shown. Without --live nothing is sent anywhere.

    \b
    Examples:
      stillhouse check
      stillhouse check --config stillhouse.toml --live
      stillhouse check --json
    """
    settings = with_place(ctx, find_settings(config), place)
    database_of(settings)
    open_providers(settings.catalogue, os.environ)  # says what an upstream's own kind objects to
    book = price_book(settings)
    found = asyncio.run(_ask_all(settings)) if live else {}
    upstreams = [upstream_facts(one, found) for one in settings.catalogue.upstreams.values()]
    models = [model_facts(route, settings, book) for route in settings.catalogue.routes.values()]
    warned = list(warnings(settings, os.environ, models))
    if as_json:
        print_json(
            {
                "source": settings.source,
                "version": settings.catalogue.version,
                "upstreams": upstreams,
                "models": models,
                "budgets": [quota.quota_id for quota in settings.quotas],
                "students": students_facts(settings.students),
                "warnings": warned,
            }
        )
    else:
        _show(settings, upstreams, models, warned, live)
    if failed := [name for name, said in found.items() if not said["reached"]]:
        raise ConfigError(f"not reached: {', '.join(failed)}; see the reasons above")


def price_book(settings: Settings) -> PriceBook:
    """The prices that the endpoint would book by."""
    own = Path(settings.books.prices) if settings.books.prices else None
    return wiring.price_book(own, wiring.SystemClock().now_us(), free_hosts(settings.catalogue))


def upstream_facts(upstream: Upstream, found: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to say of an upstream; of its key only whether it is there."""
    facts: dict[str, Any] = {
        "name": upstream.name,
        "kind": upstream.kind,
        "address": upstream.base_url,
        "wires": list(upstream.wires),
        "key_env": upstream.key_env,
        "key": key_state(upstream, os.environ),
        "models": list(upstream.models),
    }
    return {**facts, "live": found[upstream.name]} if upstream.name in found else facts


def key_state(upstream: Upstream, env: Mapping[str, str]) -> str:
    """Whether an upstream's key is there: `present`, `missing`, `caller's own` or `none`.

    >>> key_state(Upstream("openai", key_env="OPENAI_API_KEY"), {})
    'missing'
    """
    if upstream.key_env:
        return "present" if env.get(upstream.key_env) else "missing"
    return "caller's own" if upstream.pass_caller_key else "none"


def model_facts(route: Route, settings: Settings, book: PriceBook) -> dict[str, Any]:
    """What there is to say of a model: where it is asked, and at which price now."""
    now_us = wiring.SystemClock().now_us()
    places = []
    for place in route.deployments:
        upstream = settings.catalogue.upstreams[place.upstream]
        price = book.find(place.model, upstream.host, now_us, region=upstream.region)
        amounts = dict(price.amounts) if price is not None else {}
        places.append(
            {
                "upstream": place.upstream,
                "model": place.model,
                "weight": place.weight,
                "priced": price is not None or bool(upstream.options.get("free")),
                "free": bool(upstream.options.get("free")),
                "usd_per_mtok": {
                    name: amounts[leaf] / 1e12
                    for name, leaf in (("input", "input_tokens"), ("output", "output_tokens"))
                    if leaf in amounts
                },
            }
        )
    return {
        "name": route.name,
        "aliases": list(route.aliases),
        "deployments": places,
        "fallbacks": list(route.fallbacks),
        "recorded": route.recorded,
    }


def students_facts(students: Students) -> dict[str, Any]:
    """What students may do, and where notices go; tasks with terms of their own as well."""
    tasks = {
        name: asdict(students.terms(name)) | {"enabled": students.may_serve(name)}
        for name in students.tasks
    }
    return {
        "enabled": students.enabled,
        **asdict(students.terms("")),
        "retrain": students.retrain,
        "shadow_budget": [limit_text(quota) for quota in students.shadow_budget],
        "webhook_host": urlsplit(students.webhook_url).hostname or "",
        "tasks": tasks,
    }


def students_sentence(students: Students) -> str:
    """The same in words.

    >>> students_sentence(Students(enabled=False))
    'Students: none may answer'
    """
    if not students.enabled:
        return "Students: none may answer"
    by = "the gate promotes" if students.promote is Hand.AUTO else "a person promotes"
    caps = ", ".join(limit_text(quota) for quota in students.shadow_budget)
    audits = f"{100 * students.shadow_share:g}% are audited" + (
        f" (at most {caps})" if caps else ""
    )
    alarm = "a stricter threshold, once" if students.on_alarm is OnAlarm.RAISE else "the teacher"
    said = f"Students: {by}, {audits}, after an alarm {alarm}"
    if students.bridge:
        said += ", uncertified answers while teachers fail"
    if students.retrain is Hand.AUTO:
        said += ", distilled again by themselves"
    if students.webhook_url:
        said += f"; notices go to {urlsplit(students.webhook_url).hostname}"
    own = [f"{name} (off)" if not students.may_serve(name) else name for name in students.tasks]
    return said + (f"; terms of their own: {', '.join(own)}" if own else "")


def warnings(
    settings: Settings, env: Mapping[str, str], models: list[dict[str, Any]]
) -> Iterator[str]:
    """What is allowed and may still not be meant."""
    used = {place["upstream"] for model in models for place in model["deployments"]}
    for upstream in settings.catalogue.upstreams.values():
        if key_state(upstream, env) == "missing":
            yield f"upstream {upstream.name}: {upstream.key_env} is not set; its calls will fail"
        if not upstream.verify_tls:
            yield f"upstream {upstream.name}: its certificate is not checked (verify_tls = false)"
        if upstream.name not in used and not upstream.models:
            yield f"upstream {upstream.name}: only reached as {upstream.name}/MODEL"
    capped = any(quota.unit is Unit.COST and not quota.soft for quota in settings.quotas)
    for model in models:
        for place in model["deployments"]:
            if not place["priced"]:
                fate = "refused under a budget" if capped else "booked as unpriced"
                yield f"model {model['name']}: no price of {place['model']} is known; {fate}"
    students = settings.students
    if students.enabled and students.webhook_url and not students.webhook_secret_env:
        yield "students: notices are not signed; name a secret in webhook_secret_env"
    if students.webhook_secret_env and not env.get(students.webhook_secret_env):
        yield f"students: {students.webhook_secret_env} is not set; put the secret there"
    if settings.journal.durability is Durability.PROCESS:
        yield "journal: a power cut may lose what the last half minute wrote"
    if not is_loopback(settings.server.host) and settings.server.insecure_open:
        yield f"server: {settings.server.host} is open to everybody (insecure_open)"


async def _ask_all(settings: Settings) -> dict[str, dict[str, Any]]:
    upstreams = [one for one in settings.catalogue.upstreams.values() if one.kind == "http"]
    said = await asyncio.gather(*map(_ask, upstreams))
    return {one.name: answer for one, answer in zip(upstreams, said, strict=True)}


async def _ask(upstream: Upstream) -> dict[str, Any]:
    """Whether an upstream lists its models, and in how long."""
    clock = wiring.SystemClock()
    began = clock.wall_seconds()
    try:
        provider = HttpProvider(upstream, os.environ.get(upstream.key_env, ""))
        try:
            async with asyncio.timeout(LIVE_SECONDS):
                call = UpstreamCall(upstream.wires[0], "GET", "/models", "", b"")
                reply = await provider.send(call, lambda: None)
                await reply.read()
        finally:
            await provider.close()
    except TimeoutError:
        return {"reached": False, "why": f"no answer within {LIVE_SECONDS:g} s"}
    except StillhouseError as failed:
        return {"reached": False, "why": str(failed)}
    ms = round(1000 * (clock.wall_seconds() - began))
    if reply.status in (401, 403):
        return {"reached": False, "why": f"the key is refused (status {reply.status})", "ms": ms}
    return {"reached": True, "why": "", "status": reply.status, "ms": ms}


def _show(
    settings: Settings,
    upstreams: list[dict[str, Any]],
    models: list[dict[str, Any]],
    warned: list[str],
    live: bool,
) -> None:
    out = console()
    out.print(f"From {settings.source}; books in {settings.books.database}\n", markup=False)
    heads = ["Upstream", "Kind", "Address", "Speaks", "Key", "Serves by name"]
    rows = [
        [
            facts["name"],
            facts["kind"],
            facts["address"] or "–",
            ", ".join(facts["wires"]),
            f"{facts['key_env']} {facts['key']}".strip(),
            ", ".join(facts["models"]) or "–",
            *([_live(facts.get("live"))] if live else []),
        ]
        for facts in upstreams
    ]
    out.print(table("Upstreams", heads + (["Asked"] if live else []), rows), markup=False)
    if models:
        out.print()
        rows = [list(_model_row(model)) for model in models]
        heads = ["Model", "Also", "Asked at", "$ per million tokens", "Then"]
        out.print(table("Models", heads, rows), markup=False)
    if settings.quotas:
        caps = ", ".join(quota.quota_id for quota in settings.quotas)
        out.print(f"\nBudgets: {caps}", markup=False)
    out.print(f"\n{students_sentence(settings.students)}", markup=False)
    for warning in warned:
        out.print(f"\nWarning: {warning}", markup=False)


def _live(said: Mapping[str, Any] | None) -> str:
    if said is None:
        return "–"
    return f"status {said['status']} in {said['ms']} ms" if said["reached"] else str(said["why"])


def _model_row(model: dict[str, Any]) -> Iterator[str]:
    yield model["name"]
    yield ", ".join(model["aliases"]) or "–"
    yield ", ".join(f"{place['upstream']}/{place['model']}" for place in model["deployments"])
    yield ", ".join(_price(place) for place in model["deployments"])
    yield " -> ".join(model["fallbacks"]) or "–"


def _price(place: dict[str, Any]) -> str:
    if place["free"]:
        return "free"
    said = [f"{usd:g} {name}" for name, usd in place["usd_per_mtok"].items()]
    return " / ".join(said) or ("priced otherwise" if place["priced"] else "unpriced")
