"""Which addresses an upstream may have: nobody is led into a private network by a typing error."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

_PATH = re.compile(r"[!-~]*")
LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")
_INNER = (".local", ".internal", ".lan", ".home.arpa", ".localdomain", ".localhost", ".svc")
_METADATA = ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200")


def fault_of_url(url: str, allow_private: bool) -> str:
    """What is wrong with an upstream's base URL, as the rest of a sentence; empty where nothing is.

    >>> fault_of_url("https://api.openai.com/v1", False)
    ''
    >>> fault_of_url("http://127.0.0.1:8000/v1", True)
    ''
    >>> fault_of_url("http://127.0.0.1:8000/v1", False)
    "leads to '127.0.0.1', which is private; say allow_private = true if that is meant"
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is no address; write it as https://HOST/PATH"
    return _fault(parts, host, allow_private)


def _fault(parts: SplitResult, host: str, allow_private: bool) -> str:
    if parts.scheme not in ("http", "https") or not host:
        return "is no address; write it as https://HOST/PATH"
    if "@" in parts.netloc:
        return (
            "holds a user or a password; put the key into an environment variable and name that "
            "variable in key_env"
        )
    if parts.query or parts.fragment:
        return "has a query or a fragment; a base URL ends with its path"
    if not _PATH.fullmatch(parts.path):
        return "has a space or a letter beyond ASCII in its path; write those as %20 and the like"
    if str(_address(host) or host) in _METADATA or host.startswith("metadata."):
        return "leads to a cloud's own metadata, which no upstream serves; give a model's address"
    private = is_private(host)
    if private and not allow_private:
        return f"leads to {host!r}, which is private; say allow_private = true if that is meant"
    if parts.scheme == "http" and not allow_private:
        return "is not encrypted; use https, or say allow_private = true for a server of your own"
    if parts.scheme == "http" and private is False and is_address(host):
        return f"sends keys unencrypted to {host!r}, a public address; use https"
    return ""


def is_private(host: str) -> bool:
    """Whether a host lies on this machine or in a private network, as far as its name tells.

    >>> [is_private(host) for host in ("10.0.0.7", "::1", "gpu-1", "vllm.internal", "api.x.ai")]
    [True, True, True, True, False]
    """
    address = _address(host)
    if address is not None:
        return not address.is_global
    name = host.rstrip(".").lower()
    return "." not in name or name in LOOPBACK_NAMES or name.endswith(_INNER)


def is_address(host: str) -> bool:
    """Whether a host is a literal IP address."""
    return _address(host) is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address that is listened on.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, False, True)
    """
    address = _address(host)
    return host.lower() in LOOPBACK_NAMES if address is None else address.is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return _odd_address(host)
    return getattr(found, "ipv4_mapped", None) or found


def _odd_address(host: str) -> IPv4Address | None:
    """An IPv4 address in a spelling that resolvers know as well: `2130706433`, `0x7f.1`."""
    parts = host.split(".")
    if not 1 <= len(parts) <= 4:
        return None
    try:
        numbers = [
            int(p, 16) if p[:2].lower() == "0x" else int(p, 8 if p[:1] == "0" else 10)
            for p in parts
        ]
        *head, last = numbers
        value = sum(n << (24 - 8 * i) for i, n in enumerate(head)) + last
        return IPv4Address(value)
    except ValueError:
        return None
