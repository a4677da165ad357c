from __future__ import annotations

import asyncio
import json

import pytest

from stillhouse.gateway.door import LOOPBACK_NAMES, Door, MisdirectedError
from stillhouse.gateway.http import Answer, Question, RefusedError
from stillhouse.gateway.keys import KeyRing, make_key
from stillhouse.gateway.probes import Probes

ADMIN, ADMIN_TOKEN = make_key("admin", 0, admin=True)
PLAIN, PLAIN_TOKEN = make_key("plain", 0)


class Counted:
    """Renders what a test wants to see."""

    def __init__(self) -> None:
        self.accepted = ""

    def render(self, accept: str = "") -> tuple[bytes, bytes]:
        self.accepted = accept
        return b"text/plain; version=0.0.4", b"calls 7\n"


def probes(
    *, counted: Counted | None = None, hosts: frozenset[str] | None = None, fault: str = ""
) -> Probes:
    door = Door(KeyRing([ADMIN, PLAIN]), lambda: 0, lambda: False, hosts)
    return Probes(lambda: {"journal": fault} if fault else {}, counted, door)


def asked(client: str, *headers: tuple[bytes, bytes]) -> Question:
    return Question("GET", "/", b"", list(headers), b"", client)


def metrics(said: Probes, client: str, *headers: tuple[bytes, bytes]) -> Answer:
    return asyncio.run(_metrics(said, asked(client, *headers)))


async def _metrics(said: Probes, question: Question) -> Answer:
    return await said.metrics(question)


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode()


def test_a_process_that_answers_is_alive_and_one_without_faults_is_ready() -> None:
    async def story() -> None:
        said = probes()
        for answer in (await said.health(asked("")), await said.ready(asked(""))):
            assert answer.status == 200
        faulty = probes(fault="the disk is full")
        ready = await faulty.ready(asked("10.0.0.7"))
        assert (ready.status, json.loads(ready.body)["faults"]) == (
            503,
            {"journal": "the disk is full"},
        )
        assert (await faulty.health(asked("10.0.0.7"))).status == 200

    asyncio.run(story())


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1", ""])
def test_metrics_are_for_this_machine(client: str) -> None:
    counted = Counted()
    answer = metrics(probes(counted=counted), client, (b"accept", b"application/openmetrics-text"))
    assert (answer.status, answer.body) == (200, b"calls 7\n")
    assert counted.accepted == "application/openmetrics-text"


@pytest.mark.parametrize("client", ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1%eth0", "unknown"])
def test_from_elsewhere_they_want_an_admin_key(client: str) -> None:
    said = probes(counted=Counted())
    for headers in ([], [bearer(PLAIN_TOKEN)], [bearer("sh-wrong")]):
        with pytest.raises(RefusedError) as caught:
            metrics(said, client, *headers)
        assert caught.value.status == 403
    assert metrics(said, client, bearer(ADMIN_TOKEN)).status == 200


def test_a_page_that_calls_loopback_by_another_name_reads_no_metrics() -> None:
    said = probes(counted=Counted(), hosts=LOOPBACK_NAMES)
    with pytest.raises(MisdirectedError):
        metrics(said, "127.0.0.1", (b"host", b"evil.example"))
    assert metrics(said, "127.0.0.1", (b"host", b"127.0.0.1:8400")).status == 200


def test_metrics_that_are_off_are_not_there() -> None:
    with pytest.raises(RefusedError) as caught:
        metrics(probes(), "127.0.0.1")
    assert caught.value.status == 404
