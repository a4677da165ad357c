"""What callers are allowed: apart from the server, whose libraries not every process needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker allows its callers; seconds, bytes and connections."""

    max_connections: int = 4096
    max_header_bytes: int = 64 * 2**10
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    write_seconds: float = 60.0
    keep_alive_seconds: float = 75.0
    drain_seconds: float = 30.0
