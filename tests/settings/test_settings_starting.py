from __future__ import annotations

from pathlib import Path

import pytest
from genai_prices.data import providers

from stillhouse.core.errors import ConfigError
from stillhouse.routing.catalogue import find_route, serves
from stillhouse.settings.addresses import fault_of_url
from stillhouse.settings.nouns import Books, Settings
from stillhouse.settings.presets import PRESETS
from stillhouse.settings.starting import (
    database_of,
    find_settings,
    from_environment,
    replay,
    scripted,
    with_database,
    with_server,
)
from stillhouse.settings.upstreams import preset_upstream


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_an_upstream_without_a_fault(name: str) -> None:
    upstream = preset_upstream(name, {})
    assert fault_of_url(upstream.base_url, upstream.allow_private) == ""
    assert upstream.wires
    assert bool(upstream.key_env) != PRESETS[name].local
    assert upstream.allow_private == PRESETS[name].local


def test_every_preset_that_bills_is_in_the_price_catalogue() -> None:
    known = {provider.id for provider in providers}
    assert {preset.host for preset in PRESETS.values() if preset.host} - known == set()


def test_no_two_presets_claim_one_model_by_name() -> None:
    upstreams = [preset_upstream(name, {}) for name in PRESETS]
    for model in ("gpt-5", "o3", "claude-x", "deepseek-v4-pro", "grok-4", "gemini-3", "mistral-x"):
        assert len([one for one in upstreams if serves(one, model)]) == 1, model


def test_the_keys_in_the_environment_are_a_configuration() -> None:
    settings = from_environment(
        {"OPENAI_API_KEY": "x", "DEEPSEEK_API_KEY": "y", "GROQ_API_KEY": ""}
    )
    assert list(settings.catalogue.upstreams) == ["openai", "deepseek"]
    route = find_route(settings.catalogue, "deepseek-v4-pro")
    assert route is not None
    assert route.deployments[0].upstream == "deepseek"


def test_an_environment_without_keys_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY.*serve --scripted"):
        from_environment({"OPENAI_API_KEY": ""})


def test_a_configuration_is_found_by_name_by_environment_and_by_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text("[upstreams.openai]\n[server]\nport = 1", "utf-8")
    (tmp_path / "stillhouse.toml").write_text("[upstreams.openai]\n[server]\nport = 2", "utf-8")
    assert find_settings(Path("own.toml"), {}).server.port == 1
    assert find_settings(None, {"STILLHOUSE_CONFIG": "own.toml"}).server.port == 1
    assert find_settings(None, {}).server.port == 2
    (tmp_path / "stillhouse.toml").unlink()
    assert find_settings(None, {"XAI_API_KEY": "x"}).source == (
        "the provider keys in the environment"
    )


def test_trials_answer_every_model_into_books_of_their_own(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    log.write_text("{}", "utf-8")
    for settings in (replay(log, "none"), scripted(), scripted(log)):
        assert find_route(settings.catalogue, "anything") is not None
        assert settings.books.database in ("stillhouse-replay.db", "stillhouse-scripted.db")
    for trial in (replay, scripted):
        with pytest.raises(ConfigError, match="there is no"):
            trial(tmp_path / "none")


def test_the_command_line_wins_over_the_file() -> None:
    settings = with_server(with_database(Settings(), "x.db"), port=7, host=None)
    assert (settings.server.port, settings.server.host) == (7, "127.0.0.1")
    assert settings.books.database == "x.db"


def test_the_databases_address_may_come_from_the_environment_alone() -> None:
    settings = Settings(books=Books(database_env="BOOKS"))
    assert database_of(settings, {"BOOKS": "postgresql://u:p@h/b"}) == "postgresql://u:p@h/b"
    with pytest.raises(ConfigError, match="BOOKS, which is not set"):
        database_of(settings, {})
