from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.catalogue import Balance, Deployment, OnDisconnect, Recorded, Timeouts, Wire
from stillhouse.core.errors import ConfigError
from stillhouse.core.quotas import Quota, Scope, Unit, Window
from stillhouse.settings.nouns import Durability, Settings
from stillhouse.settings.reading import pack, parse_settings, read_settings, unpack

FULL = """
[server]
host = "0.0.0.0"
port = 8080
workers = 4
max_body_bytes = "8 MiB"
drain_seconds = 12.5

[journal]
durability = "power"
segment_bytes = 1048576

[books]
database_env = "BOOKS"
prices = "ours.yaml"

[recording]
default = "hashed"

[tracing]
otlp_endpoint = "http://127.0.0.1:4318"
sample = 0.25

[upstreams.openai]
max_concurrency = 7
connect_seconds = 1

[upstreams.gpu]
preset = "vllm"
base_url = "http://10.0.0.7:8000/v1/"
allow_private = true
key_env = "GPU_KEY"
models = ["Qwen/*"]

[upstreams.old]
kind = "replay"
log = "calls.jsonl"
latency = "none"

[models."*"]
max_output_tokens = 100
retries = 0

[models.fast]
deployments = ["openai/gpt-5-mini", {upstream = "gpu", model = "Qwen/Qwen3-8B", weight = 2}]
aliases = ["quick", "gpt-fast"]
fallbacks = ["slow"]
balance = "latency"
retries = 4
recorded = "none"
cache_seconds = 60
on_disconnect = "drain"
allow_unpriced = true

[models.slow]
upstream = "openai"

[[budgets]]
team = "cards"
usd = "100.25"
soft_usd = "80"
per = "month"
concurrent = 8

[[budgets]]
tokens = 1000
per = "minute"
"""


def parsed(text: str, env: Mapping[str, str] | None = None) -> Settings:
    return parse_settings(text, env or {}, "s.toml")


def wrong(text: str, *, env: Mapping[str, str] | None = None) -> list[str]:
    """The complaints about a text."""
    with pytest.raises(ConfigError) as caught:
        parsed(text, env)
    return str(caught.value).splitlines()


def fault_of(text: str) -> str:
    """What is wrong with a text, or its source where nothing is."""
    try:
        return parsed(text).source
    except ConfigError as error:
        return str(error)


def one_wrong(text: str) -> str:
    """The only complaint about tables beside an upstream that is fine."""
    (only,) = wrong(f"{text}\n[upstreams.openai]\n")
    return only


def test_every_table_of_a_file_is_read() -> None:
    settings = parsed(FULL)
    server = settings.server
    assert (server.host, server.port, server.workers) == ("0.0.0.0", 8080, 4)
    assert (server.max_body_bytes, server.drain_seconds) == (8 * 2**20, 12.5)
    assert settings.journal.durability is Durability.POWER
    assert settings.books.database_env == "BOOKS"
    assert settings.tracing.sample == 0.25
    openai, gpu, old = settings.catalogue.upstreams.values()
    assert openai.base_url == "https://api.openai.com/v1"
    assert (openai.key_env, openai.host, openai.max_concurrency) == ("OPENAI_API_KEY", "openai", 7)
    assert openai.timeouts == Timeouts(connect_seconds=1.0)
    assert gpu.base_url == "http://10.0.0.7:8000/v1"
    assert (gpu.wires[0], gpu.host, gpu.models) == (Wire.CHAT, "gpu", ("Qwen/*",))
    assert gpu.options == {"free": True}
    assert (old.kind, old.options) == ("replay", {"log": "calls.jsonl", "latency": "none"})


def test_models_take_what_the_table_of_all_others_says_and_their_own_over_it() -> None:
    catalogue = parsed(FULL).catalogue
    fast, slow = catalogue.routes["fast"], catalogue.routes["slow"]
    assert fast.deployments == (
        Deployment("openai", "gpt-5-mini"),
        Deployment("gpu", "Qwen/Qwen3-8B", 2.0),
    )
    assert (fast.aliases, fast.fallbacks) == (("quick", "gpt-fast"), ("slow",))
    assert (fast.balance, fast.max_attempts) == (Balance.LATENCY, 5)
    assert (fast.recorded, fast.on_disconnect) == (Recorded.NONE, OnDisconnect.DRAIN)
    assert (fast.max_output_tokens, fast.allow_unpriced) == (100, True)
    assert slow.deployments == (Deployment("openai", "slow"),)
    assert (slow.max_attempts, slow.recorded, slow.aliases) == (1, Recorded.HASHED, ())
    assert (catalogue.usual.max_attempts, catalogue.usual.max_output_tokens) == (1, 100)


def test_budgets_are_quotas_exact_to_the_last_digit() -> None:
    assert parsed(FULL).quotas == (
        Quota(Scope.TEAM, "cards", Unit.COST, Window.MONTH, 100_250_000_000_000),
        Quota(Scope.TEAM, "cards", Unit.COST, Window.MONTH, 80 * 10**12, soft=True),
        Quota(Scope.TEAM, "cards", Unit.CONCURRENT, Window.NOW, 8),
        Quota(Scope.EVERYBODY, "*", Unit.TOKENS, Window.MINUTE, 1000),
    )


def test_settings_survive_the_way_to_another_process() -> None:
    settings = parsed(FULL)
    assert unpack(pack(settings)) == settings


def test_the_version_tells_catalogues_apart_and_nothing_else() -> None:
    version = parsed(FULL).catalogue.version
    assert version == parsed(FULL.replace("8080", "8081")).catalogue.version
    assert version != parsed(FULL.replace("weight = 2", "weight = 3")).catalogue.version


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_file_with_its_lines() -> None:
    said = wrong(
        '[server]\nprot = 1\nport = 99999\nhots = "x"\n'
        '[upstreams.opnai]\n[models.a]\nupstream = "openai"\n[[budgets]]\nper = "day"\n'
    )
    assert said == [
        "s.toml:2: server.prot is not known; did you mean 'port'?",
        "s.toml:3: server.port is 99999; it must be a whole number from 0 to 65535",
        "s.toml:4: server.hots is not known; did you mean 'hosts'?",
        "s.toml:5: upstreams.opnai has no base_url and is no known vendor (give it a base_url, or "
        "name one in preset); did you mean 'openai'?",
        "s.toml:6: models.a is at upstream 'openai', which is unknown; did you mean 'opnai'?",
        "s.toml:8: budgets[1] has no limit; give it one of usd, soft_usd, requests, tokens, "
        "concurrent",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[sever]", "sever is not known; did you mean 'server'?"),
        ("server = 1", "server is 1; it must be a table"),
        ("models = 1", "models is 1; it must be a table of tables"),
        ("[server]\nworkers = true", "server.workers is true; it must be a whole number"),
        ("[server]\nmax_body_bytes = '8 MB'", "it must be bytes"),
        ("[server]\nheader_seconds = 0", "server.header_seconds is 0; it must be a number above 0"),
        ("[server]\nheader_seconds = nan", "it must be a number above 0"),
        ("[server]\ndrain_seconds = inf", "it must be a number above 0"),
        ("[journal]\ndurability = 'max'", "is 'max'; it must be one of process, window, power"),
        ("[books]\ndatabase = 'postgresql://u:pw@h/b'", "holds a password; put the whole address"),
        ("[tracing]\notlp_endpoint = 'host:4318'", "write http://HOST:4318"),
        ("[models.a]\nretries = -1", "models.a.retries is -1"),
        ("[models.a]\naliases = 'b'", "models.a.aliases is 'b'; it must be a list of texts"),
        ("[models.a]\nmodel = 'x'", "models.a.model has no upstream beside it"),
        ("[models.a]\nfallbacks = ['b']", "has 'b', which is no model here"),
        ("[models.a]\nfallbacks = ['a']", "models.a.fallbacks goes round: a -> a"),
        ("[models.a]\naliases = ['b']\n[models.b]", "has 'b', which names models.b already"),
        ("[models.a]\naliases = ['c']\n[models.b]\naliases=['c']", "which names models.a already"),
        ("[models.a]\ndeployments = [{model = 'x'}]", "names no upstream"),
        ("[models.a]\ndeployments = ['x/y']", "is at upstream 'x', which is unknown"),
        ("[models.a]\ndeployments = [{upstream = 'openai', weight = 0}]", "weight is 0"),
        ("[models.a]\ndeployments = [{upstream = 'openai', weight = -1.5}]", "weight is -1.5"),
        ("[models.a]\ndeployments = 'x'", "deployments is 'x'; it must be a list"),
        ("[models.a]\nupstream='openai'\ndeployments = ['openai/x']", "stands beside deployments"),
        ("[models.'*']\naliases = ['x']", 'models."*" has aliases'),
        ("[[budgets]]\nusd = '1'", "budgets[1] has usd in no window"),
        ("[[budgets]]\nusd = 1.5\nper = 'day'", "is a binary fraction and not exact"),
        ("[[budgets]]\nusd = 'ten'\nper = 'day'", "it must be dollars as decimal text"),
        ("[[budgets]]\nusd = '-1'\nper = 'day'", "it must be dollars as decimal text"),
        ("[[budgets]]\nusd = 'NaN'\nper = 'day'", "it must be dollars as decimal text"),
        ("[[budgets]]\nusd = '1e-13'\nper = 'day'", "is below the smallest amount"),
        ("[[budgets]]\nusd = '5000000'\nper = 'day'", "is more than 4,000,000 dollars"),
        ("[[budgets]]\nusd = '1'\nper = 'now'", "it must be one of minute, hour, day"),
        ("[[budgets]]\nteam='a'\nkey='b'\nrequests=1\nper='day'", "names key and team"),
        ("[[budgets]]\nusd='1'\nsoft_usd='2'\nper='day'", "would come after the stop"),
        ("[budgets]\nusd = '1'", "write each budget under a line [[budgets]]"),
        ("budgets = [1]", "budgets[1] is 1; it must be a table"),
        ("[[budgets]]\nusd='1'\nper='day'\n[[budgets]]\nusd='2'\nper='day'", "caps once more"),
    ],
)
def test_each_mistake_has_a_sentence(text: str, sentence: str) -> None:
    assert sentence in one_wrong(text)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("preset = 'opnai'", "preset is 'opnai', which is unknown; did you mean 'openai'?"),
        ("kind = 'grpc'", "kind is 'grpc'; it must be one of http, replay"),
        ("base_url = 'http://127.0.0.1/v1'", "which is private; say allow_private = true"),
        ("base_url = 'http://api.example.com/v1'", "is not encrypted; use https"),
        ("base_url = 'https://u:p@example.com/v1'", "holds a user or a password"),
        ("base_url = 'https://example.com/v1?key=1'", "has a query"),
        ("base_url = 'https://x.y'\nallow_private = 1", "allow_private is 1; it must be true"),
        ("base_url = 'https://x.y'\nheaders = {Authorization = 'x'}", "which carries a secret"),
        ("base_url = 'https://x.y'\nwires = ['grpc']", "it must be a list of chat, responses"),
        ("base_url = 'https://x.y'\nlog = 'a'", 'log is only read where kind = "replay"'),
        ("base_url = 'https://x.y'\ntotal_seconds = 1", "the whole cannot be shorter"),
        ("base_url = 'https://x.y'\nproxy = 'ftp://p'", "proxy is no address"),
        ("kind = 'replay'", "has no log"),
        ("kind = 'replay'\nlog = 'a'\nlatency = 'slow'", "must be recorded, none, or a factor"),
        ("kind = 'scripted'\nbase_url = 'https://x.y'", "is not read where kind"),
    ],
)
def test_each_mistake_of_an_upstream_has_a_sentence(keys: str, sentence: str) -> None:
    said = wrong(f"[upstreams.x]\n{keys}\n")
    assert any(sentence in line for line in said), said


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "KEY"',
        'key = "KEY"',
        'token = "KEY"',
        'key_env = "KEY"',
        'host = "KEY"',
        'headers = {x-extra = "KEY"}',
        'models = ["KEY"]',
    ],
)
@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefghij0123456789",
        "sk-ant-api03-abcdefghij0123456789",
        "gsk_abcdefghij0123456789",
        "xai-abcdefghij0123456789",
        "AIzaSyA0123456789abcdefghij",
        "0123456789abcdef0123456789abcdef",
        "Bearer abc",
    ],
)
def test_a_key_in_the_file_is_refused_and_never_repeated(line: str, key: str) -> None:
    said = "\n".join(wrong(f"[upstreams.openai]\n{line.replace('KEY', key)}\n"))
    assert "environment variable" in said
    assert key not in said


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_no_text_makes_it_fail_without_a_sentence(text: str) -> None:
    assert fault_of(text).startswith("s.toml")


@given(
    st.sampled_from(["server", "journal", "upstreams.x", "models.x", "upstreams", "models"]),
    st.sampled_from(["port", "host", "x", "deployments", "kind", "headers", "aliases", "folder"]),
    st.sampled_from(
        ["1", "'x'", "[]", "{}", "[1]", "{a = 1}", "1.5", "true", "1979-05-27", "['x']"]
    ),
)
def test_no_value_of_a_wrong_kind_makes_it_fail_without_a_sentence(
    table: str, key: str, value: str
) -> None:
    assert fault_of(f"[{table}]\n{key} = {value}\n").startswith("s.toml")


def test_a_ring_of_fallbacks_is_said_once() -> None:
    said = wrong(
        "[upstreams.openai]\n"
        + "".join(f"[models.{a}]\nfallbacks = ['{b}']\n" for a, b in ("ab", "bc", "ca"))
    )
    assert said == ["s.toml:3: models.a.fallbacks goes round: a -> b -> c -> a; leave one out"]


def test_a_fallback_may_be_named_by_its_alias() -> None:
    routes = parsed(
        "[upstreams.openai]\n[models.a]\nfallbacks = ['bee']\n[models.b]\naliases = ['bee']\n"
    ).catalogue.routes
    assert routes["a"].fallbacks == ("b",)


def test_the_key_of_a_preset_is_the_one_that_is_set() -> None:
    text = "[upstreams.gemini]"
    assert parsed(text, {"GOOGLE_API_KEY": "x"}).catalogue.upstreams["gemini"].key_env == (
        "GOOGLE_API_KEY"
    )
    assert parsed(text).catalogue.upstreams["gemini"].key_env == "GEMINI_API_KEY"


def test_a_file_that_is_not_there_or_no_toml_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration at"):
        read_settings(tmp_path / "none.toml", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(tmp_path, {})
    (tmp_path / "bad.toml").write_text("= 1", "utf-8")
    with pytest.raises(ConfigError, match=r"bad\.toml: this is not TOML .*line 1"):
        read_settings(tmp_path / "bad.toml", {})
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_settings(tmp_path / "latin.toml", {})


def test_an_upstream_behind_any_llm_speaks_chat_and_serves_nothing_unasked() -> None:
    toml = '[upstreams.aws]\nkind = "any-llm"\noptions = {provider = "bedrock"}\n'
    upstream = parse_settings(toml, {}, "test.toml").catalogue.upstreams["aws"]
    assert (upstream.wires, upstream.host, upstream.models) == ((Wire.CHAT,), "aws", ())
    with pytest.raises(ConfigError, match="base_url"):
        parse_settings(f'{toml}base_url = "http://10.0.0.1/v1"\n', {}, "test.toml")
