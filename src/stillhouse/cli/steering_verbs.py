"""`stillhouse promote`, `pause`, `resume`, `rollback`, `retire`: a person says who answers."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stillhouse import wiring
from stillhouse.cli.configured import books_place, configured
from stillhouse.cli.ledger_verb import printable
from stillhouse.cli.terminal import as_json, print_json
from stillhouse.core.errors import CallerError
from stillhouse.core.serving import Change
from stillhouse.flows import steering
from stillhouse.flows.steering import By, Steered
from stillhouse.wiring.books import access_of


def steering_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """What every change takes: a task, a version, why, and who it is that says so."""
    for add in (
        as_json,
        configured,
        click.option("--who", default="", help="Who changes it; the user of the system without."),
        click.option("--why", default="", help="The reason, kept with the change."),
        click.option("--version", type=click.IntRange(1), help="A version of the task."),
        click.argument("task"),
    ):
        verb = add(verb)
    return click.pass_context(verb)


@click.command("promote")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    help="Share of the traffic that it answers at first, as 0.1; all of it without.",
)
@click.option("--key", "keys", multiple=True, metavar="NAME", help="Only calls with this key.")
@steering_options
def promote(
    ctx: click.Context,
    task: str,
    version: int | None,
    share: float,
    keys: tuple[str, ...],
    why: str,
    who: str,
    config: Path | None,
    place: str | None,
    as_json: bool,
) -> None:
    """Let a certified student of TASK answer what it is certified for.

    Without --version the newest certified one. A running endpoint takes it up within seconds; the
    teacher answers all the rest, and audits go on. What was refused cannot be promoted.

    \b
    Examples:
      stillhouse promote support-intents
      stillhouse promote support-intents --version 3 --share 0.1 --why "canary"
      stillhouse promote support-intents --key ana --key ci
    """
    if keys and share < 1:
        raise CallerError("--share and --key each choose who is answered; give one of the two")
    database = books_place(ctx, config, place)
    ids = _key_ids(database, keys)
    with wiring.existing_store(database) as store:
        done = steering.promote(store, task, _by(who, why), version=version, share=share, keys=ids)
    _say(done, as_json)


@click.command("pause")
@steering_options
def pause(ctx: click.Context, **given: Any) -> None:
    """Let the teacher answer TASK for a while; its student gathers evidence and can resume.

    \b
    Examples:
      stillhouse pause support-intents
      stillhouse pause support-intents --why "new prices today"
    """
    _change(ctx, Change.PAUSED, **given)


@click.command("resume")
@steering_options
def resume(ctx: click.Context, **given: Any) -> None:
    """Let a paused student of TASK answer again, as before the pause.

    \b
    Examples:
      stillhouse resume support-intents
    """
    _change(ctx, Change.RESUMED, **given)


@click.command("rollback")
@steering_options
def rollback(ctx: click.Context, **given: Any) -> None:
    """Take the student of TASK out of service: the teacher answers until another is promoted.

    \b
    Examples:
      stillhouse rollback support-intents --why "complaints"
      stillhouse rollback support-intents --version 2 --json
    """
    _change(ctx, Change.ROLLED_BACK, **given)


@click.command("retire")
@steering_options
def retire(ctx: click.Context, **given: Any) -> None:
    """End a version of TASK for good: it neither answers nor gathers evidence any more.

    \b
    Examples:
      stillhouse retire support-intents --version 1
    """
    _change(ctx, Change.RETIRED, **given)


def _change(
    ctx: click.Context,
    what: Change,
    task: str,
    version: int | None,
    why: str,
    who: str,
    config: Path | None,
    place: str | None,
    as_json: bool,
) -> None:
    with wiring.existing_store(books_place(ctx, config, place)) as store:
        done = steering.change(store, task, what, _by(who, why), version=version)
    _say(done, as_json)


def _say(done: Steered, as_json: bool) -> None:
    if as_json:
        print_json(done.facts())
    else:
        click.echo(printable(done.sentence))


def _by(who: str, why: str) -> By:
    return By(who or user_name(), wiring.SystemClock().now_us(), why)


def user_name() -> str:
    """Who runs this, as the system knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in many a container
        return f"uid {os.getuid()}"


def _key_ids(database: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The ids of keys by their names or ids; CallerError for one that is not there."""
    if not names:
        return ()
    with access_of(database) as access:
        there = access.keys()
    known = [key for key in there if key.revoked_us is None]
    found = []
    for name in names:
        ids = [key.key_id for key in known if name in (key.name, key.key_id)]
        if not ids:
            said = ", ".join(key.name for key in known) or "none"
            raise CallerError(f"there is no valid key {name!r}; there is: {said}")
        found += ids
    return tuple(found)
