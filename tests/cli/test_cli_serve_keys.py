from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.quotas import Draw, Standing
from stillhouse.gateway.keys import KeyRing
from stillhouse.wiring.books import access_of

Run = Callable[..., Any]
"""Runs the command line; gives its exit code, output, errors, and the output as JSON."""

CONFIG = """
[upstreams.openai]
[upstreams.gpu]
preset = "vllm"
[models.fast]
upstream = "openai"
model = "gpt-4o-mini"
aliases = ["quick"]
fallbacks = ["own"]
[models.own]
upstream = "gpu"
[models.odd]
upstream = "openai"
model = "nobody-knows-it"
[[budgets]]
team = "cards"
usd = "100"
per = "month"
"""


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stillhouse.toml").write_text(CONFIG, "utf-8")
    monkeypatch.setenv("OPENAI_API_KEY", "the-secret-itself")
    monkeypatch.delenv("STILLHOUSE_CONFIG", raising=False)
    return tmp_path


def test_a_check_says_what_would_be_served_and_never_a_key(run: Run, configured: Path) -> None:
    facts = run("check", "--json").json
    openai, gpu = facts["upstreams"]
    assert (openai["key_env"], openai["key"]) == ("OPENAI_API_KEY", "present")
    assert (gpu["address"], gpu["key"]) == ("http://localhost:8000/v1", "none")
    fast, own, odd = facts["models"]
    assert fast["deployments"][0]["usd_per_mtok"] == {"input": 0.15, "output": 0.6}
    assert (fast["aliases"], fast["fallbacks"]) == (["quick"], ["own"])
    assert own["deployments"][0]["free"]
    assert not odd["deployments"][0]["priced"]
    assert facts["warnings"] == [
        "model odd: no price of nobody-knows-it is known; refused under a budget"
    ]
    shown = run("check")
    assert shown.code == 0
    assert "0.15 input / 0.6 output" in shown.out
    assert "the-secret-itself" not in shown.out + shown.err + str(facts)


def test_a_missing_key_is_a_warning(
    run: Run, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "OPENAI_API_KEY is not set; its calls will fail" in run("check").out


def test_a_live_check_says_who_was_not_reached(run: Run, configured: Path) -> None:
    (configured / "dead.toml").write_text(
        "[upstreams.dead]\nbase_url = 'http://127.0.0.1:9/v1'\nallow_private = true", "utf-8"
    )
    said = run("check", "--config", "dead.toml", "--live")
    assert said.code == 2
    assert "not reached: dead" in said.err


def test_a_keys_token_is_shown_once_and_opens_the_door(run: Run, configured: Path) -> None:
    terms = "--team cards --budget 10/month --soft-budget 8/month --rpm 60 --tpm 900 --concurrent 3"
    made = run("keys", "create", "ana", *terms.split(), "--model", "gpt-*", "--expires", "30d")
    token = made.out.strip()
    with access_of("stillhouse.db") as access:
        keys = access.keys()
    (key,) = keys
    assert KeyRing(keys).check(token, key.created_us) is key
    assert (key.name, key.tags.team, key.models) == ("ana", "cards", ("gpt-*",))
    assert key.expires_us == key.created_us + 30 * 86400 * 10**6
    listed = run("keys", "list", "--json").json["keys"]
    assert listed[0]["limits"] == [
        "$10 per month",
        "alert at $8 per month",
        "60 requests per minute",
        "900 tokens per minute",
        "3 at a time",
    ]
    shown = run("keys", "list")
    assert "team cards" in shown.out
    assert token not in shown.out + str(listed)


def test_a_revoked_key_is_gone_for_good_and_its_name_is_free(run: Run, configured: Path) -> None:
    first = run("keys", "create", "ci", "--json").json
    again = run("keys", "create", "ci")
    assert again.code == 2
    assert "there is a key named 'ci' already" in again.err
    assert run("keys", "revoke", "ci").out == f"revoked {first['id']}\n"
    assert "There is no key" in run("keys", "list").out
    assert run("keys", "list", "--all", "--json").json["keys"][0]["state"] == "revoked"
    assert "there is no valid key 'ci'" in run("keys", "revoke", "ci").err
    assert run("keys", "create", "ci").code == 0


@pytest.mark.parametrize(
    ("option", "text", "sentence"),
    [
        ("--budget", "10", "has no window"),
        ("--budget", "10/now", "has no window"),
        ("--budget", "ten/day", "is no amount"),
        ("--budget", "-1/day", "is no amount"),
        ("--expires", "soon", "is no time"),
        ("--expires", "2020-01-01", "has passed"),
    ],
)
def test_terms_that_make_no_sense_make_no_key(
    run: Run, configured: Path, option: str, text: str, sentence: str
) -> None:
    said = run("keys", "create", "x", option, text)
    assert said.code == 2
    assert sentence in said.err
    assert run("keys", "list", "--json").json["keys"] == []


def test_budgets_show_what_is_used_reserved_and_left(run: Run, configured: Path) -> None:
    (unused,) = run("budgets", "--json").json["counters"]
    assert (unused["name"], unused["cap"], unused["left"]) == ("cards", "100", "100")
    counter = f"team:cards:cost:month:hard@{unused['starts']}"

    def rule(draw: Draw, before: Standing, at_us: int) -> Standing:
        return before._replace(limit=draw.limit, spent=3 * 10**11, leased=10**12, mine=10**12)

    with access_of("stillhouse.db") as access:
        access.draw("w", 1, 1, [Draw(counter, 100 * 10**12, 2**60)], rule)
    (used,) = run("budgets", "--json").json["counters"]
    assert (used["used"], used["reserved"], used["left"]) == ("0.3", "1", "98.7")
    assert "$98.7000" in run("budgets").out


def test_without_caps_the_budgets_say_how_to_make_one(run: Run) -> None:
    assert "Nothing is capped" in run("budgets").out
