"""One request in one form: the key under which an exact response cache finds its answer."""

from __future__ import annotations

import hashlib
import json

from stillhouse.core.catalogue import Wire

IGNORED: frozenset[str] = frozenset(
    {"stream", "stream_options", "metadata", "user", "store", "safety_identifier"}
)
"""Top-level members that say how an answer is sent, kept or attributed, and not what it is."""


def cache_key(body: bytes, wire: Wire, tenant: str) -> bytes:
    """Digest what a request asks for, so that the same question of the same tenant has one key.

    The order of members and the white space between them make no difference; `1` and `1.0`, which
    a provider may treat alike, do. A body that is no JSON object is digested as it is.

    >>> one = cache_key(b'{"model": "m", "temperature": 0}', Wire.CHAT, "bank")
    >>> one == cache_key(b'{"temperature":0,"model":"m","stream":true}', Wire.CHAT, "bank")
    True
    >>> one == cache_key(b'{"model": "m", "temperature": 0}', Wire.CHAT, "shop")
    False
    """
    try:
        said = json.loads(body)
        if type(said) is dict:
            asked = {name: value for name, value in said.items() if name not in IGNORED}
            body = json.dumps(asked, sort_keys=True, separators=(",", ":")).encode("ascii")
    except (ValueError, RecursionError):
        pass
    digest = hashlib.blake2b(digest_size=32, person=b"stillhouse-cache")
    for part in (wire.value.encode(), tenant.encode("utf-8", "surrogatepass"), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
