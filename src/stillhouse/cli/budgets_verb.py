"""`stillhouse budgets`: what is capped, used, reserved and left."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from stillhouse import wiring
from stillhouse.cli.configured import books_place, configured
from stillhouse.cli.ledger_verb import dollars, printable
from stillhouse.cli.terminal import as_json, console, print_json, table
from stillhouse.core.money import Paid
from stillhouse.core.quotas import Quota, Scope, Standing, Unit, Window
from stillhouse.ledger.quotas import counter, span
from stillhouse.settings.reading import USUAL_FILE
from stillhouse.settings.starting import find_settings
from stillhouse.wiring.books import access_of

CENTS = 4


class Named(NamedTuple):
    """What the name of a counter says: `owner` is the key on which the quota stands, or empty."""

    owner: str
    scope: str
    name: str
    unit: Unit
    window: Window
    soft: bool
    starts: int


@click.command("budgets")
@click.option("--all", "also_past", is_flag=True, help="Windows that are over as well.")
@configured
@as_json
@click.pass_context
def verb(
    ctx: click.Context, also_past: bool, config: Path | None, place: str | None, as_json: bool
) -> None:
    """Show each cap with what is used, reserved by calls under way, and left.

    A line stands for a counter in its window; those that nothing has drawn on yet are shown where
    the configuration names whom they cap. Reserved includes what workers hold in hand.

    \b
    Examples:
      stillhouse budgets
      stillhouse budgets --all --json
    """
    now_us = wiring.SystemClock().now_us()
    with access_of(books_place(ctx, config, place)) as access:
        counters, keys = access.counters(), access.keys()
    names = {key.key_id: key.name for key in keys}
    counters = {**_unused(_quotas(config), now_us), **counters}
    rows = [
        facts(read_counter(name), standing, names)
        for name, standing in sorted(counters.items())
        if also_past or is_current(read_counter(name), now_us)
    ]
    if as_json:
        print_json({"counters": rows})
    elif not rows:
        click.echo("Nothing is capped; write [[budgets]], or `stillhouse keys create --budget`")
    else:
        heads = ["Caps", "Window", "Cap", "Used", "Reserved", "Left"]
        cells = [[_whom(row), _when(row), *_amounts(row)] for row in rows]
        console().print(table("Budgets", heads, cells), markup=False)


def read_counter(text: str) -> Named:
    """What a counter's name says.

    >>> read_counter("k1/model:a/b:cost:day:hard@60")._replace(window="", unit="")
    Named(owner='k1', scope='model', name='a/b', unit='', window='', soft=False, starts=60)
    """
    base, _, starts = text.rpartition("@")
    whom, unit, window, kind = base.rsplit(":", 3)
    head, _, name = whom.partition(":")
    owner, _, scope = head.rpartition("/")
    return Named(owner, scope, name, Unit(unit), Window(window), kind == "soft", int(starts))


def is_current(named: Named, now_us: int) -> bool:
    """Whether a counter's window is the one of now."""
    return span(named.window, now_us).starts_us == named.starts * 10**6


def facts(named: Named, standing: Standing, keys: Mapping[str, str]) -> dict[str, Any]:
    """The figures of a counter; money in dollars as text, exact."""

    def amount(value: int) -> str | int:
        return str(Paid(value).decimal.normalize() + 0) if named.unit is Unit.COST else value

    return {
        "scope": named.scope,
        "name": named.name if named.scope != Scope.KEY else keys.get(named.name, named.name),
        "of_key": keys.get(named.owner, named.owner),
        "unit": "usd" if named.unit is Unit.COST else named.unit,
        "window": named.window,
        "starts": named.starts or None,
        "soft": named.soft,
        "cap": amount(standing.limit),
        "used": amount(standing.spent),
        "reserved": amount(standing.leased),
        "left": amount(standing.remaining),
    }


def _quotas(config: Path | None) -> tuple[Quota, ...]:
    there = config or os.environ.get("STILLHOUSE_CONFIG") or USUAL_FILE.exists()
    return find_settings(config).quotas if there else ()


def _unused(quotas: Iterable[Quota], now_us: int) -> dict[str, Standing]:
    """Counters that a configuration names, as they stand before the first call."""
    found = {}
    for quota in quotas:
        if quota.name != "*" or quota.scope is Scope.EVERYBODY:
            name = "" if quota.scope is Scope.EVERYBODY else quota.name
            kind = "soft" if quota.soft else "hard"
            base = f"{quota.scope}:{name}:{quota.unit}:{quota.window}:{kind}"
            found[counter(base, span(quota.window, now_us))] = Standing(quota.limit)
    return found


def _whom(row: Mapping[str, Any]) -> str:
    whom = row["scope"] if row["scope"] == Scope.EVERYBODY else f"{row['scope']} {row['name']}"
    if row["of_key"] and row["scope"] != Scope.KEY:
        whom = f"{whom} of key {row['of_key']}"
    return printable(f"{whom} (alert only)" if row["soft"] else whom)


def _when(row: Mapping[str, Any]) -> str:
    if row["window"] in (Window.NOW, Window.TOTAL):
        return str(row["window"])
    starts = datetime.fromtimestamp(row["starts"] or 0, UTC)
    short = row["window"] in (Window.MINUTE, Window.HOUR)
    return (
        f"{row['window']} of {starts:%Y-%m-%d %H:%M}"
        if short
        else (f"{row['window']} of {starts:%Y-%m-%d}")
    )


def _amounts(row: Mapping[str, Any]) -> list[str]:
    figures = [row[name] for name in ("cap", "used", "reserved", "left")]
    if row["unit"] == "usd":
        return [dollars(Paid.of(figure), CENTS) for figure in figures]
    return [f"{figure:,} {row['unit']}" for figure in figures]
