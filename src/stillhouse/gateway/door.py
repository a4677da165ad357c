"""Who is at the door: the key, what its calls are booked under, which headers may go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from stillhouse.core.errors import CallerError
from stillhouse.core.quotas import VirtualKey
from stillhouse.core.traffic import Tags
from stillhouse.gateway.heads import Head
from stillhouse.gateway.keys import until_us

OURS = b"sh-"
"""How the tokens of virtual keys begin."""

PASSED_ON = frozenset(
    (
        b"anthropic-beta",
        b"anthropic-version",
        b"idempotency-key",
        b"openai-beta",
        b"openai-organization",
        b"openai-project",
        b"x-client-request-id",
    )
)
"""Header fields of callers that go on to an upstream."""

_TAGS = {
    b"x-stillhouse-task": "task",
    b"x-stillhouse-team": "team",
    b"x-stillhouse-customer": "customer",
    b"x-stillhouse-feature": "feature",
    b"x-stillhouse-region": "region",
}
_TAG_NAMES = frozenset(_TAGS)
_READ = frozenset(
    (
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"x-stillhouse-key",
        b"content-length",
        b"content-encoding",
        b"host",
        b"origin",
        b"traceparent",
        b"x-stillhouse-students",
        *PASSED_ON,
        *_TAGS,
    )
)
_LONGEST_TAG = 128
_REMEMBERED = 10_000

NOBODY = VirtualKey("", "", b"", b"")
"""Who calls where no keys are made: only on an endpoint that is open on purpose."""


class Keys(Protocol):
    """The virtual keys; `generation` is another object whenever they may be others."""

    @property
    def generation(self) -> object:
        """Which keys are in force."""
        ...

    def check(self, token: bytes, now_us: int) -> VirtualKey | None:
        """Whose token this is; None where it is nobody's, expired or revoked."""
        ...


class Visitor(NamedTuple):
    """A caller that was let in; it prints without its headers and keys.

    `found` are the fields that matter of the request that it was made for, whose length is not that
    of the next one with the same head. `students` says whether one may answer this caller.
    """

    key: VirtualKey
    tags: Tags
    headers: tuple[tuple[bytes, bytes], ...]
    caller_key: str
    found: dict[bytes, bytes]
    traceparent: str
    students: bool

    def __repr__(self) -> str:
        return f"Visitor(key={self.key.key_id!r}, tags={self.tags!r})"


class MisdirectedError(CallerError):
    """A request was sent to a name that is not this endpoint's, or by a page of another site."""


class Door:
    """Lets callers in by their key.

    While `open_house` says so, everybody is let in who shows no key of ours. `hosts` are the names
    that the Host field may have, None for any: without the check, a web page could call an endpoint
    on its reader's own machine under a name that its author has pointed there. Nor is a page of
    another site let in without a key, which could spend although it cannot read the answers.
    """

    def __init__(
        self,
        keys: Keys,
        now_us: Callable[[], int],
        open_house: Callable[[], bool],
        hosts: frozenset[str] | None = None,
    ) -> None:
        self._keys, self._now_us, self._open = keys, now_us, open_house
        self._hosts = hosts
        self._admitted: set[bytes] = set()
        self._tags: dict[tuple[object, ...], Tags] = {}

    def enter(self, headers: list[tuple[bytes, bytes]], head: Head | None = None) -> Visitor | None:
        """Let a caller in; None for a missing or wrong key, MisdirectedError for a wrong Host.

        Who was let in by the same `head` is again, without a look at it, while the same keys are in
        force and nothing else could turn him away. A refusal is never remembered.
        """
        if head is None:
            return self._look_at(headers)
        visitor = head.visitor
        if (
            visitor is not None
            and head.keys is self._keys.generation
            and (head.until_us is None or self._now_us() < head.until_us)
            and (visitor.key is not NOBODY or self._open())
        ):
            return visitor
        visitor = self._look_at(headers)
        if visitor is not None:
            head.visitor, head.keys = visitor, self._keys.generation
            head.until_us = until_us(visitor.key)
        return visitor

    def _look_at(self, headers: list[tuple[bytes, bytes]]) -> Visitor | None:
        found = {name: value for name, value in headers if name in _READ}
        host = found.get(b"host", b"")
        if self._hosts is not None and host not in self._admitted:
            self.check_host(host)
            if len(self._admitted) >= _REMEMBERED:
                self._admitted.clear()
            self._admitted.add(host)
        token = _token(found)
        own = found.get(b"x-stillhouse-key", b"")
        caller_key = ""
        if own or token.startswith(OURS):
            key = self._keys.check(own or token, self._now_us())
            if key is None:
                return None
            if own and not token.startswith(OURS):  # a key of ours is for nobody else
                caller_key = token.decode("latin-1")
        elif self._open():
            if b"origin" in found:
                self._check_page(found)
            key, caller_key = NOBODY, token.decode("latin-1")
        else:
            return None
        passed: tuple[tuple[bytes, bytes], ...] = ()
        if not PASSED_ON.isdisjoint(found):
            passed = tuple([field for field in found.items() if field[0] in PASSED_ON])
        return Visitor(
            key,
            self._tags_of(key, found),
            passed,
            caller_key,
            found,
            found.get(b"traceparent", b"").decode("latin-1"),
            key.students and found.get(b"x-stillhouse-students", b"").lower() != b"never",
        )

    def check_host(self, said: bytes) -> None:
        """Raise MisdirectedError where a Host field names another server."""
        if self._hosts is not None and not _is_one_of(self._hosts, said.decode("latin-1").lower()):
            raise MisdirectedError(
                "the Host field names another server; call the endpoint by its own address, "
                "or list the name under hosts in [server]"
            )

    def _check_page(self, found: dict[bytes, bytes]) -> None:
        """Raise MisdirectedError for a page of another site; apps that are no site have no http."""
        origin = found[b"origin"].decode("latin-1").lower()
        scheme, _, place = origin.partition("://")
        own = origin != "null" and (
            scheme not in ("http", "https")
            or place == found.get(b"host", b"").decode("latin-1").lower()
            or _is_one_of(self._hosts or LOOPBACK_NAMES, place)
        )
        if not own:
            raise MisdirectedError(
                "a page of another site may not call this endpoint without a key; make one with "
                "`stillhouse keys create NAME`"
            )

    def _tags_of(self, key: VirtualKey, found: dict[bytes, bytes]) -> Tags:
        """A key's own tags hold; headers name what the key leaves open."""
        if _TAG_NAMES.isdisjoint(found):
            return key.tags
        said = [(name, found[name]) for name in _TAGS if name in found]
        memory = (key.key_id, *said)
        tags = self._tags.get(memory)
        if tags is None:
            if len(self._tags) >= _REMEMBERED:
                self._tags.clear()
            named = {_TAGS[name]: _tag(value) for name, value in said}
            fields = {tag: getattr(key.tags, tag) or named.get(tag, "") for tag in _TAGS.values()}
            tags = self._tags[memory] = Tags(**fields)
        return tags


def _is_one_of(names: frozenset[str], place: str) -> bool:
    """Whether a place is one of some names, with any port or without.

    >>> _is_one_of(LOOPBACK_NAMES, "localhost:4100"), _is_one_of(LOOPBACK_NAMES, "localhost.evil")
    (True, False)
    """
    bare, _, port = place.rpartition(":")
    return place in names or (port.isdigit() and bare in names)


def with_metadata(tags: Tags, metadata: Mapping[str, object]) -> Tags:
    """Fill tags that neither the key nor a header names from a request's own metadata.

    >>> with_metadata(Tags(team="cards"), {"team": "loans", "feature": "search"})
    Tags(task='', team='cards', customer='', feature='search', region='')
    """
    said = {
        tag: _tag(value.encode("utf-8", "replace"))
        for tag in _TAGS.values()
        if not getattr(tags, tag) and isinstance(value := metadata.get(tag), str)
    }
    return tags._replace(**said) if said else tags


def _token(found: dict[bytes, bytes]) -> bytes:
    """The token that a caller shows, wherever its kind of client puts it."""
    shown = found.get(b"authorization", b"")
    if shown[:7].lower() == b"bearer ":
        return shown[7:].strip()
    return found.get(b"x-api-key") or found.get(b"api-key") or b""


def _tag(value: bytes) -> str:
    text = value.decode("utf-8", "replace")[:_LONGEST_TAG]
    return "".join(sign for sign in text if sign.isprintable())


LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]", "::1"))
"""What an endpoint on loopback is called."""
