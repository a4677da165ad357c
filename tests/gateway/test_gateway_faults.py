"""Every way in which an upstream fails: what the caller is told, how often it tries, the price."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from stillhouse.core.calls import Ended, Fate
from stillhouse.core.quotas import Quota, Scope, Unit, Window
from stillhouse.core.traffic import AttemptKind, Evidence
from stillhouse.flows.verify import Audit, verify
from stillhouse.providers.tokens import ShapeCounter
from stillhouse.settings.reading import parse_settings
from stillhouse.store.sqlite import SqliteStore
from stillhouse.testing.faulty import FaultyUpstream, SeenCall
from stillhouse.testing.sockets import closed_port
from stillhouse.wiring import SystemClock
from stillhouse.wiring.folding import folder_of

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

PRICES = """
- provider: faulty
  model: faulty
  names: ["fault-*", "faulty-1"]
  usd_per_mtok: {input: 1.25, cache_read: 0.125, output: 10}
"""
PICO = {
    "input_tokens": 1_250_000,
    "cache_read_tokens": 125_000,
    "output_tokens": 10_000_000,
    "reasoning_tokens": 10_000_000,
}
"""Pico-dollars per token, by hand."""

UNHEARD = 256
"""Tokens that an answer nobody heard is taken to have, on a route that has answered nothing yet."""

PATHS = {"chat": "chat/completions", "messages": "messages", "responses": "responses"}


class Expected(NamedTuple):
    """What comes of a call: the caller's status, how many calls go upstream, their fate and price.

    `charge` is `nothing` (known to be free), `reported`, `unheard` (input by tokenizer, output as
    is usual), `heard` (output by what the caller was given) or `begun` (input as reported, output
    by what the caller was given).
    """

    status: int
    calls: int
    fate: str
    charge: str
    upstream_status: int = 0


def status(number: int, *, told: int = 0, calls: int = 1) -> Expected:
    """An upstream's error is passed on; what it may have worked for is charged."""
    charge = "nothing" if number < 500 else "unheard"
    return Expected(told or number, calls, "status", charge, number)


GOOD = Expected(200, 1, "ok", "reported", 200)
UNCOUNTED = Expected(200, 1, "ok", "heard", 200)


def cut(fate: str, whole: Expected) -> tuple[Expected, Expected]:
    """An answer that dies midway: nothing to give, or a stream with an error at its end."""
    whole = whole._replace(upstream_status=200)
    return whole, Expected(200, 1, fate, "heard", 200)


MATRIX: dict[str, Expected | tuple[Expected, Expected]] = {
    # never reached: known to be free, tried again where that can help
    "refused": Expected(502, 2, "refused", "nothing"),
    "dns": Expected(502, 2, "dns", "nothing"),
    "tls": Expected(502, 1, "tls", "nothing"),
    "connect-timeout": Expected(504, 2, "connect_timeout", "nothing"),
    # very likely worked for: charged, and not bought twice
    "first-byte-timeout": Expected(504, 1, "first_byte_timeout", "unheard"),
    "total-timeout": cut("total_timeout", Expected(504, 1, "total_timeout", "unheard")),
    # refused with a 4xx: free; only what passes is tried again
    "400": status(400),
    "401": status(401, told=502),  # the endpoint's own key, so not the caller's fault
    "402": status(402),
    "403": status(403),
    "404": status(404),
    "408": status(408, calls=2),
    "409": status(409, calls=2),
    "413": status(413),
    "422": status(422),
    "429": status(429, calls=2),
    "429-retry-after": status(429, calls=2),
    "429-retry-after-3600": status(429),  # nobody waits for an hour
    "500": status(500, calls=2),
    "502": status(502, calls=2),
    "503": status(503, calls=2),
    "503-retry-after": status(503, calls=2),
    "504": status(504, calls=2),
    "529": status(529, calls=2),
    # connections that go before a word was said: sent, so charged
    "drop": Expected(502, 2, "dropped", "unheard"),
    "reset": Expected(502, 2, "dropped", "unheard"),
    "garbage": Expected(502, 1, "garbage", "unheard"),
    # answers that break
    "truncated-json": (
        Expected(502, 1, "garbage", "unheard", 200),
        Expected(200, 1, "truncated", "heard", 200),
    ),
    "truncated": cut("truncated", Expected(502, 1, "truncated", "unheard")),
    "cut": cut("truncated", Expected(502, 1, "truncated", "unheard")),
    "garbage-chunk": cut("garbage", Expected(502, 1, "garbage", "unheard")),
    "garbage-event": (
        Expected(502, 1, "garbage", "unheard", 200),
        Expected(200, 1, "garbage", "reported", 200),  # its counts came all the same
    ),
    "error-event": (status(529, calls=2), Expected(200, 1, "garbage", "heard", 200)),
    # answers that are well, but for what they say of themselves
    "usage-missing": UNCOUNTED,
    "usage-contradictory": UNCOUNTED,
    # odd, and well
    "gzip": GOOD,
    "br": GOOD,
    "deflate": GOOD,
    "large": GOOD,
    "drip": GOOD,
    "slow": GOOD,
    "http10": GOOD,
    "trailers": GOOD,
    "hints": GOOD,
    "close": GOOD,
}
DYING = ("total-timeout", "truncated", "cut", "truncated-json", "garbage-chunk", "error-event")
"""Streams that end before their last event."""

SAID_AS = {"first-byte-timeout": "hang", "total-timeout": "hang-midway"}
"""What the upstream calls a fault that is the endpoint's impatience."""

NOT_A_FAULT = ("refused", "dns", "tls", "connect-timeout")
TIMES = {
    "connect-timeout": (0.3, 20.0, 20.0),
    "first-byte-timeout": (5.0, 0.4, 20.0),
    "total-timeout": (5.0, 1.2, 1.2),
}
"""Seconds to connect, to the first byte, in all."""


class Case(NamedTuple):
    """One call of the matrix."""

    fault: str
    stream: bool = False
    wire: str = "chat"

    @property
    def name(self) -> str:
        return f"{self.fault}-{self.wire}-{'stream' if self.stream else 'whole'}"

    @property
    def expected(self) -> Expected:
        found = MATRIX[self.fault]
        return found if isinstance(found, Expected) else found[self.stream]

    def body(self, model: str = "") -> bytes:
        said: dict[str, Any] = {"model": model or self.name, "stream": self.stream}
        if self.wire == "responses":
            said["input"] = f"What is wrong with {self.fault}?"
        else:
            said["messages"] = [{"role": "user", "content": f"What is wrong with {self.fault}?"}]
        if self.wire == "messages":
            said["max_tokens"] = 1000
        return json.dumps(said).encode()


CASES = [
    *(Case(fault, stream) for fault in MATRIX for stream in (False, True)),
    *(Case(fault, True, wire) for fault in DYING for wire in ("messages", "responses")),
]


class Answer(NamedTuple):
    """What a caller got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def exchange(self) -> str:
        return self.headers["x-stillhouse-exchange"]


class Phone:
    """A caller that says one thing, and may hang up."""

    def __init__(self, url: str, token: str = "") -> None:
        self._port = int(url.rpartition(":")[2])
        self._token = token

    async def call(
        self,
        wire: str,
        body: bytes,
        *,
        leave: str = "",
        midway: Callable[[], None] | None = None,
    ) -> Answer:
        """Call; `leave` is `begun` (at the stream's first piece) or `asked` (before an answer).

        `midway` is done at the stream's first piece.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(
            f"POST /v1/{PATHS[wire]} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
            f"authorization: Bearer {self._token}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        )
        writer.write(body)
        try:
            if leave == "asked":
                await asyncio.sleep(0.2)
                return Answer(0, {}, b"")
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines if line)
            said = await reader.readuntil(b"\n\n") if leave or midway is not None else b""
            if midway is not None:
                midway()
            said += b"" if leave else await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        body = said if leave or "transfer-encoding" not in headers else b"".join(_chunks(said))
        return Answer(int(first.split()[1]), headers, body)


def _chunks(said: bytes) -> Iterator[bytes]:
    while said:
        size, _, said = said.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert said == b"\r\n", "the answer's last chunk is its end"
            return
        yield said[:length]
        said = said[length + 2 :]
    raise AssertionError("the answer broke off without its last chunk")


class Matrix(NamedTuple):
    """What came of all the calls: answers, journal entries by exchange, what the upstream saw."""

    answers: dict[Case, Answer]
    booked: dict[str, list[Ended]]
    seen: dict[str, SeenCall]


def toml_of(upstream: str, url: str, model: str, times: tuple[float, float, float]) -> str:
    connect, first, total = times
    return (
        f'[upstreams."u-{upstream}"]\nbase_url = "{url}"\nallow_private = true\nhost = "faulty"\n'
        f'wires = ["chat", "messages", "responses"]\nconnect_seconds = {connect}\n'
        f"first_byte_seconds = {first}\ntotal_seconds = {total}\n"
        f'[models."{upstream}"]\nupstream = "u-{upstream}"\nmodel = "{model}"\nretries = 1\n'
    )


class Deaf(NamedTuple):
    """A port that takes no connection and refuses none: its queue is full."""

    port: int


@pytest.fixture(scope="module")
def deaf() -> Iterator[Deaf]:
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(closing(socket.socket()))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield Deaf(listener.getsockname()[1])


@pytest.fixture(scope="module")
def faulty(harbour: Harbour) -> FaultyUpstream:
    return harbour.faulty()


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prices") / "prices.yaml"
    file.write_text(PRICES, "utf-8")
    return file


@pytest.fixture(scope="module")
def toml(faulty: FaultyUpstream, deaf: Deaf) -> str:
    urls = {
        "refused": f"http://127.0.0.1:{closed_port()}/v1",
        "dns": "http://no-such-host.invalid:9/v1",
        "tls": f"https://127.0.0.1:{faulty.port}/v1",
        "connect-timeout": f"http://127.0.0.1:{deaf.port}/v1",
    }
    usual = (5.0, 20.0, 30.0)
    parts = []
    for case in CASES:
        fault = case.fault
        model = "faulty-1" if fault in NOT_A_FAULT else f"fault-{SAID_AS.get(fault, fault)}"
        url = urls.get(fault, f"{faulty.url}/v1")
        told = toml_of(case.name, url, model, TIMES.get(fault, usual))
        parts.append(told + ('recorded = "none"\n' if fault == "large" else ""))
    for name in ("truncated", "503", "refused", "drop"):
        model = "faulty-1" if name in NOT_A_FAULT else f"fault-{name}"
        url = urls.get(name, f"{faulty.url}/v1")
        parts.append(toml_of(f"backed-{name}", url, model, usual) + 'fallbacks = ["spare"]\n')
    parts.append(toml_of("spare", f"{faulty.url}/v1", "faulty-1", usual))
    parts.append(toml_of("late", f"{faulty.url}/v1", "fault-503-retry-after-first", usual))
    for policy in ("cancel", "drain"):
        for fault in ("drip", "hang", "slow"):
            told = toml_of(f"{policy}-{fault}", f"{faulty.url}/v1", f"fault-{fault}", usual)
            parts.append(f'{told}on_disconnect = "{policy}"\n')
    unreached = toml_of("cancel-deaf", urls["connect-timeout"], "faulty-1", (20.0, 20.0, 30.0))
    return "".join([*parts, unreached])


@pytest.fixture(scope="module")
def served(harbour: Harbour, toml: str, prices: Path) -> Served:
    return harbour.serve(toml, prices=prices)


@pytest.fixture(scope="module")
def phone(served: Served) -> Phone:
    return Phone(served.url, served.token)


@pytest.fixture(scope="module")
def matrix(served: Served, faulty: FaultyUpstream, phone: Phone) -> Matrix:
    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(*(phone.call(c.wire, c.body()) for c in CASES))

    answers = dict(zip(CASES, asyncio.run(all_at_once()), strict=True))
    return Matrix(answers, entries_of(served), {call.attempt: call for call in faulty.seen})


def entries_of(served: Served) -> dict[str, list[Ended]]:
    """The ends of calls in the journal, by exchange."""
    found: dict[str, list[Ended]] = {}
    for entry in served.entries():
        if isinstance(entry, Ended):
            found.setdefault(entry.exchange_id, []).append(entry)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_has_its_status_its_calls_and_its_charge(case: Case, matrix: Matrix) -> None:
    expected, answer = case.expected, matrix.answers[case]
    calls = matrix.booked[answer.exchange]
    assert answer.status == expected.status
    kinds = [AttemptKind.TEACHER, AttemptKind.RETRY][: expected.calls]
    assert [call.attempt.kind for call in calls] == kinds
    assert [call.last for call in calls] == [False, True][-expected.calls :]
    for call in calls:
        assert (call.fate, call.status) == (expected.fate, expected.upstream_status)
        seen = matrix.seen.get(call.attempt.attempt_id)
        assert (seen is not None) == call.fate.sent
        evidence, cost = charge_of(case, answer, seen)
        assert call.attempt.evidence is evidence
        assert cost_of(call) == cost
        assert all(charge.billed is not None for charge in call.charges)
        assert call.attempt.ok == (expected.fate == "ok")


def charge_of(case: Case, answer: Answer, seen: SeenCall | None) -> tuple[Evidence, int]:
    """Evidence and cost, worked out from what the upstream saw and what the caller was given."""
    charge = case.expected.charge
    if charge == "nothing":
        return Evidence.DERIVED, 0
    if charge == "reported":
        assert seen is not None
        return Evidence.REPORTED, sum(PICO[leaf] * count for leaf, count in seen.usage.items())
    counter = ShapeCounter()
    used = {"input_tokens": counter.count(f"What is wrong with {case.fault}?")}
    if charge == "unheard":
        used["output_tokens"] = UNHEARD
    else:
        text = text_given(answer.body, case.wire)
        used["output_tokens"] = counter.count(text)
        begun = b"message_start" in answer.body and seen is not None
        if begun and case.fault not in ("usage-missing", "usage-contradictory"):
            assert seen is not None
            used = begun_usage(answer.body, used["output_tokens"])
    return Evidence.ESTIMATED, sum(PICO[leaf] * count for leaf, count in used.items())


def begun_usage(body: bytes, text_tokens: int) -> dict[str, int]:
    """What an Anthropic stream says at its beginning, with the output that followed."""
    (start,) = [event for event in events(body) if event.get("type") == "message_start"]
    usage = start["message"]["usage"]
    used = {"input_tokens": usage["input_tokens"]}
    used["cache_read_tokens"] = usage["cache_read_input_tokens"]
    used["output_tokens"] = max(usage["output_tokens"], text_tokens)
    return used


def events(body: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            assert line == b'{"choices": [{]'
    return found


def text_given(body: bytes, wire: str) -> str:
    """The text of an answer as a caller's client would put it together."""
    if body.startswith(b"{"):
        message = json.loads(body)["choices"][0]["message"]
        return str(message["content"])
    said = events(body)
    if wire == "responses":
        return "".join(e["delta"] for e in said if e.get("type", "").endswith("text.delta"))
    if wire == "messages":
        return "".join(e["delta"].get("text", "") for e in said if "delta" in e)
    choices = [choice for event in said for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def cost_of(call: Ended) -> int:
    return sum(charge.billed.pico for charge in call.charges if charge.billed is not None)


@pytest.mark.parametrize("wire", PATHS)
@pytest.mark.parametrize("fault", DYING)
def test_a_stream_that_dies_says_so_in_its_own_words(wire: str, fault: str, matrix: Matrix) -> None:
    body = matrix.answers[Case(fault, stream=True, wire=wire)].body
    said = events(body)
    last = said[-1]
    assert [event for event in said if event.get("error")] == [last]
    assert b"[DONE]" not in body
    assert text_given(body, wire), "a part of the answer had arrived"
    upstreams_own = fault == "error-event"
    if wire == "chat":
        assert last["error"]["type"] == ("overloaded_error" if upstreams_own else "server_error")
    elif wire == "messages":
        assert last["type"] == "error"
        assert last["error"]["type"] == ("overloaded_error" if upstreams_own else "api_error")
        assert b"message_stop" not in body
    else:
        assert last["type"] == "error"
        assert last["error"]["type"] == ("overloaded_error" if upstreams_own else "server_error")
        assert b"response.completed" not in body


def test_what_an_upstream_says_of_a_wait_is_passed_on_and_heeded(
    matrix: Matrix, phone: Phone, served: Served
) -> None:
    refused = matrix.answers[Case("429-retry-after-3600")]
    assert refused.headers["retry-after"] == "3600"
    answer = asyncio.run(phone.call("chat", Case("late").body("late")))
    assert answer.status == 200
    first, second = served.ended(answer.exchange)
    assert (first.status, first.attempt.evidence) == (503, Evidence.ESTIMATED)
    assert (second.fate, second.attempt.kind) == (Fate.OK, AttemptKind.RETRY)
    assert (second.attempt.at_us or 0) - (first.attempt.at_us or 0) >= 1_000_000


@pytest.mark.parametrize("fault", ["503", "refused"])
def test_a_fallback_answers_and_is_booked_as_one(
    fault: str, phone: Phone, served: Served, faulty: FaultyUpstream
) -> None:
    answer = asyncio.run(phone.call("chat", Case(fault).body(f"backed-{fault}")))
    assert (answer.status, json.loads(answer.body)["model"]) == (200, "faulty-1")
    failed, spare = served.ended(answer.exchange)
    assert (failed.upstream, failed.attempt.kind) == (f"u-backed-{fault}", AttemptKind.TEACHER)
    assert (spare.upstream, spare.attempt.kind) == ("u-spare", AttemptKind.FALLBACK)
    assert (spare.fate, spare.attempt.evidence) == (Fate.OK, Evidence.REPORTED)


@pytest.mark.parametrize("wire", PATHS)
def test_no_other_model_goes_on_with_a_stream_that_died(
    wire: str, phone: Phone, served: Served, faulty: FaultyUpstream
) -> None:
    body = Case("truncated", stream=True, wire=wire).body("backed-truncated")
    answer = asyncio.run(phone.call(wire, body))
    (call,) = served.ended(answer.exchange)
    assert (call.fate, call.upstream) == (Fate.TRUNCATED, "u-backed-truncated")
    assert b"faulty-1" not in answer.body
    seen = {known.attempt: known for known in faulty.seen}[call.attempt.attempt_id]
    assert seen.text.startswith(text_given(answer.body, wire))
    assert len(text_given(answer.body, wire)) < len(seen.text)


def test_a_breaker_opens_and_the_fallback_is_called_at_once(
    phone: Phone, served: Served, faulty: FaultyUpstream
) -> None:
    async def one_by_one() -> list[Answer]:
        return [await phone.call("chat", Case("drop").body("backed-drop")) for _ in range(7)]

    answers = asyncio.run(one_by_one())
    assert [answer.status for answer in answers] == [200] * 7
    fates = [[call.fate for call in served.ended(answer.exchange)] for answer in answers]
    assert fates == [[Fate.DROPPED, Fate.OK]] * 5 + [[Fate.OK]] * 2
    (call,) = served.ended(answers[-1].exchange)
    assert (call.upstream, call.attempt.kind) == ("u-spare", AttemptKind.FALLBACK)


class Left(NamedTuple):
    """A caller leaves: the model that it asks, when it leaves, and what is booked."""

    model: str
    leave: str
    fate: Fate
    charge: str


LEFT = (
    Left("cancel-drip", "begun", Fate.CALLER_GONE, "heard"),
    Left("drain-drip", "begun", Fate.OK, "reported"),
    Left("cancel-hang", "asked", Fate.CALLER_GONE, "unheard"),
    Left("drain-slow", "asked", Fate.OK, "reported"),
    Left("cancel-deaf", "asked", Fate.WITHDRAWN, "nothing"),
)


@pytest.mark.parametrize("left", LEFT, ids=lambda left: left.model)
def test_a_call_whose_caller_leaves_is_booked_either_way(
    left: Left, phone: Phone, served: Served, faulty: FaultyUpstream
) -> None:
    known = set(entries_of(served))
    case = Case("left", stream=left.leave == "begun")

    async def hang_up() -> Ended:
        await phone.call("chat", case.body(left.model), leave=left.leave)
        while not (new := entries_of(served).keys() - known):
            await asyncio.sleep(0.02)
        (exchange,) = new
        (call,) = served.ended(exchange)
        return call

    call = asyncio.run(asyncio.wait_for(hang_up(), 20))
    assert call.fate is left.fate
    seen = {one.attempt: one for one in faulty.seen}.get(call.attempt.attempt_id)
    used = dict[str, int]()
    if left.charge == "nothing":
        assert seen is None
        assert call.attempt.evidence is Evidence.DERIVED
    elif left.charge == "reported":
        assert seen is not None
        assert seen.ended == "whole"
        used = seen.usage
    else:
        assert seen is not None
        assert seen.ended in ("caller_gone", "hung")
        counter = ShapeCounter()
        used["input_tokens"] = counter.count("What is wrong with left?")
        text = text_given(call.answer.encode(), "chat") if left.charge == "heard" else ""
        used["output_tokens"] = counter.count(text) if text else UNHEARD
        assert seen.text.startswith(text)
        assert call.attempt.evidence is Evidence.ESTIMATED
    assert cost_of(call) == sum(PICO[leaf] * count for leaf, count in used.items())


def test_an_exchange_ends_where_its_caller_leaves_before_the_next_try(
    phone: Phone, served: Served, faulty: FaultyUpstream
) -> None:
    known = set(entries_of(served))

    async def hang_up() -> list[Ended]:
        await phone.call("chat", Case("late").body("late"), leave="asked")
        while True:
            for exchange, calls in entries_of(served).items():
                if exchange not in known and calls[-1].last:
                    return calls
            await asyncio.sleep(0.02)

    calls = asyncio.run(asyncio.wait_for(hang_up(), 20))
    assert {call.attempt.attempt_id for call in calls} == {calls[0].exchange_id}
    assert [call.status for call in calls] == [503, 503]


def test_an_exchange_ends_where_a_quota_forbids_the_next_try(
    harbour: Harbour, faulty: FaultyUpstream
) -> None:
    once = Quota(Scope.EVERYBODY, "", Unit.REQUESTS, Window.DAY, 1)
    told = toml_of("503", f"{faulty.url}/v1", "fault-503", (5.0, 20.0, 30.0))
    served = harbour.serve(told, quotas=[once])
    phone = Phone(served.url, served.tokens["narrow"])
    answer = asyncio.run(phone.call("chat", Case("503").body("503")))
    assert answer.status == 429
    calls = served.ended(answer.exchange)
    assert {call.attempt.attempt_id for call in calls} == {answer.exchange}
    assert [call.last for call in calls] == [False, True]


class Site(NamedTuple):
    """An endpoint in processes of its own."""

    url: str
    folder: Path
    process: subprocess.Popen[str]

    def ready(self) -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", int(self.url.split(":")[2]))) as line:
            line.request("GET", "/readyz")
            return line.getresponse().status == 200

    def limit_files(self, limit: int) -> None:
        """Let its worker write no file beyond a size, as a full disk does."""
        for pid in (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            .read_text("ascii")
            .split()
        ):
            if b"gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                resource.prlimit(int(pid), resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


@pytest.fixture
def site(faulty: FaultyUpstream, prices: Path, tmp_path: Path) -> Iterator[Site]:
    toml = f'[books]\ndatabase = "{tmp_path}/b.db"\nprices = "{prices}"\n[server]\nport = 0\n'
    toml += toml_of("drip", f"{faulty.url}/v1", "fault-drip", (5.0, 20.0, 30.0))
    (tmp_path / "stillhouse.toml").write_text(toml, "utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "stillhouse", "serve"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            url = process.stdout.readline().split()[-1].removesuffix("/v1")
            yield Site(url, tmp_path, process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_nothing_is_bought_while_the_journal_cannot_be_written(
    site: Site, faulty: FaultyUpstream
) -> None:
    phone, body = Phone(site.url), Case("drip", stream=True).body("drip")
    before = len(faulty.seen)

    def fill_the_disk() -> None:
        (segment,) = (site.folder / "b.db.journal").glob("*.journal")
        site.limit_files(segment.stat().st_size)

    under_way = asyncio.run(phone.call("chat", body, midway=fill_the_disk))
    assert under_way.status == 200
    assert under_way.body.endswith(b"data: [DONE]\n\n"), "what is bought is given"
    assert len(faulty.seen) == before + 1
    refused = asyncio.run(phone.call("chat", body))
    assert refused.status == 503
    assert "journal" in json.loads(refused.body)["error"]["message"]
    assert len(faulty.seen) == before + 1
    assert not site.ready()

    site.limit_files(resource.RLIM_INFINITY)
    deadline = time.monotonic() + 20
    while not site.ready():
        assert time.monotonic() < deadline, "it never became ready again"
        time.sleep(0.05)
    again = asyncio.run(phone.call("chat", body))
    assert again.status == 200
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(30) == 0
    with SqliteStore(site.folder / "b.db") as store:
        booked = {one.attempt.attempt_id: one for one in store.booked()}
        assert list(verify(store, Audit())) == []
    assert booked.keys() == {under_way.exchange, again.exchange}
    assert {one.fate for one in booked.values()} == {"ok"}


def test_the_books_hold_what_the_journal_said(matrix: Matrix, served: Served, toml: str) -> None:
    books = f'[books]\ndatabase = "{served.folder}/books.db"\n'
    settings = parse_settings(
        f'[journal]\nfolder = "{served.folder}/journal"\n{books}{toml}', {}, "test.toml"
    )
    folder, _ = folder_of(settings, {})
    folder.fold_once(SystemClock().now_us())
    journal = [call for calls in entries_of(served).values() for call in calls]
    audit = Audit()
    with SqliteStore(Path(settings.books.database)) as store:
        booked = {one.attempt.attempt_id: one for one in store.booked()}
        assert list(verify(store, audit)) == []
    assert audit.attempts == len(booked) == len({call.attempt.attempt_id for call in journal})
    for call in journal:
        row = booked[call.attempt.attempt_id]
        assert (row.fate, row.status, row.attempt.evidence) == (
            call.fate,
            call.status,
            call.attempt.evidence,
        )
        assert sum(c.billed.pico for c in row.charges if c.billed is not None) == cost_of(call)
