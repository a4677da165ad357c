from __future__ import annotations

import pytest

from stillhouse.settings.addresses import fault_of_url, is_loopback, is_private

PRIVATE = [
    "http://localhost:11434/v1",
    "https://127.0.0.1/v1",
    "http://10.1.2.3/v1",
    "http://192.168.0.9/v1",
    "http://172.16.0.1/v1",
    "http://[::1]:8000/v1",
    "http://[fd12::1]/v1",
    "http://[::ffff:10.0.0.1]/v1",
    "http://0.0.0.0/v1",
    "http://2130706433/v1",
    "http://0x7f.1/v1",
    "http://0177.0.0.1/v1",
    "http://gpu-1/v1",
    "http://vllm.prod.svc/v1",
    "http://models.internal./v1",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_a_private_address_needs_a_word(url: str) -> None:
    assert "which is private" in fault_of_url(url, allow_private=False)
    assert fault_of_url(url, allow_private=True) == ""


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://8.8.8.8/v1", "unencrypted"),
        ("http://169.254.169.254/latest", "metadata"),
        ("http://metadata.google.internal/x", "metadata"),
        ("https://user@example.com", "a user or a password"),
        ("https://example.com/#part", "a fragment"),
        ("ftp://example.com", "no address"),
        ("https:///v1", "no address"),
        ("https://[::1", "no address"),
        ("https://example.com:port/", "no address"),
        ("example.com", "no address"),
    ],
)
def test_what_no_upstream_may_be_stays_refused_when_private_ones_are_allowed(
    url: str, fault: str
) -> None:
    assert fault in fault_of_url(url, allow_private=True)


def test_a_public_address_is_fine_when_it_is_encrypted() -> None:
    assert fault_of_url("https://api.example.com:8443/v1", allow_private=False) == ""
    assert "not encrypted" in fault_of_url("http://api.example.com/v1", allow_private=False)


def test_only_this_machine_reaches_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.2", "::1", "localhost")] == [True] * 3
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "gpu")] == [False] * 4
    assert not is_private("1.1.1.1")
