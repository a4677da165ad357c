from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.calls import Ended, Entry, Started
from stillhouse.core.traffic import Tags
from stillhouse.gateway.app import Limits, TooLargeError, read_body
from stillhouse.gateway.keys import make_key
from stillhouse.settings.reading import parse_settings
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.wiring.books import access_of
from stillhouse.wiring.endpoint import Application

TOML = """
[server]
max_body_bytes = 4000

[upstreams.here]
kind = "scripted"
host = "openai"
wires = ["chat", "messages", "responses"]
models = ["gpt-*"]
pass_caller_key = true

[models.fast]
deployments = [{ upstream = "here", model = "gpt-4o-mini" }]
aliases = ["quick"]

[models.dear]
deployments = [{ upstream = "here", model = "gpt-4o" }]
"""

RED = Tags(team="red")
KEYS = {
    "plain": make_key("plain", 0),
    "narrow": make_key("narrow", 0, models=("fast",), tags=RED),
    "admin": make_key("admin", 0, admin=True),
}
ASKED: dict[str, object] = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
CHAT = "/v1/chat/completions"


class Answered:
    """What one request was answered, message by message."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Inside:
    """The whole endpoint, called without a socket."""

    def __init__(self, folder: Path) -> None:
        books = f'[books]\ndatabase = "{folder}/b.db"\n[journal]\nfolder = "{folder}/journal"\n'
        settings = parse_settings(books + TOML, {}, "test.toml")
        with access_of(settings.books.database) as access:
            for key, _ in KEYS.values():
                access.add_key(key)
        self._journal = folder / "journal"
        self.app = Application(settings, "worker-1", {})
        self._runner = asyncio.Runner()
        self._runner.run(self.app.begin())

    def close(self) -> None:
        self._runner.run(self.app.end())
        self._runner.close()

    def ask(
        self,
        body: object = None,
        *headers: tuple[bytes, bytes],
        path: str = CHAT,
        method: str = "POST",
        key: str = "plain",
        messages: list[dict[str, Any]] | None = None,
        client: str = "127.0.0.1",
    ) -> Answered:
        """One request; after its messages the caller neither says anything nor leaves."""
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        if messages is None:
            messages = [{"type": "http.request", "body": content, "more_body": False}]
        waiting, answered = list(messages), Answered()

        async def receive() -> Any:
            if not waiting:
                await asyncio.Event().wait()
            return waiting.pop(0)

        fields = [(b"host", b"localhost:8400"), *headers]
        if key:
            fields.append((b"authorization", f"Bearer {KEYS[key][1]}".encode()))
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": fields,
            "client": (client, 5),
        }

        async def story() -> None:
            await self.app(scope, receive, answered.send)

        self._runner.run(story())
        return answered

    def entries(self) -> list[Entry]:
        """What the journal holds by now."""
        journals = JournalFolder(self._journal)
        return [entry for run in journals.runs() for _, entry in journals.read(run, (0, 0))]

    def started(self, answered: Answered) -> Started:
        exchange_id = answered.headers[b"x-stillhouse-exchange"].decode()
        for entry in self.entries():
            if isinstance(entry, Started) and entry.exchange_id == exchange_id:
                return entry
        raise AssertionError(f"{exchange_id} is not in the journal")


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    made = Inside(tmp_path_factory.mktemp("app"))
    try:
        yield made
    finally:
        made.close()


def error(answered: Answered) -> str:
    said = answered.json["error"]
    assert isinstance(said["message"], str)
    return said["message"]


def test_a_call_is_answered_and_booked_for_its_key(inside: Inside) -> None:
    team = (b"x-stillhouse-team", b"blue")
    answered = inside.ask(ASKED, team, (b"traceparent", b"00-1-2-01"))
    assert (answered.status, answered.json["object"]) == (200, "chat.completion")
    started = inside.started(answered)
    assert (started.key_id, started.tags) == (KEYS["plain"][0].key_id, Tags(team="blue"))
    assert started.attempt.model == "gpt-4o-mini"
    ended = [entry for entry in inside.entries() if isinstance(entry, Ended)][-1]
    assert ended.exchange_id == started.exchange_id
    assert ended.charges[0].billed is not None


def test_exchange_ids_rise_with_time_and_are_32_digits(inside: Inside) -> None:
    ids = [inside.started(inside.ask(ASKED)).exchange_id for _ in range(3)]
    assert {len(exchange_id) for exchange_id in ids} == {32}
    assert [one[:12] for one in ids] == sorted(one[:12] for one in ids)
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (CHAT, {}, None),
        ("/v1/responses", {"model": "fast", "input": "hi"}, None),
        ("/v1/messages", {"max_tokens": 9}, "authentication_error"),
    ],
)
def test_nobody_is_answered_without_a_key_and_hears_it_in_its_own_format(
    inside: Inside, path: str, body: dict[str, object], kind: str | None
) -> None:
    before = len(inside.entries())
    answered = inside.ask({**ASKED, **body}, path=path, key="")
    assert answered.status == 401
    assert "bearer token" in error(answered)
    if kind is not None:
        assert (answered.json["type"], answered.json["error"]["type"]) == ("error", kind)
    assert len(inside.entries()) == before


def test_a_wrong_key_is_not_repeated_to_anybody(inside: Inside) -> None:
    token = KEYS["plain"][1]
    for wrong in (token[:-2] + "zz", "sh-nobody-" + "x" * 43):
        answered = inside.ask(ASKED, (b"x-api-key", wrong.encode()), key="")
        assert answered.status == 401
        assert wrong.encode() not in answered.body
        assert token.encode() not in answered.body


def test_another_servers_name_is_misdirected(inside: Inside) -> None:
    answered = inside.ask(ASKED, (b"host", b"evil.example"))
    assert answered.status == 421
    assert b"evil" not in answered.body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "JSON list"),
        (b'{"model": "\xff"}', "UTF-8"),
        (b"\xff\xfe", "send"),
        (b"{}", "no model"),
        (b'{"model": 7, "messages": []}', "model"),
        (b'{"model": "", "messages": []}', "model"),
        (b'{"model": "fast"}', "messages"),
        (b'{"model": "fast", "messages": {}}', "messages"),
        (b"[" * 5000, ""),
    ],
)
def test_a_body_that_cannot_be_read_is_the_callers_fault(
    inside: Inside, body: bytes, words: str
) -> None:
    answered = inside.ask(body)
    assert answered.status in (400, 413)
    assert words in error(answered)


def test_a_body_over_the_limit_is_refused_and_the_connection_with_it(inside: Inside) -> None:
    large = {**ASKED, "pad": "x" * 5000}
    answered = inside.ask(large)
    assert (answered.status, answered.headers[b"connection"]) == (413, b"close")
    assert "4000" in error(answered)
    unread = inside.ask(ASKED, (b"content-length", b"4001"), messages=[])
    assert unread.status == 413


@pytest.mark.parametrize("coding", [b"gzip", b"br"])
def test_a_coded_body_is_refused(inside: Inside, coding: bytes) -> None:
    answered = inside.ask(b"\x1f\x8b", (b"content-encoding", coding))
    assert answered.status == 400
    assert coding.decode() in error(answered)
    assert inside.ask(ASKED, (b"content-encoding", b"identity")).status == 200


def test_a_caller_that_leaves_before_its_body_is_told_and_costs_nothing(inside: Inside) -> None:
    before = len(inside.entries())
    begun: dict[str, Any] = {"type": "http.request", "body": b'{"model"', "more_body": True}
    gone: dict[str, Any] = {"type": "http.disconnect"}
    for messages in ([gone], [begun, gone]):
        assert inside.ask(messages=messages).sent == []
    assert len(inside.entries()) == before


@pytest.mark.parametrize("name", ["fast", "quick", "gpt-9", "here/anything", "dear"])
def test_a_model_is_found_by_name_alias_pattern_and_upstream(inside: Inside, name: str) -> None:
    assert inside.ask({**ASKED, "model": name}).status == 200


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("nothing", 404),
        ("FAST", 404),
        ("nowhere/gpt-9", 404),
        ("x" * 200, 404),
        ("x" * 3000, 400),
        ("\ud800", 400),
        ("a\nb", 400),
    ],
)
def test_a_model_that_is_not_served_is_not_found(inside: Inside, name: str, status: int) -> None:
    answered = inside.ask({**ASKED, "model": name})
    assert answered.status == status
    assert status == 400 or "/v1/models" in error(answered)
    assert len(error(answered)) < 400
    assert error(answered).isprintable()


def test_a_key_may_call_the_models_that_it_names_and_no_others(inside: Inside) -> None:
    assert inside.ask(ASKED, key="narrow").status == 200
    assert inside.ask({**ASKED, "model": "quick"}, key="narrow").status == 200
    for name in ("dear", "gpt-4o", "gpt-4o-mini", "here/gpt-4o"):
        answered = inside.ask({**ASKED, "model": name}, key="narrow")
        assert answered.status == 404, "and it is not told that there is such a model"
        assert inside.ask({**ASKED, "model": name}).status == 200


def test_a_keys_own_team_is_booked_whatever_a_header_or_the_body_says(inside: Inside) -> None:
    said = {**ASKED, "metadata": {"team": "green"}}
    answered = inside.ask(said, (b"x-stillhouse-team", b"blue"), key="narrow")
    assert inside.started(answered).tags.team == "red"


def test_models_are_listed_as_far_as_a_key_may_call_them(inside: Inside) -> None:
    def listed(key: str, *headers: tuple[bytes, bytes]) -> list[str]:
        answered = inside.ask(b"", *headers, path="/v1/models", method="GET", key=key)
        return [model["id"] for model in answered.json["data"]]

    assert listed("plain") == ["fast", "quick", "dear"]
    assert listed("narrow") == ["fast", "quick"]
    assert listed("narrow", (b"anthropic-version", b"2023-06-01")) == ["fast", "quick"]
    for name in listed("narrow"):
        assert inside.ask({**ASKED, "model": name}, key="narrow").status == 200
        assert inside.ask(b"", path=f"/v1/models/{name}", method="GET", key="narrow").status == 200
    assert inside.ask(b"", path="/v1/models/dear", method="GET", key="narrow").status == 404
    assert inside.ask(b"", path="/v1/models", method="GET", key="").status == 401


def test_tokens_of_a_message_are_counted_for_nothing(inside: Inside) -> None:
    before = len(inside.entries())
    answered = inside.ask({**ASKED, "max_tokens": 5}, path="/v1/messages/count_tokens")
    assert answered.status == 200
    assert answered.json["input_tokens"] > 0
    assert answered.headers[b"x-stillhouse-evidence"] == b"estimated"
    assert len(inside.entries()) == before
    asked = {**ASKED, "model": "dear"}
    assert inside.ask(asked, path="/v1/messages/count_tokens", key="narrow").status == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("DELETE", CHAT, 405),
        ("POST", "/v1/chat", 404),
        ("POST", CHAT + "/", 404),
        ("GET", "/", 404),
        ("GET", "/admin", 404),
        ("GET", "/../etc/passwd", 404),
    ],
)
def test_what_is_not_served_is_said_to_be_so(
    inside: Inside, method: str, path: str, status: int
) -> None:
    assert inside.ask(b"", path=path, method=method).status == status


def test_the_admin_api_wants_an_admin_key(inside: Inside) -> None:
    for path in ("/admin/keys", "/admin/budgets", "/admin/spend"):
        for key, status in (("", 401), ("plain", 403), ("admin", 200)):
            assert inside.ask(b"", path=path, method="GET", key=key).status == status


def test_no_secret_is_in_anything_that_was_answered_or_written(
    inside: Inside, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = b"sk-proj-of-the-caller"
    ours = (b"x-stillhouse-key", KEYS["plain"][1].encode())
    told: list[Answered] = []
    for body in (ASKED, {**ASKED, "stream": True}, {**ASKED, "model": "none"}, b"{"):
        for path in (CHAT, "/v1/messages", "/v1/responses", "/v1/embeddings", "/v1/decisions"):
            told.append(inside.ask(body, ours, (b"authorization", b"Bearer " + mine), path=path))
    for path in ("/v1/models", "/metrics", "/healthz", "/readyz", "/openapi.json", "/admin/keys"):
        told.append(inside.ask(b"", ours, (b"x-api-key", mine), path=path, method="GET", key=""))
        told.append(inside.ask(b"", path=path, method="GET", key="admin"))
    answered = repr([message for one in told for message in one.sent])
    written = repr(inside.entries())
    said = "".join(capfd.readouterr())
    for secret in (mine.decode(), *(token for _, token in KEYS.values())):
        assert secret not in answered
        assert secret not in written
        assert secret not in said
    for key, _ in KEYS.values():
        assert key.digest.hex() not in answered
        assert key.salt.hex() not in answered


def test_a_slow_body_is_given_up_and_says_so() -> None:
    async def story() -> None:
        messages = [{"type": "http.request", "body": b"{", "more_body": True}]

        async def receive() -> Any:
            if not messages:
                await asyncio.Event().wait()
            return messages.pop()

        with pytest.raises(TimeoutError):
            await read_body(receive, {}, Limits(100, 0.01))

    asyncio.run(story())


@pytest.mark.parametrize(
    ("pieces", "fits"), [([b"x" * 100], True), ([b"x" * 101], False), ([b"x" * 50] * 3, False)]
)
def test_a_body_is_measured_as_it_comes(pieces: list[bytes], fits: bool) -> None:
    async def story() -> bytes:
        waiting = list(pieces)

        async def receive() -> Any:
            piece = waiting.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

        return await read_body(receive, {}, Limits(100, 1.0))

    if fits:
        assert asyncio.run(story()) == b"".join(pieces)
    else:
        with pytest.raises(TooLargeError):
            asyncio.run(story())
