from __future__ import annotations

import asyncio
import json

import pytest

from stillhouse.core.errors import ConfigError
from stillhouse.core.serving import Notice
from stillhouse.providers.webhook import Webhook
from stillhouse.settings.nouns import Students
from stillhouse.testing.sockets import ScriptedSocket
from stillhouse.wiring.notices import Announcer, announcer

NOTICE = Notice("n7", "voided", "intent", 3, "Another model answered.", 10**15, {"model": "x"})
REFUSED = (b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n",)
TAKEN = (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",)


def test_without_a_webhook_a_line_is_all() -> None:
    lines: list[bytes] = []
    assert asyncio.run(Announcer(None, lines.append)(NOTICE))
    assert [json.loads(line) for line in lines] == [
        {
            "alert": "student",
            "id": "n7",
            "kind": "voided",
            "task": "intent",
            "version": 3,
            "sentence": "Another model answered.",
            "at": "2001-09-09T01:46:40Z",
            "facts": {"model": "x"},
        }
    ]


def test_the_line_comes_once_however_often_the_webhook_is_away() -> None:
    lines: list[bytes] = []

    async def tell() -> list[bool]:
        async with ScriptedSocket(REFUSED, TAKEN) as receiver:
            webhook = Webhook(receiver.url, "s", lambda: 0, allow_private=True)
            told = Announcer(webhook, lines.append)
            arrived = [await told(NOTICE), await told(NOTICE)]
            await told.close()
            return arrived

    assert asyncio.run(tell()) == [False, True]
    assert len(lines) == 1


def test_a_webhook_whose_secret_is_not_there_is_an_error_at_the_start() -> None:
    students = Students(webhook_url="https://hooks.example.com/x", webhook_secret_env="HOOK")
    with pytest.raises(ConfigError, match="names HOOK, which is not set"):
        announcer(students, {}, lambda: 0)
    assert isinstance(announcer(students, {"HOOK": "s"}, lambda: 0), Announcer)
