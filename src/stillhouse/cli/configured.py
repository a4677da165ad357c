"""What the verbs of the endpoint share: which configuration, which database."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from stillhouse.settings.nouns import Settings
from stillhouse.settings.starting import database_of, find_settings, with_database
from stillhouse.store.opening import beside

DB_ENV = "STILLHOUSE_DB"


def configured(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which configuration and database a verb is about."""
    verb = click.option(
        "--db",
        "place",
        metavar="PLACE",
        help="The books: a SQLite file, or postgresql://...; wins over the configuration's.",
    )(verb)
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The configuration; stillhouse.toml, or the provider keys in the environment, without "
        "it. STILLHOUSE_CONFIG names it as well.",
    )(verb)


def with_place(ctx: click.Context, settings: Settings, place: str | None) -> Settings:
    """Settings with the database that the command line names, and a journal beside it."""
    settings = _placed(ctx, settings, place)
    if settings.journal.folder:
        return settings
    # Beside its own database: two endpoints in one folder never fold into each other's books.
    folder = f"{beside(database_of(settings))}.journal"
    return replace(settings, journal=replace(settings.journal, folder=folder))


def _placed(ctx: click.Context, settings: Settings, place: str | None) -> Settings:
    if place:
        return with_database(settings, place)
    source = ctx.find_root().get_parameter_source("db")
    if source is ParameterSource.ENVIRONMENT:
        # The address may hold a password: its name goes from process to process, it does not.
        return replace(settings, books=replace(settings.books, database_env=DB_ENV))
    if source is ParameterSource.COMMANDLINE:
        return with_database(settings, ctx.obj)
    return settings


def books_place(ctx: click.Context, config: Path | None, place: str | None) -> str:
    """The database for a verb that needs no upstream: a configuration may be absent."""
    named = config or os.environ.get("STILLHOUSE_CONFIG") or Path("stillhouse.toml").exists()
    settings = find_settings(config) if named else Settings()
    return database_of(with_place(ctx, settings, place))
