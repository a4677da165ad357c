from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING

import pytest

from stillhouse.core.calls import Fate
from stillhouse.core.traffic import AttemptKind, Evidence

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

TOML = """
[upstreams.faulty]
base_url = "{url}/v1"
host = "openai"
allow_private = true

[models.hedged]
deployments = [{{ upstream = "faulty", model = "gpt-4o-mini" }}]
hedge_after_seconds = 0.05
"""


def ask(served: Served, words: str, *, stream: bool) -> tuple[str, bytes]:
    """The id of an exchange and its answer."""
    place = served.url.removeprefix("http://")
    talk = http.client.HTTPConnection(place, timeout=20)
    turns = [{"role": "user", "content": words}]
    body = json.dumps({"model": "hedged", "messages": turns, "stream": stream})
    headers = {"authorization": f"Bearer {served.token}", "content-type": "application/json"}
    talk.request("POST", "/v1/chat/completions", body, headers)
    answer = talk.getresponse()
    content = answer.read()
    talk.close()
    assert answer.status == 200
    return answer.headers["x-stillhouse-exchange"], content


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_hangs_is_outrun_and_its_connection_closed(
    harbour: Harbour, *, stream: bool
) -> None:
    upstream = harbour.faulty()
    served = harbour.serve(TOML.format(url=upstream.url))
    exchange_id, content = ask(served, "[fault-hang-first]", stream=stream)
    assert b"choices" in content
    until = time.monotonic() + 20
    while len(served.ended(exchange_id)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    ended = {entry.attempt.kind: entry for entry in served.ended(exchange_id)}
    lost, won = ended[AttemptKind.TEACHER], ended[AttemptKind.HEDGE]
    assert (lost.fate, lost.attempt.evidence) == (Fate.OUTRUN, Evidence.ESTIMATED)
    assert (won.fate, won.attempt.evidence) == (Fate.OK, Evidence.REPORTED)
    assert sorted([lost.last, won.last]) == [False, True]
    assert [call.attempt for call in upstream.seen] == [exchange_id, f"{exchange_id}-2"]
