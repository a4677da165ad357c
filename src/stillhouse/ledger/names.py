"""Who is meant by a model's and a host's name: the same model has many spellings in logs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

from stillhouse.core.errors import CallerError

_COMPACT_DATE = re.compile(r"-(20\d{2})([01]\d)([0-3]\d)(?=-|:|$)")


def matches(patterns: Iterable[str], name: str) -> bool:
    """Say whether one of the patterns fits a name, ignoring case.

    A pattern is an exact name, a name with `*` at its start, its end or both, or `re:` and a
    regular expression to find in the lower-cased name.

    >>> matches(["gpt-4o*", "re:^o[134]"], "o3-mini"), matches(["gpt-4o"], "GPT-4o")
    (True, True)
    """
    lowered = name.lower()
    return any(_fits(pattern, lowered) for pattern in patterns)


def _fits(pattern: str, name: str) -> bool:
    if pattern.startswith("re:"):
        return _regex(pattern[3:]).search(name) is not None
    core = pattern.strip("*").lower()
    if pattern.startswith("*"):
        return core in name if pattern.endswith("*") else name.endswith(core)
    return name.startswith(core) if pattern.endswith("*") else name == core


@cache
def _regex(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        raise CallerError(
            f"the pattern 're:{expression}' is no regular expression: {error}; correct it"
        ) from error


@dataclass(frozen=True, slots=True)
class Host:
    """Who serves models and sends the bill, and how logs may name it.

    `aliases` are patterns of its name, `url` a regular expression of its endpoint, `models`
    patterns of model names that imply it where a log names no host, `resells` the hosts whose
    prices it charges for models it does not list itself.
    """

    name: str
    aliases: tuple[str, ...] = ()
    url: str = ""
    models: tuple[str, ...] = ()
    resells: tuple[str, ...] = ()


def host_from_row(row: Mapping[str, object]) -> Host:
    """Read a Host from a catalogue's plain row: its fields by name, all but `name` optional."""
    lists = {key: row.get(key) or () for key in ("aliases", "models", "resells")}
    tuples = {k: tuple(map(str, v)) for k, v in lists.items() if isinstance(v, Sequence)}
    return Host(name=str(row["name"]), url=str(row.get("url") or ""), **tuples)


class HostNames:
    """Finds the host that a log means, and the spellings under which it may list a model."""

    def __init__(self, hosts: Iterable[Host] = ()) -> None:
        self._hosts = {host.name: host for host in hosts}

    def canonical(self, name: str) -> str:
        """The catalogue's name of a host; one that it does not know keeps its own name.

        A name may be an address (`https://api.openai.com/v1`) or carry what is served after a
        slash (`deepinfra/fp8`).
        """
        lowered = name.strip().lower()
        if "://" in lowered:
            for host in self._hosts.values():
                if host.url and re.match(host.url, lowered):
                    return host.name
            return lowered
        head = lowered.partition("/")[0]
        return self.known(head) or head

    def known(self, name: str) -> str:
        """The catalogue's name of a host by name or alias, empty where it has none."""
        if name in self._hosts:
            return name
        return next((h.name for h in self._hosts.values() if matches(h.aliases, name)), "")

    def places(self, model: str, host: str) -> Iterator[tuple[str, str]]:
        """Where to look for a model's price, first the likeliest: pairs of host and model name.

        With no host named, a prefix that names one is it (`azure/gpt-4o`); otherwise the host
        whose own models are called so.

        >>> names = HostNames([Host("openai", models=("gpt-*",)), Host("azure")])
        >>> list(names.places("azure/gpt-4o", ""))[0], list(names.places("gpt-4o", ""))[0]
        (('azure', 'gpt-4o'), ('openai', 'gpt-4o'))
        """
        lowered = model.strip().lower()
        if host:
            yield from self._at(self.canonical(host), lowered)
            return
        prefix, slash, rest = lowered.partition("/")
        if slash and (named := self.known(prefix)):
            yield from self._at(named, rest)
        for known in self._hosts.values():
            if matches(known.models, lowered):
                yield from self._at(known.name, lowered)
                return

    def _at(self, host: str, model: str) -> Iterator[tuple[str, str]]:
        resold = self._hosts[host].resells if host in self._hosts else ()
        for spelling in spellings(model):
            for place in (host, *resold):
                yield place, spelling


def spellings(model: str) -> list[str]:
    """A model's name as logged, without its vendor's prefix, and with a dashed date.

    >>> spellings("openai/gpt-5.2-20251211")
    ['openai/gpt-5.2-20251211', 'gpt-5.2-20251211', 'openai/gpt-5.2-2025-12-11',
     'gpt-5.2-2025-12-11']
    """
    bare = model.partition("/")[2]
    names = [model, bare] if bare else [model]
    return list(dict.fromkeys([*names, *map(_with_dashed_date, names)]))


def _with_dashed_date(name: str) -> str:
    def dashed(found: re.Match[str]) -> str:
        year, month, day = map(int, found.groups())
        try:
            return f"-{date(year, month, day).isoformat()}"
        except ValueError:
            return found.group(0)

    return _COMPACT_DATE.sub(dashed, name)
