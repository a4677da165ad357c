"""Who is told of notices: standard error always, the webhook where one is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

import orjson

from stillhouse.core.serving import Notice
from stillhouse.providers.webhook import Webhook, notice_facts
from stillhouse.settings.nouns import Students
from stillhouse.settings.students import webhook_secret

STDERR = 2
MOST_REMEMBERED = 10_000


class Announcer:
    """Tells of a notice: as a line once, and to the webhook until it has arrived.

    `write` takes a line of JSON. Lines come again after a restart for what has not arrived by then.
    """

    def __init__(self, webhook: Webhook | None, write: Callable[[bytes], None]) -> None:
        self._webhook, self._write = webhook, write
        self._said: set[str] = set()

    async def __call__(self, notice: Notice) -> bool:
        """Tell; False where the webhook has not taken it, and it has to be told again."""
        if notice.notice_id not in self._said:
            if len(self._said) >= MOST_REMEMBERED:
                self._said.clear()
            self._said.add(notice.notice_id)
            self._write(orjson.dumps({"alert": "student", **notice_facts(notice)}) + b"\n")
        return self._webhook is None or await self._webhook.deliver(notice)

    async def close(self) -> None:
        """Let the webhook's connections go."""
        if self._webhook is not None:
            await self._webhook.close()


def announcer(students: Students, env: Mapping[str, str], now_us: Callable[[], int]) -> Announcer:
    """Who is told by these settings; ConfigError where the webhook's secret is not there."""

    def fault(sentence: str) -> None:
        to_stderr(orjson.dumps({"fault": "webhook", "why": sentence}) + b"\n")

    if not students.webhook_url:
        return Announcer(None, to_stderr)
    webhook = Webhook(
        students.webhook_url,
        webhook_secret(students, env),
        now_us,
        allow_private=students.webhook_allow_private,
        fault=fault,
    )
    return Announcer(webhook, to_stderr)


def to_stderr(line: bytes) -> None:
    """Write a line to standard error, as far as there is one."""
    with suppress(OSError):
        os.write(STDERR, line)
