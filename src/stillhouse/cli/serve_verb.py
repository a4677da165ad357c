"""`stillhouse serve`: the endpoint, in front of every model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import click

from stillhouse.cli.configured import configured, with_place
from stillhouse.core.errors import ConfigError
from stillhouse.gateway.control import Handed
from stillhouse.gateway.supervisor import Plan, Supervisor, listen
from stillhouse.gateway.terms import Terms
from stillhouse.routing.catalogue import names
from stillhouse.settings.addresses import is_loopback
from stillhouse.settings.nouns import Hand, Settings
from stillhouse.settings.reading import pack
from stillhouse.settings.starting import (
    database_of,
    find_settings,
    replay,
    scripted,
    with_server,
)
from stillhouse.store.remembered_keys import RememberedKeys
from stillhouse.wiring.books import access_of

APP = "stillhouse.wiring.endpoint:app"
FOLDER = "stillhouse.wiring.folding:fold"
ANSWERING = "stillhouse.wiring.answering:answer"
WATCHING = "stillhouse.wiring.watching:watch"
WORKSHOP = "stillhouse.wiring.workshop:work"
"""What workers and the processes beside them run; loaded there, and not by the supervisor."""

FEW = 8
USUAL_DATABASE = "stillhouse.db"
BUILT_IN = "-"
"""`--scripted` without a file."""


@click.command("serve")
@configured
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: 4100]")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that answer.  [default: 1]")
@click.option(
    "--replay",
    "log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Answer from recorded traffic in place of upstreams.",
)
@click.option(
    "--latency",
    type=click.Choice(["recorded", "none"]),
    default="recorded",
    show_default=True,
    help="How late a replayed answer is.",
)
@click.option(
    "--scripted",
    "script",
    is_flag=False,
    flag_value=BUILT_IN,
    metavar="[FILE]",
    help="Answer from a script, with faults on demand; without FILE a plain answer to all.",
)
@click.option(
    "--insecure-open",
    is_flag=True,
    help="Listen beyond loopback although no virtual key exists: everybody may spend.",
)
@click.pass_context
def verb(
    ctx: click.Context,
    config: Path | None,
    place: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    log: Path | None,
    latency: str,
    script: str | None,
    insecure_open: bool,
) -> None:
    """Put one endpoint in front of every model; each attempt is priced and booked.

    Without a configuration it starts from the provider keys in the environment. SIGHUP reads the
    configuration again without dropping a request; SIGTERM and Ctrl-C let calls under way end,
    once more ends them now.

    \b
    Examples:
      stillhouse serve
      stillhouse serve --config stillhouse.toml --workers 4
      stillhouse serve --replay calls.jsonl --latency none
      stillhouse serve --scripted
    """
    if log is not None and script is not None:
        raise click.UsageError("--replay and --scripted exclude each other")

    def read() -> Settings:
        settings = _source(config, log, latency, script)
        said = {"host": host, "port": port, "workers": workers}
        settings = with_server(settings, insecure_open=insecure_open or None, **said)
        settings = with_place(ctx, settings, place)
        database_of(settings)
        refuse_open_door(settings)
        return settings

    serve(read)


def serve(read: Callable[[], Settings]) -> None:
    """Serve what `read` says, until told to end; it is read again at every reload."""
    settings = read()
    with listen(settings.server.host, settings.server.port) as listener:
        address = listener.getsockname()

        def reread() -> Plan:
            new = read()
            if (new.server.host, new.server.port) != (settings.server.host, settings.server.port):
                raise ConfigError("host and port are bound once; restart to change them")
            return plan_of(new)

        def up() -> None:
            click.echo(banner(settings, address[0], address[1]))

        supervisor = Supervisor(plan_of(settings), listener, reread, _say, up)
        asyncio.run(supervisor.run())


def plan_of(settings: Settings) -> Plan:
    """What the supervisor is to run for these settings."""
    server = settings.server
    terms = Terms(
        max_connections=server.max_connections,
        max_header_bytes=server.max_header_bytes,
        header_seconds=server.header_seconds,
        body_seconds=server.body_seconds,
        write_seconds=server.write_seconds,
        keep_alive_seconds=server.keep_alive_seconds,
        drain_seconds=server.drain_seconds,
    )
    beside: tuple[tuple[str, str], ...] = ()
    if settings.students.enabled:
        beside = (("students", ANSWERING), ("watch", WATCHING))
        if settings.students.retrain is Hand.AUTO:
            beside += (("workshop", WORKSHOP),)
    return Plan(APP, Handed(terms, pack(settings)), server.workers, FOLDER, beside=beside)


def refuse_open_door(settings: Settings) -> None:
    """Nobody but this machine is let in before a key is made; ConfigError says how."""
    server = settings.server
    if is_loopback(server.host) or server.insecure_open:
        return
    with access_of(database_of(settings)) as access:
        _, keys = RememberedKeys(access, Path(settings.journal.folder)).known()
    if all(key.revoked_us is not None for key in keys):
        raise ConfigError(
            f"{server.host} can be reached by others and no virtual key exists, so anybody could "
            "spend; make one with `stillhouse keys create NAME`, or say --insecure-open"
        )


def banner(settings: Settings, host: str, port: int) -> str:
    """What a person wants to know who has just started it.

    >>> print(banner(Settings(source="stillhouse.toml"), "127.0.0.1", 4100).splitlines()[0])
    Stillhouse answers at http://127.0.0.1:4100/v1
    """
    shown = f"[{host}]" if ":" in host else host
    near = shown if is_loopback(host) else "127.0.0.1"
    routes = list(names(settings.catalogue))
    patterns = [p for u in settings.catalogue.upstreams.values() for p in u.models]
    models = [*routes[:FEW], *([f"{len(routes) - FEW} more"] if len(routes) > FEW else [])]
    books = settings.books
    place = f"${books.database_env}" if books.database_env else _without_password(books.database)
    served = "any" if "*" in patterns else ", ".join(models + patterns[:FEW]) or "by UPSTREAM/MODEL"
    model = next(iter(routes), "") or next((p.replace("*", "") for p in patterns if p != "*"), "")
    ledger = f"stillhouse --db {place} ledger" if place != USUAL_DATABASE else "stillhouse ledger"
    body = f'{{"model": "{model or "any"}", "messages": [{{"role": "user", "content": "hello"}}]}}'
    return "\n".join(
        [
            f"Stillhouse answers at http://{shown}:{port}/v1",
            f"  from      {settings.source}",
            f"  upstreams {', '.join(settings.catalogue.upstreams)}",
            f"  models    {served}",
            f"  books     {place}, journal {settings.journal.folder}",
            "  try       "
            f"curl http://{near}:{port}/v1/chat/completions -H 'content-type: application/json' "
            f"-d '{body}'",
            f"  end       Ctrl-C; `{ledger}` says what was spent",
        ]
    )


def _without_password(database: str) -> str:
    head, sign, rest = database.rpartition("@")
    return f"{head.partition('://')[0]}://...@{rest}" if sign and "://" in head else database


def _source(config: Path | None, log: Path | None, latency: str, script: str | None) -> Settings:
    if log is not None:
        return replay(log, latency)
    if script is not None:
        return scripted(None if script == BUILT_IN else Path(script))
    return find_settings(config)


def _say(sentence: str) -> None:
    click.echo(f"stillhouse: {sentence}", err=True)
