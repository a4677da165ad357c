"""From a file and the environment to Settings, checked whole: every error at once.

>>> settings = parse_settings('''
... [models.fast]
... upstream = "openai"
... model = "gpt-5-mini"
... [upstreams.openai]
... ''', {}, "stillhouse.toml")
>>> settings.catalogue.routes["fast"].deployments
(Deployment(upstream='openai', model='gpt-5-mini', weight=1.0),)
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from stillhouse.core.catalogue import Catalogue, Route
from stillhouse.core.errors import ConfigError
from stillhouse.settings.budgets import read_budgets
from stillhouse.settings.complaints import At, Complaints, nearest, shown
from stillhouse.settings.models import read_models
from stillhouse.settings.nouns import Recording, Settings
from stillhouse.settings.students import read_students
from stillhouse.settings.tables import SECTIONS, TABLES, read_table
from stillhouse.settings.upstreams import read_upstreams

USUAL_FILE = Path("stillhouse.toml")


def read_settings(path: Path, env: Mapping[str, str]) -> Settings:
    """The configuration in a file; ConfigError with everything that is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no configuration at {path}; give its place with --config, or leave it out "
            "to start from the provider keys in the environment"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path} cannot be read ({why}); make it a readable TOML file") from error
    return parse_settings(text, env, str(path))


def parse_settings(text: str, env: Mapping[str, str], source: str) -> Settings:
    """The configuration in a text; `source` is what messages call it."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: this is not TOML ({error}); see toml.io") from error
    complaints = Complaints(source, text)
    for name in content.keys() - set(TABLES):
        complaints.say((name,), f"is not known{nearest(name, TABLES)}")
    made = {section.into: _section(name, content, complaints) for name, section in SECTIONS.items()}
    made["students"] = read_students(made["students"], complaints)
    recording: Recording = made["recording"]
    upstreams = read_upstreams(content.get("upstreams", {}), env, complaints)
    usual = Route("*", (), recorded=recording.default)
    routes, usual = read_models(content.get("models", {}), upstreams, usual, complaints)
    if not upstreams:
        complaints.say(
            (), "names no upstream, so nothing could be served; write [upstreams.openai], say"
        )
    settings = Settings(
        catalogue=versioned(Catalogue(upstreams, routes, usual=usual)),
        quotas=read_budgets(content.get("budgets", []), complaints),
        source=source,
        **made,
    )
    _check(settings, complaints)
    complaints.check()
    return settings


def versioned(catalogue: Catalogue) -> Catalogue:
    """A catalogue with the digest of what it says."""
    said = msgspec.json.encode(replace(catalogue, version=""), order="deterministic")
    return replace(catalogue, version=blake2b(said, digest_size=8).hexdigest())


def pack(settings: Settings) -> bytes:
    """Settings as bytes, for another process; the environment stays out of them."""
    return msgspec.json.encode(settings)


def unpack(packed: bytes) -> Settings:
    """Settings out of bytes.

    >>> unpack(pack(Settings())) == Settings()
    True
    """
    return msgspec.json.decode(packed, type=Settings)


def _section(name: str, content: dict[str, Any], complaints: Complaints) -> Any:
    section = SECTIONS[name]
    found = read_table(content.get(name, {}), section.fields, (name,), complaints)
    return section.noun(**found)


def _check(settings: Settings, complaints: Complaints) -> None:
    """What no single key can be blamed for."""
    check_database(settings.books.database, ("books", "database"), complaints)
    endpoint = settings.tracing.otlp_endpoint
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        complaints.say(
            ("tracing", "otlp_endpoint"), f"is {shown(endpoint)}; write http://HOST:4318, say"
        )


def check_database(database: str, at: At, complaints: Complaints) -> None:
    """A database's address in a file holds no password."""
    if "://" in database and urlsplit(database).password:
        complaints.say(
            at,
            "holds a password; put the whole address into an environment variable and name that "
            "variable in database_env",
        )
