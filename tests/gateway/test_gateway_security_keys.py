"""What a key opens and what not: no way around its models and budgets, and no trace of a secret."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from click.testing import CliRunner

from stillhouse.cli import cli
from stillhouse.core.calls import Started, UpstreamCall
from stillhouse.core.catalogue import Wire
from stillhouse.core.money import PICO
from stillhouse.core.quotas import Quota, Scope, Unit, VirtualKey, Window
from stillhouse.core.traffic import Completion, Tags, Usage
from stillhouse.dialects.render import render_body
from stillhouse.flows.fold import Folder
from stillhouse.flows.fold_making import Making
from stillhouse.gateway.keys import make_key
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.store.opening import open_store
from stillhouse.testing.sockets import ScriptedSocket
from stillhouse.testing.sockets import answer as whole
from stillhouse.wiring import SystemClock
from stillhouse.wiring.folding import bodies, estimated

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Heard, Said, Served, Vendor

TURNS = [{"role": "user", "content": "Sun?"}]
OPERATORS = "operator-key-0001-planted"
CALLERS = "callers-own-key-0002-planted"
COOKIE = "cookie-0003-planted"
UNKNOWN = "unknown-field-0004-planted"
GUESS = "sh-0123456789ab-guess0005planted"

_TWO_A_DAY = (Unit.REQUESTS, Window.DAY, 2)
CHEAP = ("cheap*", "gpt-5-nano")
RED, REDS_TOKEN = make_key("red", 0, tags=Tags(team="red"))
CAPPED, CAPPED_TOKEN = make_key(
    "capped", 0, quotas=(Quota(Scope.KEY, "*", Unit.COST, Window.DAY, PICO // 50),)
)
SPELLINGS: list[tuple[tuple[str, ...], bool]] = [
    (names, each)
    for names in (
        ("counted", "counted-by-alias", "counted"),
        ("gpt-4.1", "up/gpt-4.1", "gpt-4.1"),
        ("gpt-4.1", "GPT-4.1", "up/Gpt-4.1"),
    )
    for each in (True, False)
]
COUNTED = {
    (names, each): make_key("counted", 0, quotas=(Quota(Scope.MODEL, name, *_TWO_A_DAY),))
    for names, each in SPELLINGS
    for name in ("*" if each else names[0].upper(),)
}
"""Keys that may call a model twice: any model twice, or the one by another spelling of its name."""


def answer(heard: Heard) -> Said:
    if heard.body.get("model") == "broken":
        return 500, {}, [b"{}"]
    wire = Wire.MESSAGES if heard.path.endswith("messages") else Wire.CHAT
    usage = Usage(input_tokens=9, output_tokens=1)
    body = render_body(
        wire, Completion("Up."), answer_id="1", model="gpt-5-mini", usage=usage, created_s=1
    )
    return 200, {"content-type": "application/json"}, [body]


@pytest.fixture(scope="module")
def vendor(harbour: Harbour) -> tuple[str, Vendor]:
    return harbour.vendor(answer)


@pytest.fixture(scope="module")
def collector(harbour: Harbour) -> ScriptedSocket:
    """Where spans and metrics go."""
    return harbour.moor(ScriptedSocket([whole(b"")]))


@pytest.fixture(scope="module")
def served(harbour: Harbour, vendor: tuple[str, Vendor], collector: ScriptedSocket) -> Served:
    place = f'base_url = "{vendor[0]}"\nallow_private = true\nhost = "openai"\n'
    return harbour.serve(
        f"""
[tracing]
otlp_endpoint = "{collector.url}"
[upstreams.up]
{place}
models = ["*"]
wires = ["chat", "messages"]
key_env = "UP_KEY"
[upstreams.pass]
{place}
pass_caller_key = true
[models.cheap]
upstream = "up"
model = "gpt-5-nano"
aliases = ["cheap-by-alias"]
[models.cheap-broken]
upstream = "up"
model = "broken"
retries = 1
fallbacks = ["dear", "cheap"]
[models.cheap-broken-alone]
upstream = "up"
model = "broken"
retries = 1
fallbacks = ["dear"]
[models.dear]
upstream = "up"
model = "gpt-5"
aliases = ["dear-by-alias", "cheap-looking-alias"]
[models.passing]
upstream = "pass"
model = "gpt-5-mini"
[models.kept]
upstream = "up"
model = "gpt-5-mini"
cache_seconds = 600
[models.counted]
upstream = "up"
model = "gpt-5-mini"
aliases = ["counted-by-alias"]
""",
        {"UP_KEY": OPERATORS},
        models=CHEAP,
        keys=[RED, CAPPED, *(key for key, _ in COUNTED.values())],
    )


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def exchange(self) -> str:
        return self.headers["x-stillhouse-exchange"]


def ask(
    served: Served, token: str, path: str, body: Any = None, method: str = "", **headers: str
) -> Reply:
    """An answer; underscores in the names of header fields stand for hyphens."""
    fields = {"authorization": f"Bearer {token}"} if token else {}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    fields["content-type"] = "application/json"
    sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    caller = HTTPConnection("127.0.0.1", int(served.url.rpartition(":")[2]), timeout=20)
    try:
        caller.request(method or ("GET" if body is None else "POST"), path, sent, fields)
        with caller.getresponse() as said:
            named = {name.lower(): value for name, value in said.getheaders()}
            return Reply(said.status, named, said.read())
    finally:
        caller.close()


def chat(served: Served, token: str, model: str, /, **more: Any) -> Reply:
    headers = {name: more.pop(name) for name in list(more) if name.startswith("x_")}
    body = {"model": model, "messages": TURNS, **more}
    return ask(served, token, "/v1/chat/completions", body, **headers)


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def forms(token: str) -> Iterator[str]:
    head, _, secret = token.rpartition("-")
    yield token[:20]
    yield token[:-1]
    yield f"{token}x"
    yield f"{token} {token}"
    yield token.upper()
    yield token.replace("sh-", "SH-", 1)
    yield secret
    yield f"{head}-"
    yield f"sh--{secret}"
    yield f"sh-%-{secret}"
    yield f"{head}-{'*' * len(secret)}"
    yield ""


def test_only_the_whole_token_opens_and_it_opens_from_nowhere_but_a_header(served: Served) -> None:
    assert ask(served, served.token, "/v1/models").status == 200
    assert {ask(served, form, "/v1/models").status for form in forms(served.token)} == {401}
    path = f"/v1/models?api_key={served.token}&key={served.token}"
    assert ask(served, "", path, cookie=f"key={served.token}").status == 401
    assert ask(served, "", "/v1/models", authorization=f"Basic {served.token}").status == 401
    with sqlite3.connect(f"{served.folder}/books.db.access") as access:
        kept = access.execute("SELECT key_id, salt, digest FROM access_keys").fetchall()
    access.close()
    for key_id, salt, digest in kept:
        for guess in (digest.hex(), salt.hex(), f"sh-{key_id}-{digest.hex()}"):
            assert ask(served, guess, "/v1/models").status == 401


def test_a_revoked_and_an_expired_key_are_soon_worthless_and_open_nothing_when_all_are(
    harbour: Harbour, vendor: tuple[str, Vendor]
) -> None:
    toml = f'[upstreams.up]\nbase_url = "{vendor[0]}"\nallow_private = true\nmodels = ["*"]\n'
    key, token = make_key("admin", 0, admin=True)
    soon, soons_token = make_key("soon", 0, expires_us=SystemClock().now_us() + 1_000_000)
    served = harbour.serve(toml, usual_keys=False, keys=[key, soon])
    assert chat(served, token, "m").status == 200
    assert eventually(lambda: chat(served, soons_token, "m").status == 401)
    done = ask(served, token, f"/admin/keys/{key.key_id}", method="DELETE")
    assert done.status == 200
    assert eventually(lambda: chat(served, token, "m").status == 401)
    for shown in ("", "any-provider-key", soons_token):
        assert chat(served, shown, "m").status == 401
        assert ask(served, shown, "/admin/keys").status == 401


DEAR = [
    *("dear", "Dear", "DEAR", " dear", "dear ", "dear\0", "dear-by-alias", "cheap-looking-alias"),
    *("gpt-5", "up/gpt-5", "UP/gpt-5", "up/up/gpt-5", "up//gpt-5", "up/dear", "/dear", "./dear"),
    *("cheap/../dear", "cheap\n", "*", "che*", "re:.*", "", "d\u0435ar"),
]


def test_a_key_for_some_models_reaches_no_other_whatever_it_is_called(
    served: Served, vendor: tuple[str, Vendor]
) -> None:
    narrow = served.tokens["narrow"]
    assert chat(served, narrow, "cheap").status == 200
    assert chat(served, narrow, "cheap-by-alias").status == 200
    before = len(vendor[1].heard)
    for name in DEAR:
        assert chat(served, narrow, name).status in (400, 404), name
        counted = ask(
            served,
            narrow,
            "/v1/messages/count_tokens",
            {"model": name, "max_tokens": 1, "messages": TURNS},
        )
        assert counted.status in (400, 404), name
    for body in (
        b'{"model":"cheap","messages":[],"model":"dear"}',
        b'{"model":"dear","messages":[],"model":"cheap"}',
        b'{"model":"cheap","messages":[],"Model":"dear"}',
        b'{"MODEL":"dear","messages":[],"model":"cheap"}',
        b'{"model":"cheap","messages":[],"mod\\u0065l":"dear"}',
        b'{"\\u004dodel":"dear","messages":[],"model":"cheap"}',
        '{"model":"dear","messages":[],"model":"cheap"}'.encode("utf-16"),
    ):
        assert ask(served, narrow, "/v1/chat/completions", body).status == 400, body
    for path in ("/v1/models/dear", "/v1/models/dear-by-alias", "/v1/models/up/gpt-5"):
        assert ask(served, narrow, path).status == 404
    for path in ("/v1/files", "/v1/batches", "/v1/messages/batches"):
        assert ask(served, narrow, path).status == 403
        assert ask(served, narrow, path, {"model": "dear"}).status == 403
    listed = json.loads(ask(served, narrow, "/v1/models").body)["data"]
    assert {row["id"].partition("-")[0] for row in listed} == {"cheap"}
    assert len(vendor[1].heard) == before


def test_a_key_for_some_models_falls_back_to_none_but_those(
    served: Served, vendor: tuple[str, Vendor]
) -> None:
    def asked_of(token: str, model: str) -> tuple[int, list[str]]:
        before = len(vendor[1].heard)
        status = chat(served, token, model).status
        return status, [heard.body["model"] for heard in vendor[1].heard[before:]]

    narrow = served.tokens["narrow"]
    assert asked_of(served.token, "cheap-broken") == (200, ["broken", "gpt-5"])
    assert asked_of(narrow, "cheap-broken") == (200, ["broken", "gpt-5-nano"])
    status, models = asked_of(narrow, "cheap-broken-alone")
    assert (status, set(models)) == (500, {"broken"})


def test_no_header_and_no_metadata_gives_a_key_another_team(served: Served) -> None:
    said = chat(served, REDS_TOKEN, "cheap", x_stillhouse_team="blue", metadata={"team": "blue"})
    began = [e for e in served.entries() if e.exchange_id == said.exchange]
    assert [e.tags.team for e in began if isinstance(e, Started)] == ["red"]


def test_a_team_that_is_only_named_gets_nothing_that_a_team_has_bought(served: Served) -> None:
    same = {"temperature": 0, "seed": 7}
    assert "x-stillhouse-cache" not in chat(served, REDS_TOKEN, "kept", **same).headers
    assert chat(served, REDS_TOKEN, "kept", **same).headers["x-stillhouse-cache"] == "hit"
    claims = chat(served, served.token, "kept", x_stillhouse_team="red", **same)
    assert "x-stillhouse-cache" not in claims.headers


@pytest.mark.parametrize(("names", "each"), SPELLINGS)
def test_another_spelling_of_a_model_draws_on_the_same_quota(
    served: Served, names: tuple[str, ...], each: bool
) -> None:
    _, token = COUNTED[names, each]
    assert [chat(served, token, name).status for name in names] == [200, 200, 429]


LARGE: list[dict[str, Any]] = [
    {"max_tokens": 100_000},
    {"max_tokens": 100_000.0},
    {"max_tokens": "100000"},
    {"max_tokens": " 100000 "},
    {"max_tokens": 1e308},
    {"max_tokens": 2**63},
    {"max_tokens": 10**30},
    {"max_tokens": 1, "max_completion_tokens": 100_000},
    {"max_completion_tokens": "100000"},
    {"max_tokens": 1000, "n": 100},
    {"max_tokens": 1000, "n": "100"},
    {"max_tokens": 1000, "n": 99.5, "stream": True},
    {"n": 10**30, "stream": True},
]


@pytest.mark.parametrize("wish", LARGE, ids=str)
def test_what_an_upstream_may_heed_is_reserved_however_it_is_written(
    served: Served, vendor: tuple[str, Vendor], wish: dict[str, Any]
) -> None:
    before = len(vendor[1].heard)
    assert chat(served, CAPPED_TOKEN, "counted", **wish).status == 429
    assert len(vendor[1].heard) == before
    for usual in ({}, {"max_tokens": -1}, {"max_tokens": None}, {"max_tokens": 9}):
        assert chat(served, CAPPED_TOKEN, "counted", **usual).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"counted","messages":[],"max_tokens":9,"max_tokens":100000}',
        b'{"model":"counted","messages":[],"max_tokens":9,"MAX_TOKENS":100000}',
        b'{"model":"counted","messages":[],"max_to\\u006bens":9,"max_tokens":9}',
        '{"model":"counted","messages":[],"max_to\u212aens":100000}'.encode(),
        b'{"model":"counted","messages":[],"n":1,"N":100}',
    ],
)
def test_a_limit_that_two_readers_read_differently_is_refused(served: Served, body: bytes) -> None:
    assert ask(served, served.token, "/v1/chat/completions", body).status == 400


def test_a_call_that_would_be_answered_behind_the_books_is_refused(served: Served) -> None:
    wish = {"model": "cheap", "input": "Sun?", "background": True}
    assert ask(served, served.token, "/v1/responses", wish).status == 400


def test_the_admin_api_is_closed_to_all_other_keys(served: Served) -> None:
    for method, path in (
        ("GET", "/admin/keys"),
        ("POST", "/admin/keys"),
        ("DELETE", "/admin/keys/x"),
        ("GET", "/admin/budgets"),
        ("GET", "/admin/spend"),
    ):
        body = {"name": "mine"} if method == "POST" else None
        assert ask(served, "", path, body, method).status == 401
        for token in (served.token, served.tokens["narrow"], REDS_TOKEN):
            assert ask(served, token, path, body, method).status == 403


def test_a_callers_own_key_goes_where_it_may_and_no_key_of_ours_goes_anywhere(
    served: Served, vendor: tuple[str, Vendor]
) -> None:
    def sent(model: str, **headers: str) -> str:
        body = {"model": model, "messages": TURNS}
        asked = ask(served, "", "/v1/chat/completions", body, **headers)
        assert asked.status == 200
        return str(vendor[1].heard[-1].headers)

    ours, own = served.token, f"Bearer {CALLERS}"
    assert CALLERS in sent("passing", x_stillhouse_key=ours, authorization=own)
    assert CALLERS in sent("passing", x_stillhouse_key=ours, x_api_key=CALLERS)
    assert CALLERS not in sent("cheap", x_stillhouse_key=ours, authorization=own)
    for given in (
        {"authorization": f"Bearer {ours}"},
        {"x_stillhouse_key": ours, "authorization": f"Bearer {ours}"},
        {"x_stillhouse_key": ours, "authorization": f"Bearer {REDS_TOKEN}"},
        {"x_stillhouse_key": ours, "x_api_key": ours, "api_key": ours},
    ):
        for model in ("passing", "cheap"):
            heard = sent(model, **given, cookie=COOKIE, x_unknown=UNKNOWN)
            for secret in (ours, REDS_TOKEN, COOKIE, UNKNOWN, "x-stillhouse-key"):
                assert secret not in heard


def test_no_planted_secret_is_in_anything_that_is_kept_told_or_counted(
    served: Served, vendor: tuple[str, Vendor], collector: ScriptedSocket, tmp_path: Path
) -> None:
    carried = {"cookie": COOKIE, "x_unknown": UNKNOWN, "x_stillhouse_key": served.token}
    own = {"authorization": f"Bearer {CALLERS}"}
    told = [
        ask(
            served, "", path, {"model": model, "messages": TURNS, "max_tokens": 9}, **carried, **own
        )
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens")
        for model in ("cheap", "passing", "cheap-broken-alone", "nowhere", "")
    ]
    told += [
        ask(served, GUESS, "/v1/chat/completions", {"model": "cheap", "messages": TURNS}),
        ask(served, "", "/v1/chat/completions", b'{"model":', **carried, **own),
        ask(served, "", "/v1/nowhere", {"a": 1}, **carried, **own),
        *(ask(served, served.tokens["admin"], path) for path in ("/metrics", "/openapi.json")),
        *(ask(served, served.tokens["admin"], f"/admin/{of}") for of in ("keys", "budgets")),
    ]
    assert b"Authorization: Bearer".lower() not in b"".join(t.body for t in told).lower()
    books = f"{tmp_path}/folded.db"
    with open_store(books) as store:
        making = Making(estimated, lambda _: None, bodies)
        done = Folder(JournalFolder(served.folder / "journal"), store, making)
        assert done.fold_once(SystemClock().now_us()).totals.new > 20
    assert eventually(lambda: any(b"stillhouse" in body for body in collector.bodies))
    places = {
        str(path): path.read_bytes()
        for folder in (served.folder, tmp_path)
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert {Path(place).suffix for place in places} >= {".journal", ".jsonl", ".access", ".db"}
    places["answers"] = b"".join(str(t.headers).encode() + t.body for t in told)
    places["spans"] = b"".join(collector.bodies)
    secrets = [OPERATORS, CALLERS, COOKIE, UNKNOWN, GUESS, REDS_TOKEN, *served.tokens.values()]
    found = [
        (place, secret)
        for place, content in places.items()
        for secret in secrets
        if secret.encode() in content
    ]
    assert found == []


def test_what_is_kept_is_for_its_owner_alone(served: Served) -> None:
    assert (served.folder / "journal").stat().st_mode & 0o077 == 0
    for path in served.folder.rglob("*"):
        if path.is_file() and path.suffix != ".new":
            assert path.stat().st_mode & 0o077 == 0, path


def test_what_holds_a_secret_prints_without_it() -> None:
    key, token = make_key("Rosa", 0)
    call = UpstreamCall(Wire.CHAT, "POST", "/x", "m", b"the-body", caller_key=CALLERS)
    for noun, secrets in ((key, (token,)), (call, (CALLERS,))):
        assert [secret for secret in secrets if secret in repr(noun)] == []
    assert isinstance(key, VirtualKey)


def test_a_check_of_the_configuration_shows_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UP_KEY", OPERATORS)
    (tmp_path / "stillhouse.toml").write_text(
        '[upstreams.up]\nbase_url = "https://api.example.com/v1"\nkey_env = "UP_KEY"\n'
        f'models = ["*"]\n[upstreams.up.headers]\nx-org = "{UNKNOWN}"\n',
        "utf-8",
    )
    for words in (["check"], ["check", "--json"]):
        said = CliRunner().invoke(cli, words)
        assert said.exit_code == 0, said.output
        assert OPERATORS not in said.output
        assert UNKNOWN not in said.output
