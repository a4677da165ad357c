"""Traffic sorted by what stands around the last user message, in bounded memory and any order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar
from zlib import crc32

from stillhouse.core.traffic import Completion, Exchange, Message, Request
from stillhouse.distillation.templates import masked

SAMPLE = 400
"""Different texts that are kept of each group."""
SETTLED = 5
"""Exchanges that share a context before it counts as repeated."""
_CROWD = 256
_MOST_CROWDS = 5_000
_BEGINNING = 40

Value = TypeVar("Value")


def fingerprint(text: str, seed: int = 0) -> int:
    """Hash a text to 64 bits, the same in every run.

    >>> fingerprint("late parcel") == fingerprint("late parcel") != fingerprint("late parcel", 1)
    True
    """
    salt = seed.to_bytes(8, "little", signed=True)
    content = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(content, digest_size=8, salt=salt).digest(), "little")


class Lowest(Generic[Value]):
    """The values under the `size` lowest keys: a sample that the order of arrival cannot change."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: dict[int, Value] = {}
        self._bound = 1 << 64

    def admits(self, key: int) -> bool:
        """Whether a value under this key may still be in the sample at the end."""
        return key < self._bound

    def put(self, key: int, value: Value) -> None:
        """Keep the value if its key is low enough; the key's earlier value is replaced."""
        if key < self._bound:
            self._values[key] = value
            if len(self._values) >= 2 * self._size:
                self._trim()

    def get(self, key: int) -> Value | None:
        """The value kept under a key."""
        return self._values.get(key)

    def values(self) -> list[Value]:
        """The sample, in the order of its keys."""
        self._trim()
        return [value for _, value in sorted(self._values.items(), key=lambda item: item[0])]

    def items(self) -> Iterable[tuple[int, Value]]:
        """Keys and values, in no particular order."""
        return self._values.items()

    def _trim(self) -> None:
        if len(self._values) > self._size:
            keys = sorted(self._values)[: self._size]
            self._values = {key: self._values[key] for key in keys}
            self._bound = keys[-1]


@dataclass(frozen=True, slots=True)
class Context:
    """All messages but the last user message, which stands at the `>` in `roles`.

    `key` is equal where the texts differ only in numbers, dates, ids and spaces. `kind` is what
    contexts must share to be compared: all of the system prompt if earlier turns vary as well,
    otherwise a pair of words of its beginning, the same in nearly all versions (Broder 1997).
    """

    roles: tuple[str, ...]
    texts: tuple[str, ...]
    key: int
    system: str
    kind: str

    @property
    def has_turns(self) -> bool:
        """Whether somebody answered before: few-shot examples, or a conversation."""
        return any(role not in {"system", ">"} for role in self.roles)


def split_request(request: Request) -> tuple[Context, str] | None:
    """Part a request into its context and its last user message; None if no user speaks.

    >>> asked = Request((Message("system", "Sort."), Message("user", "Where is it?")))
    >>> context, text = split_request(asked)
    >>> context.roles, text
    (('system', '>'), 'Where is it?')
    """
    messages = request.messages
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            return _context(messages[:index], messages[index + 1 :]), messages[index].text
    return None


@lru_cache(maxsize=2048)
def _context(before: tuple[Message, ...], after: tuple[Message, ...]) -> Context:
    roles = [
        *("system" if message.role == "developer" else message.role for message in before),
        ">",
        *(message.role for message in after),
    ]
    texts = tuple(message.text for message in (*before, *after))
    forms = [masked(text) for text in texts]
    named = [role for role in roles if role != ">"]
    system = "\n".join(form for role, form in zip(named, forms, strict=True) if role == "system")
    key = fingerprint("\0".join((*roles, *forms)))
    pairs = map(" ".join, pairwise(system.split(maxsplit=_BEGINNING)[:_BEGINNING]))
    turns = len(roles) > 1 + roles.count("system")
    kind = system if turns else min(pairs, key=_quick_hash, default=system)
    return Context(tuple(roles), texts, key, system, kind)


def _quick_hash(text: str) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"))


class Item(NamedTuple):
    """What is kept of one exchange in a sample."""

    exchange_id: str
    context: Context
    text: str
    completion: Completion
    at_us: int | None


class Group:
    """Exchanges of one context: how many, and a sample of their different texts."""

    def __init__(self) -> None:
        self.count = 0
        self._sample: Lowest[Item] = Lowest(SAMPLE)

    def add(self, key: int, item: Item) -> None:
        """Count an exchange; `key` is the fingerprint of its text."""
        self.count += 1
        self._keep(key, item)

    def absorb(self, other: Group) -> None:
        """Take over another group's exchanges."""
        self.count += other.count
        for key, item in other._sample.items():
            self._keep(key, item)

    @property
    def sample(self) -> list[Item]:
        """A sample of exchanges with different texts."""
        return self._sample.values()

    def _keep(self, key: int, item: Item) -> None:
        if self._sample.admits(key):
            kept = self._sample.get(key)
            if kept is None or item.exchange_id < kept.exchange_id:
                self._sample.put(key, item)


class Crowd:
    """Exchanges of one kind of context: a group for each repeated context, and the strays.

    Past 256 groups the small ones become strays; only then may the order of arrival show.
    """

    def __init__(self) -> None:
        self.count = 0
        self._groups: dict[int, Group] = {}
        self._strays = Group()

    def add(self, key: int, item: Item) -> None:
        """Put an exchange into the group of its context; `key` is its text's fingerprint."""
        self.count += 1
        group = self._groups.get(item.context.key)
        if group is None:
            group = self._groups[item.context.key] = Group()
        group.add(key, item)
        if len(self._groups) > 2 * _CROWD:
            self._fold()

    def settle(self) -> tuple[list[Group], Group]:
        """The groups of repeated contexts, and one group of all contexts that hardly repeat."""
        self._fold()
        return [group for _, group in sorted(self._groups.items())], self._strays

    def _fold(self) -> None:
        """Count rare contexts as strays, and all small ones where too many repeat."""
        self._join(SETTLED)
        if len(self._groups) > _CROWD:
            self._join(max(SETTLED, self.count // _CROWD))

    def _join(self, fewest: int) -> None:
        for key in [key for key, group in self._groups.items() if group.count < fewest]:
            self._strays.absorb(self._groups.pop(key))


def gather(exchanges: Iterable[Exchange], seed: int = 0) -> dict[tuple[str, ...], Crowd]:
    """Sort traffic into crowds by tag, roles and kind of context.

    The key of a crowd starts with its tag, empty where nobody tagged. Memory is bounded by the
    number of different system prompts, whatever the number of exchanges.
    """
    crowds: dict[tuple[str, ...], Crowd] = {}
    for exchange in exchanges:
        parts = split_request(exchange.request)
        if parts is None:
            continue
        context, text = parts
        key = (exchange.tags.task.strip(), *context.roles, context.kind)
        crowd = crowds.get(key)
        if crowd is None:
            if len(crowds) >= _MOST_CROWDS:
                crowds = {k: crowd for k, crowd in crowds.items() if crowd.count >= SETTLED}
            crowd = crowds[key] = Crowd()
        item = Item(exchange.exchange_id, context, text, exchange.completion, exchange.at_us)
        crowd.add(fingerprint(text, seed), item)
    return crowds
