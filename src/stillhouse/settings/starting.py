"""Settings without a file: from the keys in the environment, from a log, from a script."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from stillhouse.core.catalogue import Catalogue, Upstream
from stillhouse.core.errors import ConfigError
from stillhouse.settings.nouns import Settings
from stillhouse.settings.presets import PRESETS
from stillhouse.settings.reading import USUAL_FILE, read_settings, versioned
from stillhouse.settings.upstreams import ALL_WIRES, key_env_of, preset_upstream

CONFIG_ENV = "STILLHOUSE_CONFIG"


def find_settings(config: Path | None, env: Mapping[str, str] = os.environ) -> Settings:
    """The file that is named, else `stillhouse.toml` if it is here, else the environment's keys."""
    named = config or (Path(env[CONFIG_ENV]) if env.get(CONFIG_ENV) else None)
    if named is not None:
        return read_settings(named, env)
    if USUAL_FILE.exists():
        return read_settings(USUAL_FILE, env)
    return from_environment(env)


def from_environment(env: Mapping[str, str]) -> Settings:
    """Every vendor whose key is in the environment; ConfigError where there is none.

    >>> sorted(from_environment({"OPENAI_API_KEY": "x", "XAI_API_KEY": "y"}).catalogue.upstreams)
    ['openai', 'xai']
    """
    found: dict[str, Upstream] = {}
    taken: set[str] = set()
    for name, preset in PRESETS.items():
        key_env = key_env_of(preset, env)
        if env.get(key_env) and key_env not in taken:
            taken.add(key_env)
            found[name] = preset_upstream(name, env)
    if not found:
        known = ", ".join(dict.fromkeys(p.key_envs[0] for p in PRESETS.values() if p.key_envs))
        raise ConfigError(
            f"there is no {USUAL_FILE} here and no provider's key in the environment ({known}); "
            "set one of them, write the file, or try it without a key: stillhouse serve --scripted"
        )
    return _settings(found, "the provider keys in the environment")


def replay(log: Path, latency: str = "recorded") -> Settings:
    """Answers out of recorded traffic, as late as they were recorded or at once."""
    if not log.is_file():
        raise ConfigError(f"there is no log at {log}; name the file of recorded calls")
    options: dict[str, object] = {"log": str(log), "latency": latency}
    return _trial("replay", options, f"the log {log}")


def scripted(script: Path | None = None) -> Settings:
    """Answers and faults out of a script, or a plain answer to everything without one."""
    if script is not None and not script.is_file():
        raise ConfigError(f"there is no script at {script}; name a file, or leave it out")
    options: dict[str, object] = {} if script is None else {"script": str(script)}
    source = "the built-in script" if script is None else f"the script {script}"
    return _trial("scripted", options, source)


def database_of(settings: Settings, env: Mapping[str, str] = os.environ) -> str:
    """The database's path or address, with its password where the environment has one."""
    named = settings.books.database_env
    if not named:
        return settings.books.database
    if not env.get(named):
        raise ConfigError(
            f"books.database_env names {named}, which is not set; put the database's address there"
        )
    return env[named]


def with_database(settings: Settings, place: str) -> Settings:
    """Settings with another database, as the command line or a test wants it."""
    return replace(settings, books=replace(settings.books, database=place, database_env=""))


def with_server(settings: Settings, **changes: object) -> Settings:
    """Settings with what the command line says of the server; None changes nothing."""
    said = {name: value for name, value in changes.items() if value is not None}
    return replace(settings, server=replace(settings.server, **said))  # type: ignore[arg-type]


def _trial(kind: str, options: Mapping[str, object], source: str) -> Settings:
    """Answers that nobody bills: with books of their own, apart from those of real money."""
    upstream = Upstream(kind, kind, ALL_WIRES, models=("*",), options=options)
    return with_database(_settings({kind: upstream}, source), f"stillhouse-{kind}.db")


def _settings(upstreams: dict[str, Upstream], source: str) -> Settings:
    return Settings(versioned(Catalogue(upstreams, {})), source=source)
