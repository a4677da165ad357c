"""Batches through the endpoint by the vendors' own SDKs, counted once however often fetched."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anthropic import Anthropic
from openai import (
    APIConnectionError,
    APIStatusError,
    InternalServerError,
    OpenAI,
    PermissionDeniedError,
    RateLimitError,
)

from stillhouse.core.calls import Ended
from stillhouse.core.quotas import Quota, Scope, Unit, Window
from stillhouse.flows.verify import Audit, verify
from stillhouse.gateway.batches import UPLOAD_BYTES
from stillhouse.settings.reading import parse_settings
from stillhouse.store.sqlite import SqliteStore
from stillhouse.testing.batching import BatchUpstream
from stillhouse.wiring import SystemClock
from stillhouse.wiring.books import access_of
from stillhouse.wiring.folding import folder_of

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

PRICES = """
- model: acme-1
  provider: acme
  batch: true
  usd_per_mtok: {input: 1, cache_read: 0.5, output: 4}
- model: acme-1
  provider: acme
  usd_per_mtok: {input: 2, cache_read: 1, output: 8}
- model: claude-acme
  provider: acme
  batch: true
  usd_per_mtok: {input: 3, cache_read: 0.3, output: 15}
"""
PICO = {
    "acme-1": {"input_tokens": 10**6, "cache_read_tokens": 5 * 10**5, "output_tokens": 4 * 10**6},
    "claude-acme": {
        "input_tokens": 3 * 10**6,
        "cache_read_tokens": 3 * 10**5,
        "output_tokens": 15 * 10**6,
    },
}
TEXTS = ["Sun?", "Moon?", "fail", "Rain?", "expire", "Wind?"]
GOOD = 4


@pytest.fixture(scope="module")
def upstream(harbour: Harbour) -> BatchUpstream:
    return harbour.batching()


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prices") / "prices.yaml"
    file.write_text(PRICES, "utf-8")
    return file


@pytest.fixture(scope="module")
def toml(upstream: BatchUpstream) -> str:
    return f"""
[upstreams.robots]
kind = "scripted"
wires = ["chat", "messages"]
[upstreams.acme]
base_url = "{upstream.url}/v1"
allow_private = true
host = "acme"
wires = ["chat", "responses", "messages"]
models = ["acme-*", "claude-*"]
[upstreams.other]
base_url = "{upstream.url}/elsewhere"
allow_private = true
"""


def served_by(harbour: Harbour, toml: str, prices: Path, **more: Any) -> Served:
    return harbour.serve(toml, prices=prices, **more)


@pytest.fixture
def served(harbour: Harbour, toml: str, prices: Path) -> Served:
    return harbour.serve(toml, prices=prices)


def openai(served: Served, token: str = "plain") -> OpenAI:
    return OpenAI(base_url=served.v1, api_key=served.tokens[token], max_retries=0)


def lines_of(texts: list[str], model: str = "acme-1", url: str = "/v1/chat/completions") -> bytes:
    rows = [
        {
            "custom_id": f"ask-{at}",
            "method": "POST",
            "url": url,
            "body": {"model": model, "messages": [{"role": "user", "content": text}]},
        }
        for at, text in enumerate(texts)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def made_by(client: OpenAI, texts: list[str] = TEXTS) -> Any:
    file = client.files.create(file=("ask.jsonl", lines_of(texts)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def paid(line: dict[str, Any]) -> int:
    """What a line of results costs, worked out by hand; pico-dollars."""
    if "result" in line:
        said = line["result"].get("message") or {}
        usage = said.get("usage", {})
        counts = {
            "input_tokens": usage.get("input_tokens", 0),
            "cache_read_tokens": usage.get("cache_read_input_tokens", 0),
            "output_tokens": usage.get("output_tokens", 0),
        }
    else:
        said = (line["response"] or {}).get("body") or {}
        usage = said.get("usage", {})
        read = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        counts = {
            "input_tokens": usage.get("prompt_tokens", 0) - read,
            "cache_read_tokens": read,
            "output_tokens": usage.get("completion_tokens", 0),
        }
    price = PICO[said["model"]] if usage else {}
    return sum(amount * counts[leaf] for leaf, amount in price.items())


def read_lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def booked(served: Served) -> SqliteStore:
    """The books, with all in them that the journals hold; to be closed."""
    settings = parse_settings(
        f'[journal]\nfolder = "{served.folder}/journal"\n'
        f'[books]\ndatabase = "{served.folder}/books.db"\n'
        '[upstreams.robots]\nkind = "scripted"\n',
        {},
        "test.toml",
    )
    folder, _ = folder_of(settings, {})
    folder.fold_once(SystemClock().now_us())
    return SqliteStore(served.folder / "books.db")


def cost_of(call: Any) -> int:
    return sum(charge.billed.pico for charge in call.charges if charge.billed is not None)


def spent(served: Served) -> dict[str, int]:
    """What the counters of quotas say, by their names less the window's start."""
    with access_of(f"{served.folder}/books.db") as access:
        return {name.split("@")[0]: s.spent for name, s in access.counters().items()}


def fetched(client: OpenAI, batch: Any) -> bytes:
    return b"".join(
        client.files.content(name).content for name in (batch.output_file_id, batch.error_file_id)
    )


def fetched_output(client: OpenAI, batch: Any) -> bytes:
    return client.files.content(batch.output_file_id).content


def until(happened: Callable[[], bool]) -> None:
    """Wait for what another thread does; the test's own time limit is the end of it."""
    for _ in range(500):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def ask(
    served: Served, method: str, path: str, body: bytes = b"", **fields: str
) -> tuple[int, bytes]:
    """A plain request, with the endpoint's own key where no field has another; status and body."""
    host = served.url.removeprefix("http://")
    names = {"kind": "content-type", "length": "content-length"}
    said = {"authorization": f"Bearer {served.token}"}
    said |= {names.get(name, name).replace("_", "-"): value for name, value in fields.items()}
    with closing(http.client.HTTPConnection(host, timeout=20)) as line:
        line.putrequest(method, path, skip_host="host" in said)
        for name, value in said.items():
            line.putheader(name, value)
        if "content-length" not in said:
            line.putheader("content-length", str(len(body)))
        line.endheaders(body)
        answer = line.getresponse()
        return answer.status, answer.read()


def test_results_that_are_fetched_by_two_workers_again_and_again_are_booked_once(
    harbour: Harbour, served: Served, toml: str, prices: Path
) -> None:
    second = served_by(harbour, toml, prices, beside=served)
    with openai(served) as client, openai(second) as other:
        batch = made_by(client)
        bodies = {fetched(one, batch) for one in (client, other, client, other)}
    assert len(bodies) == 1
    lines = read_lines(bodies.pop())
    assert len(lines) == len(TEXTS)
    ends = [entry for entry in served.entries() if isinstance(entry, Ended)]
    assert len(ends) == 4 * len(TEXTS)
    with booked(served) as store:
        calls = list(store.booked())
        assert len(calls) == len(TEXTS)
        assert sum(map(cost_of, calls)) == sum(map(paid, lines)) > 0
        assert list(verify(store, Audit())) == []
        good = [call for call in calls if call.attempt.ok]
        assert len(good) == GOOD
        assert all(call.attempt.batch and call.attempt.model == "acme-1" for call in good)
        assert {call.attempt.evidence.value for call in good} == {"reported"}
        bad = [call for call in calls if not call.attempt.ok]
        assert sorted((call.fate, call.status, cost_of(call)) for call in bad) == [
            ("status", 400, 0),
            ("total_timeout", 0, 0),
        ]


def test_openais_sdk_does_all_that_it_can_with_files_and_batches(
    served: Served, upstream: BatchUpstream
) -> None:
    with openai(served) as client:
        batch = made_by(client, ["Sun?"])
        assert client.batches.retrieve(batch.id).output_file_id == batch.output_file_id
        assert batch.id in {one.id for one in client.batches.list()}
        assert client.batches.cancel(batch.id).status == "cancelling"
        assert client.files.retrieve(batch.input_file_id).purpose == "batch"
        assert batch.input_file_id in {one.id for one in client.files.list(purpose="batch")}
        assert client.files.content(batch.input_file_id).content == lines_of(["Sun?"])
        assert client.files.delete(batch.input_file_id).deleted
    assert {asked.query for asked in upstream.asked} >= {"purpose=batch"}
    assert not [entry for entry in served.entries() if entry.attempt.model != "acme-1"]


def test_what_is_asked_and_said_goes_through_as_it_is(
    served: Served, upstream: BatchUpstream
) -> None:
    form = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    form += b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    form += b"\x00\xff\r\n" * 30_000 + b"\r\n--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    status, said = ask(served, "POST", "/v1/files", form, kind=kind)
    assert status == 200
    assert upstream.asked[-1].body == form
    assert upstream.asked[-1].headers["content-type"] == kind
    assert served.token not in str(upstream.asked[-1].headers)
    file_id = json.loads(said)["id"]
    status, said = ask(served, "GET", f"/v1/files/{file_id}/content")
    assert (status, said) == (200, b"\x00\xff\r\n" * 30_000)
    assert served.entries() == []


def test_a_file_that_only_begins_like_json_passes_as_it_is(
    served: Served, upstream: BatchUpstream
) -> None:
    contents = [b"{" + b" " * 5_000, b"\n\n  \n", b"", b'{"custom_id": "a"}\n{"b"', b"[1]\n"]
    for content in contents:
        name = upstream.keep(content, "other")
        assert ask(served, "GET", f"/v1/files/{name}/content") == (200, content)
    assert served.entries() == []


def test_anthropics_sdk_fetches_its_results_here_and_they_are_booked_once(served: Served) -> None:
    asks: Any = [
        {
            "custom_id": f"ask-{at}",
            "params": {
                "model": "claude-acme",
                "max_tokens": 30,
                "messages": [{"role": "user", "content": text}],
            },
        }
        for at, text in enumerate(TEXTS)
    ]
    with Anthropic(base_url=served.url, api_key=served.token, max_retries=0) as client:
        batch = client.messages.batches.create(requests=asks)
        here = f"{served.url}/v1/messages/batches/{batch.id}/results"
        assert batch.results_url == here
        assert [one.results_url for one in client.messages.batches.list()][-1] == here
        for _ in range(3):
            kinds = [one.result.type for one in client.messages.batches.results(batch.id)]
        assert kinds == [
            *("succeeded", "succeeded", "errored"),
            *("succeeded", "expired", "succeeded"),
        ]
        assert client.messages.batches.cancel(batch.id).processing_status == "canceling"
        assert client.messages.batches.delete(batch.id).id == batch.id
        assert ask(served, "GET", here.removeprefix(served.url))[0] == 404
    with booked(served) as store:
        calls = list(store.booked())
        assert len(calls) == len(TEXTS)
        assert sum(call.attempt.ok for call in calls) == GOOD
        costs = {cost_of(call) for call in calls if call.attempt.ok}
        assert 0 not in costs
        wires = {call.wire for call in calls}
        assert wires == {"messages"}
        assert list(verify(store, Audit())) == []


def test_what_a_batch_costs_counts_against_quotas_once_and_an_empty_one_begins_no_batch(
    harbour: Harbour, toml: str, prices: Path
) -> None:
    quotas = [
        Quota(Scope.KEY, "*", Unit.COST, Window.TOTAL, 10),
        Quota(Scope.KEY, "*", Unit.TOKENS, Window.TOTAL, 10**9),
        Quota(Scope.KEY, "*", Unit.TOKENS, Window.MINUTE, 10**9),
        Quota(Scope.KEY, "*", Unit.REQUESTS, Window.TOTAL, 100),
    ]
    served = served_by(harbour, toml, prices, quotas=quotas)
    second = served_by(harbour, toml, prices, beside=served)
    with openai(served, "narrow") as client, openai(second, "narrow") as other:
        batch = made_by(client)
        for one in (client, other, client):
            lines = read_lines(fetched(one, batch))
        until(lambda: sum(spent(served).values()) > 1)
        with pytest.raises(RateLimitError, match="is used up, so that no batch is begun"):
            made_by(client)
        with pytest.raises(RateLimitError, match="is used up"):
            made_by(other)
        assert len(fetched(other, batch)) > 0  # what is paid for may be fetched
    cost = sum(map(paid, lines))
    counted = {name.partition("/")[2].partition(":")[2].partition(":")[2]: amount
               for name, amount in spent(served).items()}  # fmt: skip
    tokens = sum(
        (line["response"] or {}).get("body", {}).get("usage", {}).get("total_tokens", 0)
        for line in lines
    )
    assert counted["cost:total:hard"] == cost > 10
    assert counted["tokens:total:hard"] == tokens
    assert counted["requests:total:hard"] == 1  # the batch that was begun
    assert counted.get("tokens:minute:hard", 0) == 0


def test_results_whose_use_cannot_be_counted_are_not_given(
    harbour: Harbour, toml: str, prices: Path
) -> None:
    quota = Quota(Scope.KEY, "*", Unit.COST, Window.TOTAL, 10**12)
    served = served_by(harbour, toml, prices, quotas=[quota])
    with openai(served, "narrow") as client, openai(served) as free:
        batch = made_by(client, ["Sun?"])
        with closing(sqlite3.connect(served.folder / "books.db.access")) as lock:
            lock.execute("BEGIN IMMEDIATE")
            with pytest.raises(InternalServerError, match="Error code: 503"):
                fetched_output(client, batch)
            assert len(read_lines(fetched_output(free, batch))) == 1  # no quota, nothing to count
        assert len(read_lines(fetched_output(client, batch))) == 1


def test_results_that_break_off_are_booked_as_far_as_they_came_and_told_as_broken(
    served: Served, upstream: BatchUpstream
) -> None:
    with openai(served) as client:
        batch = made_by(client, ["Sun?"] * 20)
        upstream.cut_after = 4_321
        with pytest.raises(APIConnectionError):
            fetched_output(client, batch)
        n_booked = sum(isinstance(entry, Ended) for entry in served.entries())
        assert 0 < n_booked < 20
        assert len(read_lines(fetched_output(client, batch))) == 20
    with booked(served) as store:
        assert len(list(store.booked())) == 20


def test_a_key_for_some_models_may_not_use_batches(
    harbour: Harbour, toml: str, prices: Path, upstream: BatchUpstream
) -> None:
    served = served_by(harbour, toml, prices, models=("acme-*",))
    before = len(upstream.asked)
    with openai(served, "narrow") as client, pytest.raises(PermissionDeniedError, match="models"):
        client.batches.list()
    with openai(served_by(harbour, toml, prices, models=("*",)), "narrow") as client:
        client.batches.list()
    assert len(upstream.asked) == before + 1


def test_the_header_names_the_upstream(served: Served, upstream: BatchUpstream) -> None:
    status, said = ask(served, "GET", "/v1/files", x_stillhouse_upstream="other")
    assert (status, upstream.asked[-1].path) == (404, "/elsewhere/files")
    status, said = ask(served, "GET", "/v1/files", x_stillhouse_upstream="robots")
    assert status == 404
    assert b"there is acme, other" in said
    status, said = ask(served, "GET", "/v1/messages/batches", x_stillhouse_upstream="other")
    assert status == 404
    assert json.loads(said)["type"] == "error"
    assert b"there is acme" in said


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/v1/files", 405),
        ("DELETE", "/v1/batches/b", 405),
        ("GET", "/v1/files/..%2f..%2fadmin%2fkeys", 404),
        ("GET", "/v1/files/../admin/content", 404),
        ("GET", "/v1/files/.hidden", 404),
        ("GET", "/v1/batches/none", 404),
        ("GET", "/v1/filesystem", 404),
    ],
)
def test_what_is_no_place_of_batches_is_refused(
    served: Served, method: str, path: str, status: int
) -> None:
    assert ask(served, method, path)[0] == status


def test_a_head_is_answered_without_a_body_and_books_nothing(
    served: Served, upstream: BatchUpstream
) -> None:
    with openai(served) as client:
        batch = made_by(client, ["Sun?"])
    for path in ("/v1/files", f"/v1/files/{batch.output_file_id}/content"):
        assert ask(served, "HEAD", path) == (200, b"")
    assert upstream.asked[-1].method == "HEAD"
    assert served.entries() == []


def test_who_has_no_key_gets_nothing(served: Served, upstream: BatchUpstream) -> None:
    before = len(upstream.asked)
    assert ask(served, "GET", "/v1/files", authorization="Bearer sh-wrong")[0] == 401
    assert ask(served, "GET", "/v1/files", host="evil.example")[0] == 421
    assert len(upstream.asked) == before


def test_an_upload_beyond_the_limit_is_refused_before_it_is_sent(served: Served) -> None:
    length = str(UPLOAD_BYTES + 1)
    status, said = ask(served, "POST", "/v1/files", length=length)
    assert status == 413
    assert b"split it" in said


def test_an_upload_may_be_larger_than_any_other_body(
    harbour: Harbour, toml: str, prices: Path, upstream: BatchUpstream
) -> None:
    served = served_by(harbour, f"{toml}[server]\nmax_body_bytes = 10000\n", prices)
    with openai(served) as client:
        client.files.create(file=("a.jsonl", b"x" * 300_000), purpose="batch")
        assert len(upstream.asked[-1].body) > 300_000
        with pytest.raises(APIStatusError, match="max_body_bytes"):
            client.batches.create(
                input_file_id="f" * 20_000,
                endpoint="/v1/chat/completions",
                completion_window="24h",
            )
