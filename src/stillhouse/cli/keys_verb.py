"""`stillhouse keys`: who may call, for what, and how much."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from msgspec.structs import asdict

from stillhouse import wiring
from stillhouse.cli.configured import books_place, configured
from stillhouse.cli.ledger_verb import printable
from stillhouse.cli.terminal import as_json, console, print_json, table
from stillhouse.core.errors import CallerError
from stillhouse.core.money import PICO
from stillhouse.core.quotas import Quota, Scope, Unit, VirtualKey, Window
from stillhouse.core.traffic import Tags
from stillhouse.gateway.keys import make_key
from stillhouse.settings.kinds import KindError, read_cap
from stillhouse.wiring.books import access_of

SECOND_US = 10**6
_AGES = {"h": "hours", "d": "days", "w": "weeks"}


@click.group("keys")
def verb() -> None:
    """Make, list and revoke virtual keys: who may call, for what, and how much.

    Callers send a key's token where they would send their provider's key. Only a hash of it is
    kept. A running endpoint takes changes up within seconds.

    \b
    Examples:
      stillhouse keys create ana --team cards --budget 10/month --rpm 60
      stillhouse keys create ci --model 'gpt-*' --expires 30d
      stillhouse keys list
      stillhouse keys revoke ana
    """


@verb.command("create")
@click.argument("name")
@click.option("--team", default="", help="Team that its calls are booked under.")
@click.option("--customer", default="", help="Customer that its calls are booked under.")
@click.option("--feature", default="", help="Feature that its calls are booked under.")
@click.option("--model", "models", multiple=True, help="Model that it may call, or a pattern.")
@click.option("--budget", "budgets", multiple=True, metavar="USD/WINDOW", help="As 10/month.")
@click.option(
    "--soft-budget", "softs", multiple=True, metavar="USD/WINDOW", help="Alert, refuse nothing."
)
@click.option("--rpm", type=click.IntRange(1), help="Requests per minute.")
@click.option("--tpm", type=click.IntRange(1), help="Tokens per minute.")
@click.option("--concurrent", type=click.IntRange(1), help="Calls at the same time.")
@click.option("--expires", metavar="WHEN", help="After 12h, 30d, 8w, or on a day: 2027-01-31.")
@click.option("--no-students", is_flag=True, help="The teacher answers its calls, always.")
@click.option("--admin", is_flag=True, help="It may also manage the endpoint.")
@configured
@as_json
@click.pass_context
def create(
    ctx: click.Context,
    name: str,
    team: str,
    customer: str,
    feature: str,
    models: tuple[str, ...],
    budgets: tuple[str, ...],
    softs: tuple[str, ...],
    rpm: int | None,
    tpm: int | None,
    concurrent: int | None,
    expires: str | None,
    no_students: bool,
    admin: bool,
    config: Path | None,
    place: str | None,
    as_json: bool,
) -> None:
    """Make a key and show its token, this once."""
    now_us = wiring.SystemClock().now_us()
    limits = (
        (Unit.REQUESTS, Window.MINUTE, rpm),
        (Unit.TOKENS, Window.MINUTE, tpm),
        (Unit.CONCURRENT, Window.NOW, concurrent),
    )
    key, token = make_key(
        name,
        now_us,
        tags=Tags(team=team, customer=customer, feature=feature),
        models=models,
        quotas=(
            *(budget_of(text) for text in budgets),
            *(budget_of(text, soft=True) for text in softs),
            *(Quota(Scope.KEY, "*", u, w, most) for u, w, most in limits if most is not None),
        ),
        admin=admin,
        expires_us=None if expires is None else instant_of(expires, now_us),
        students=not no_students,
    )
    with access_of(books_place(ctx, config, place)) as access:
        there = access.keys()
        if any(known.name == name and known.revoked_us is None for known in there):
            raise CallerError(f"there is a key named {name!r} already; revoke it, or name another")
        access.add_key(key)
    if as_json:
        print_json({**key_facts(key, now_us), "token": token})
    else:
        click.echo(token)
        click.echo(f"  the key {name} ({key.key_id}); it is not shown again", err=True)


@verb.command("list")
@click.option("--all", "also_gone", is_flag=True, help="Revoked and expired keys as well.")
@configured
@as_json
@click.pass_context
def list_keys(
    ctx: click.Context, also_gone: bool, config: Path | None, place: str | None, as_json: bool
) -> None:
    """Say which keys there are; never their tokens."""
    now_us = wiring.SystemClock().now_us()
    with access_of(books_place(ctx, config, place)) as access:
        there = access.keys()
    facts = [key_facts(key, now_us) for key in there]
    shown = [key for key in facts if also_gone or key["state"] == "valid"]
    if as_json:
        print_json({"keys": shown})
    elif not shown:
        click.echo("There is no key; make one: stillhouse keys create NAME")
    else:
        heads = ["Name", "Id", "State", "Books under", "Models", "Limits", "Expires"]
        rows = [
            [
                printable(key["name"])
                + (" (admin)" if key["admin"] else "")
                + ("" if key["students"] else " (no students)"),
                key["id"],
                key["state"],
                printable(", ".join(f"{k} {v}" for k, v in key["tags"].items())) or "–",
                ", ".join(key["models"]) or "all",
                ", ".join(key["limits"]) or "none",
                key["expires"] or "never",
            ]
            for key in shown
        ]
        console().print(table("Keys", heads, rows), markup=False)


@verb.command("revoke")
@click.argument("key")
@configured
@click.pass_context
def revoke(ctx: click.Context, key: str, config: Path | None, place: str | None) -> None:
    """Make a key worthless, by its name or id; for good."""
    with access_of(books_place(ctx, config, place)) as access:
        there = access.keys()
        known = [one for one in there if one.revoked_us is None]
        found = [one for one in known if key in (one.key_id, one.name)]
        if not found:
            names = ", ".join(one.name for one in known) or "none"
            raise CallerError(f"there is no valid key {key!r}; there is: {names}")
        for one in found:
            access.revoke_key(one.key_id, wiring.SystemClock().now_us())
    click.echo(f"revoked {', '.join(one.key_id for one in found)}")


def key_facts(key: VirtualKey, now_us: int) -> dict[str, Any]:
    """What may be shown of a key."""
    tags = asdict(key.tags)
    return {
        "id": key.key_id,
        "name": key.name,
        "state": state_of(key, now_us),
        "tags": {name: value for name, value in tags.items() if value},
        "models": list(key.models),
        "limits": [limit_text(quota) for quota in key.quotas],
        "admin": key.admin,
        "students": key.students,
        "created": _day(key.created_us),
        "expires": None if key.expires_us is None else _day(key.expires_us),
    }


def state_of(key: VirtualKey, now_us: int) -> str:
    """`valid`, `revoked` or `expired`."""
    if key.revoked_us is not None:
        return "revoked"
    return "expired" if key.expires_us is not None and key.expires_us <= now_us else "valid"


def limit_text(quota: Quota) -> str:
    """A limit in words.

    >>> limit_text(budget_of("10/month")), limit_text(budget_of("0.5/day", soft=True))
    ('$10 per month', 'alert at $0.5 per day')
    """
    if quota.unit is Unit.CONCURRENT:
        return f"{quota.limit:,} at a time"
    amount = f"{quota.limit:,} {quota.unit}"
    if quota.unit is Unit.COST:
        whole, rest = divmod(quota.limit, PICO)
        amount = f"${whole:,}.{rest:012}".rstrip("0").rstrip(".")
    window = "in all" if quota.window is Window.TOTAL else f"per {quota.window}"
    return f"{'alert at ' if quota.soft else ''}{amount} {window}"


def budget_of(text: str, soft: bool = False) -> Quota:
    """A cap on a key's spend, as `10/month`.

    >>> budget_of("0.25/day").limit
    250000000000
    """
    try:
        return replace(read_cap(text), soft=soft)
    except KindError as wrong:
        raise CallerError(f"the budget {text!r} {wrong}") from wrong


def instant_of(text: str, now_us: int) -> int:
    """When something expires: after a while, or at the end of a day in UTC.

    >>> instant_of("1d", 0), instant_of("2027-01-31", 0) // (86400 * 10**6)
    (86400000000, 20850)
    """
    if age := re.fullmatch(r"(\d{1,5})([hdw])", text):
        return now_us + int(timedelta(**{_AGES[age[2]]: int(age[1])}).total_seconds()) * SECOND_US
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise CallerError(f"{text!r} is no time; write 12h, 30d, 8w or 2027-01-31") from error
    ends_us = int((day + timedelta(days=1)).timestamp()) * SECOND_US
    if ends_us <= now_us:
        raise CallerError(f"{text} has passed; give a day to come")
    return ends_us


def _day(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / SECOND_US, UTC).strftime("%Y-%m-%d %H:%M UTC")
