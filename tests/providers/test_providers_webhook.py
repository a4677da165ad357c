from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stillhouse.core.serving import Notice
from stillhouse.providers.webhook import Webhook, notice_body, signature
from stillhouse.testing.sockets import ScriptedSocket, Step

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "alerts.md"
NOTICE = Notice("n7", "rolled_back", "intent", 3, "Audits disagree.", 10**15, {"rows": 40})
OK: tuple[Step, ...] = (b"HTTP/1.1 204 No Content\r\n\r\n",)
AT = 1_790_000_000


async def _deliver(
    *script: Step, secret: str = "s", allow_private: bool = True
) -> tuple[bool, ScriptedSocket, list[str]]:
    faults: list[str] = []
    async with ScriptedSocket(script) as receiver:
        webhook = Webhook(
            f"{receiver.url}/hooks/a",
            secret,
            lambda: AT * 10**6,
            allow_private=allow_private,
            fault=faults.append,
        )
        arrived = await webhook.deliver(NOTICE)
        await webhook.close()
        return arrived, receiver, faults


def verifier() -> Callable[..., bool]:
    """The function of the how-to page."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    found: dict[str, Callable[..., bool]] = {}
    exec(code, found)
    return found["is_ours"]


def test_a_notice_is_posted_with_its_kind_its_id_and_a_signature() -> None:
    arrived, receiver, faults = asyncio.run(_deliver(*OK))
    (head,), (body,) = receiver.heads, receiver.bodies
    assert (arrived, faults) == (True, [])
    assert head.startswith(b"POST /hooks/a HTTP/1.1\r\n")
    assert b"x-stillhouse-event: rolled_back\r\n" in head
    assert b"idempotency-key: n7\r\n" in head
    assert f"x-stillhouse-signature: {signature(body, 's', AT)}".encode() in head
    assert json.loads(body) == {
        "id": "n7",
        "kind": "rolled_back",
        "task": "intent",
        "version": 3,
        "sentence": "Audits disagree.",
        "at": "2001-09-09T01:46:40Z",
        "facts": {"rows": 40},
    }


def test_an_id_that_no_header_can_hold_is_written_in_ascii() -> None:
    async def head_of(notice_id: str) -> bytes:
        async with ScriptedSocket(OK) as receiver:
            webhook = Webhook(receiver.url, "s", lambda: 0, allow_private=True)
            assert await webhook.deliver(NOTICE._replace(notice_id=notice_id))
            await webhook.close()
            return receiver.heads[0]

    head = asyncio.run(head_of("wéll\r\nthen-v1"))
    assert b"idempotency-key: w%C3%A9ll%0D%0Athen-v1\r\n" in head


def test_without_a_secret_nothing_is_signed() -> None:
    arrived, receiver, _ = asyncio.run(_deliver(*OK, secret=""))
    assert arrived
    assert b"signature" not in receiver.heads[0]


@pytest.mark.parametrize("status", [b"301 Moved", b"400 Bad", b"500 Broken"])
def test_any_answer_but_a_2xx_is_no_receipt_and_nothing_is_followed(status: bytes) -> None:
    elsewhere = b"HTTP/1.1 %b\r\nlocation: http://127.0.0.1/x\r\ncontent-length: 0\r\n\r\n" % status
    arrived, receiver, (fault,) = asyncio.run(_deliver(elsewhere))
    assert not arrived
    assert len(receiver.heads) == 1
    assert f"status {status[:3].decode()}" in fault


def test_a_private_address_is_not_connected_to_unless_that_is_meant() -> None:
    arrived, receiver, (fault,) = asyncio.run(_deliver(*OK, allow_private=False))
    assert (arrived, receiver.connections) == (False, 0)
    assert "no public address" in fault


def test_a_receiver_that_is_away_is_no_receipt() -> None:
    async def deliver() -> bool:
        async with ScriptedSocket() as gone:
            url = gone.url
        return await Webhook(url, "s", lambda: 0, allow_private=True).deliver(NOTICE)

    assert not asyncio.run(deliver())


def test_the_code_of_the_page_knows_ours_and_refuses_all_else() -> None:
    is_ours, body, now = verifier(), notice_body(NOTICE), int(time.time())
    ours = signature(body, "secret", now)
    assert is_ours(body, ours, "secret")
    assert not is_ours(body + b" ", ours, "secret")
    assert not is_ours(body, ours, "other")
    assert not is_ours(body, ours.replace(str(now), str(now + 1)), "secret")
    assert not is_ours(body, signature(body, "secret", now - 3600), "secret")
    assert not is_ours(body, "nonsense", "secret")
