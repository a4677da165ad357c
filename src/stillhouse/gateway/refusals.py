"""Answers that end a connection, for what never becomes a request."""

from __future__ import annotations

_BODY = b'{"error":{"message":"%s","type":"%s","code":"%s"}}'
_REFUSAL = (
    b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n%s"
)


def refusal(status: bytes, code: bytes, sentence: bytes) -> bytes:
    """An answer that ends its connection, for what never becomes a request.

    >>> refusal(b"408 Request Timeout", b"slow", b"too slow").splitlines()[0]
    b'HTTP/1.1 408 Request Timeout'
    """
    kind = b"server_error" if status[:1] == b"5" else b"invalid_request_error"
    body = _BODY % (sentence, kind, code)
    return _REFUSAL % (status, len(body), body)


FULL = refusal(
    b"503 Service Unavailable",
    b"too_many_connections",
    b"this worker has all the connections it takes; try again soon",
)
SLOW = refusal(b"408 Request Timeout", b"timeout", b"the request's head took too long to arrive")
LARGE = refusal(
    b"431 Request Header Fields Too Large",
    b"headers_too_large",
    b"the request's header fields are too large; send fewer or shorter ones",
)
BROKEN = refusal(b"400 Bad Request", b"invalid_http", b"this is no HTTP request")
LATE = refusal(b"408 Request Timeout", b"timeout", b"the request's body took too long to arrive")
