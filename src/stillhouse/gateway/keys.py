"""Virtual keys: tokens are made and shown once, and checked in memory against salted hashes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress

from stillhouse.core.errors import CallerError
from stillhouse.core.ports import Keyring
from stillhouse.core.quotas import Quota, VirtualKey
from stillhouse.core.traffic import Tags
from stillhouse.ledger.names import matches

PREFIX = "sh"
SECRET_BYTES = 32
POLL_SECONDS = 0.5
"""How often changes of keys are looked for: a revocation holds everywhere within a second."""

LONGEST_TOKEN = 200
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_DIGITS = 43
_NOBODY = VirtualKey("", "", bytes(16), bytes(32))
"""Stands in for keys that do not exist, so that looking for one takes as long as for any other."""


def new_token(key_id: str, secret: bytes) -> str:
    """The token of a key: `sh-<key id>-<secret in base 62>`.

    >>> new_token("k7", bytes(31) + b"=")
    'sh-k7-000000000000000000000000000000000000000000z'
    """
    number, digits = int.from_bytes(secret, "big"), ""
    while number or len(digits) < _SECRET_DIGITS:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"{PREFIX}-{key_id}-{digits}"


def digest_of(token: bytes, salt: bytes) -> bytes:
    """What is kept of a token: a salted hash of the whole of it, 32 bytes."""
    return hashlib.blake2b(token, digest_size=32, salt=salt, person=b"stillhouse-key").digest()


def make_key(
    name: str,
    created_us: int,
    *,
    tags: Tags | None = None,
    models: tuple[str, ...] = (),
    quotas: tuple[Quota, ...] = (),
    admin: bool = False,
    expires_us: int | None = None,
    students: bool = True,
    draw: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[VirtualKey, str]:
    """Make a key and its token; the token is in nothing that is kept, so show it now or never.

    CallerError where one of `models` is a pattern that cannot be read.
    """
    for pattern in models:
        matches((pattern,), "")
    key_id = draw(6).hex()
    salt, token = draw(16), new_token(key_id, draw(SECRET_BYTES))
    digest = digest_of(token.encode(), salt)
    key = VirtualKey(
        key_id,
        name,
        salt,
        digest,
        tags or Tags(),
        models,
        quotas,
        admin,
        created_us,
        expires_us,
        students=students,
    )
    return key, token


def until_us(key: VirtualKey) -> int | None:
    """The instant from which on a key holds no more; None where it has none."""
    expires, revoked = key.expires_us, key.revoked_us
    if expires is None or revoked is None:
        return revoked if expires is None else expires
    return min(expires, revoked)


class KeyRing:
    """The keys in memory; `replace` puts others in force at once.

    `generation` is another object whenever they may be others.

    A token that was checked is remembered by the SHA-256 of the whole of it, never by a part; only
    tokens that are right are remembered, so there are never more of them than keys.

    >>> key, token = make_key("Rosa", created_us=0)
    >>> ring = KeyRing([key])
    >>> ring.check(token, now_us=1).name, ring.check(token[:-1] + "?", now_us=1)
    ('Rosa', None)
    """

    def __init__(self, keys: Iterable[VirtualKey] = ()) -> None:
        self._keys: dict[bytes, VirtualKey] = {}
        self._right: dict[bytes, VirtualKey] = {}
        self.generation: object = None
        self.replace(keys)

    def replace(self, keys: Iterable[VirtualKey]) -> None:
        """Put these keys in force, and no others; CallerError where two have one id."""
        found: dict[bytes, VirtualKey] = {}
        for key in keys:
            if found.setdefault(key.key_id.encode(), key) is not key:
                raise CallerError(f"two keys have the id {key.key_id!r}; revoke one of them")
        self._keys, self._right = found, {}
        self.generation = object()

    def check(self, token: str | bytes, now_us: int) -> VirtualKey | None:
        """The key of a token; None where it is wrong, expired or revoked, and no word of which."""
        given = token if isinstance(token, bytes) else token.encode("utf-8", "surrogatepass")
        mark = hashlib.sha256(given).digest()
        key = self._right.get(mark)
        if key is None:
            key = self._compare(given)
            if key is None:
                return None
            self._right[mark] = key
        until = until_us(key)
        return None if until is not None and now_us >= until else key

    def _compare(self, token: bytes) -> VirtualKey | None:
        """Compare the whole token in constant time, also where there is no such key."""
        if len(token) > LONGEST_TOKEN:
            return None
        prefix, _, rest = token.partition(b"-")
        known = self._keys.get(rest.rpartition(b"-")[0])
        key = known or _NOBODY
        same = hmac.compare_digest(digest_of(token, key.salt), key.digest)
        return key if same and known is not None and prefix == PREFIX.encode() else None

    def __len__(self) -> int:
        return len(self._keys)


async def follow(
    keyring: Keyring,
    changed: Callable[[tuple[VirtualKey, ...]], None],
    *,
    pause: float = POLL_SECONDS,
    known: int | None = None,
) -> None:
    """Call `changed` with all keys whenever they were changed; ends only by being cancelled.

    While the store is away, or its keys cannot be put in force, those before stay. `known` is the
    version that the caller has in force already, None for none.
    """

    def newer(than: int | None) -> tuple[int, tuple[VirtualKey, ...]] | None:
        version = keyring.keys_version()
        return None if version == than else (version, keyring.keys())

    while True:
        # Whatever is wrong with a store or a row of it: a later revocation must not be missed.
        with suppress(Exception):
            found = await asyncio.to_thread(newer, known)
            if found is not None:
                changed(found[1])
                known = found[0]
        await asyncio.sleep(pause)
