"""What is wrong with a configuration: everything at once, each with file, line, key and remedy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import NamedTuple

from stillhouse.core.errors import ConfigError

At = tuple[str | int, ...]
"""Where something stands: `("budgets", 0, "usd")`."""

_SECRET = re.compile(
    r"\b(?:(?:sk|rk|pk|gsk|csk|xai|fw|pplx|hf|ghp|tgp)[-_]|AIza|ya29\.|eyJ|AKIA)"
    r"(?=[A-Za-z_.-]*\d)[\w.-]{16,}"
    r"|^(?:[Bb]earer|[Bb]asic)\s"
    r"|^(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])(?=\D*\d)[A-Za-z0-9+=]{32,}$"
    r"|^[0-9a-f]{32,}$"
)
_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:api_?key|key|token|secret|password|passwd)$", re.IGNORECASE
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]=,]+?)\s*\]\]?\s*(?:#.*)?$")


def looks_secret(text: str) -> bool:
    """Whether a text could be a key: such a text never stands in a message.

    >>> looks_secret("sk-proj-abcdefghijklmnop1234"), looks_secret("OPENAI_API_KEY")
    (True, False)
    """
    return bool(_SECRET.search(text))


def names_secret(key: str) -> bool:
    """Whether a key's name says that its value is a secret.

    >>> names_secret("api_key"), names_secret("key_env")
    (True, False)
    """
    return bool(_SECRET_NAME.search(key))


def shown(value: object) -> str:
    """A value as a message may show it: short, and no secret.

    >>> shown("htp://x"), shown(True), shown("sk-ant-" + 20 * "x1")
    ("'htp://x'", 'true', '(not shown: it looks like a key)')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and looks_secret(value):
        return "(not shown: it looks like a key)"
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something is near, else what there is.

    >>> nearest("prot", ["host", "port"])
    "; did you mean 'port'?"
    """
    there = sorted(known)
    near = get_close_matches(name, there, 1, 0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known here: {', '.join(there)}" if there else ""


def dotted(at: At) -> str:
    """A place as TOML writes it.

    >>> dotted(("models", "gpt-4.1", "aliases")), dotted(("budgets", 0, "usd"))
    ('models."gpt-4.1".aliases', 'budgets[1].usd')
    """
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else f'"{part}"')
    return text


class Complaint(NamedTuple):
    """One thing that is wrong: where it stands, and a sentence with value and remedy."""

    at: At
    line: int | None
    sentence: str


class Complaints:
    """Collects what is wrong in one file."""

    def __init__(self, source: str, text: str = "") -> None:
        self._source = source
        self._lines = key_lines(text)
        self.found: list[Complaint] = []

    def say(self, at: At, sentence: str) -> None:
        """Keep a complaint; `sentence` goes on after the key's name."""
        self.found.append(Complaint(at, self._line(at), f"{dotted(at)} {sentence}"))

    def _line(self, at: At) -> int | None:
        """The line of a place, or of what it stands in."""
        while at:
            if at in self._lines:
                return self._lines[at]
            at = at[:-1]
        return None

    def check(self) -> None:
        """Raise ConfigError with all complaints, in the order of the file."""
        if self.found:
            ordered = sorted(self.found, key=lambda one: one.line or 0)
            raise ConfigError("\n".join(map(self._sentence, ordered)))

    def _sentence(self, one: Complaint) -> str:
        place = self._source if one.line is None else f"{self._source}:{one.line}"
        return f"{place}: {one.sentence.strip()}"


def key_lines(text: str) -> dict[At, int]:
    """The line of each table and key, as far as a look at the line's beginning tells.

    >>> key_lines("[server]\\nport = 1\\n[[budgets]]\\nusd = '1'")
    {('server',): 1, ('server', 'port'): 2, ('budgets', 0): 3, ('budgets', 0, 'usd'): 4}
    """
    found: dict[At, int] = {}
    table: At = ()
    counts: dict[At, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = _TABLE.match(line)
        if header:
            path: At = tuple(_path(header[2]))
            if header[1] == "[[":
                counts[path] = counts.get(path, -1) + 1
                path = (*path, counts[path])
            table = path
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_path(key[1])), number)
    return found


def _path(key: str) -> Iterator[str]:
    try:
        found: object = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return
    while isinstance(found, dict):
        ((name, found),) = found.items()
        yield name
