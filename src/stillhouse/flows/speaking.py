"""How an upstream is spoken to for a caller, and which of its header fields the caller gets."""

from __future__ import annotations

from stillhouse.core.calls import Headers, UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import CallerError
from stillhouse.dialects.paths import UPSTREAM_PATH
from stillhouse.dialects.peek import with_model, with_usage
from stillhouse.dialects.translate import Translation, translation
from stillhouse.flows.house import Asked, House, Way, Ways

KEPT_BACK = frozenset(
    b"content-length set-cookie server date alt-svc strict-transport-security via".split()
)
"""Header fields of an upstream that speak of its own connection, and go no further."""

_NOT_THEIRS = (b"access-control-", b"x-stillhouse-", b"cross-origin-")
_TO_BROWSERS = frozenset(b"clear-site-data location refresh set-cookie2 www-authenticate".split())
"""What an upstream has no say in here: whose pages may read an answer, and what browsers do."""

_CHAT = Wire.CHAT  # members of an enumeration are dear to look up

_STAYS = KEPT_BACK | _TO_BROWSERS


def passed_on(said: Headers) -> Headers:
    """The header fields of an upstream that the caller gets.

    >>> passed_on([(b"x-request-id", b"r1"), (b"access-control-allow-origin", b"*")])
    [(b'x-request-id', b'r1')]
    """
    return [
        field for field in said if field[0] not in _STAYS and not field[0].startswith(_NOT_THEIRS)
    ]


def headers_for(exchange_id: str, said: Headers, length: int | None) -> Headers:
    """An answer's header fields for the caller: the upstream's, the length, the exchange's id.

    >>> headers_for("01ab", [(b"x-request-id", b"r1"), (b"server", b"nginx")], 2)
    [(b'x-request-id', b'r1'), (b'content-length', b'2'), (b'x-stillhouse-exchange', b'01ab')]
    """
    headers = passed_on(said)
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    headers.append((b"x-stillhouse-exchange", exchange_id.encode()))
    return headers


def way(house: House, upstream: str, wire: Wire) -> Way:
    """How an upstream is spoken to for a caller of a wire; CallerError where it cannot be."""
    ways = house.ways
    if ways.catalogue is not house.catalogue:
        ways = house.ways = Ways(house.catalogue)
    found = ways.found.get((upstream, wire))
    if found is None:
        one = house.catalogue.upstreams[upstream]
        found = ways.found[upstream, wire] = Way(one, *spoken(wire, one))
    return found


def spoken(wire: Wire, upstream: Upstream) -> tuple[Wire, Translation | None]:
    """The wire that an upstream is spoken to in for a caller of another, and the translation.

    Raises CallerError where the upstream speaks nothing that this wire can be turned into.
    """
    if wire in upstream.wires:
        return wire, None
    for other in upstream.wires:
        if (turned := translation(wire, other)) is not None:
            return other, turned
    raise CallerError(
        f"the upstream {upstream.name} speaks {', '.join(upstream.wires)}, and {wire} cannot be "
        "turned into that; call a model whose upstream speaks it"
    )


def call_for(
    asked: Asked,
    model: str,
    wire: Wire,
    turned: Translation | None,
    attempt_id: str,
    caller_key: str,
) -> UpstreamCall:
    """A request as its upstream gets it: in its wire, for its model, and so that it tells usage."""
    ask, body = asked.ask, asked.body
    if turned is not None:
        body = turned.request(body, model)
    else:
        if model != ask.model:
            body = with_model(body, model)
        if ask.stream and wire is _CHAT and not ask.wants_usage:
            body = with_usage(body)
    return UpstreamCall(
        wire,
        "POST",
        UPSTREAM_PATH[wire],
        model,
        body,
        ask.stream,
        asked.headers,
        caller_key,
        attempt_id=attempt_id,
    )
