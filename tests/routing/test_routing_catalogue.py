from __future__ import annotations

import pytest

from stillhouse.core.catalogue import Catalogue, Deployment, Recorded, Route, Upstream
from stillhouse.routing.catalogue import find_route, names

CATALOGUE = Catalogue(
    {
        "openai": Upstream("openai", models=("gpt-*", "o[0-9]")),
        "other": Upstream("other", models=("gpt-*", "*-large")),
        "groq": Upstream("groq"),
    },
    {
        "fast": Route("fast", (Deployment("groq", "llama"),), aliases=("gpt-quick", "a/b")),
        "gpt-own": Route("gpt-own", (Deployment("other", "x"),)),
    },
    usual=Route("*", (), recorded=Recorded.HASHED, aliases=("never",)),
)


@pytest.mark.parametrize(
    ("model", "route", "upstream", "asked"),
    [
        ("fast", "fast", "groq", "llama"),
        ("gpt-quick", "fast", "groq", "llama"),
        ("a/b", "fast", "groq", "llama"),
        ("gpt-own", "gpt-own", "other", "x"),
        ("gpt-5", "gpt-5", "openai", "gpt-5"),
        ("o3", "o3", "openai", "o3"),
        ("m-large", "m-large", "other", "m-large"),
        ("groq/meta/llama-3", "meta/llama-3", "groq", "meta/llama-3"),
        ("other/gpt-5", "gpt-5", "other", "gpt-5"),
    ],
)
def test_a_name_is_looked_for_as_route_alias_upstream_and_pattern(
    model: str, route: str, upstream: str, asked: str
) -> None:
    found = find_route(CATALOGUE, model)
    assert found is not None
    assert found.name == route
    assert found.deployments == (Deployment(upstream, asked),)


@pytest.mark.parametrize("model", ["", "o33", "groq/", "nobody/gpt-5", "GPT-5", "*", "never"])
def test_what_nobody_serves_has_no_route(model: str) -> None:
    assert find_route(CATALOGUE, model) is None


def test_a_model_without_a_route_is_treated_as_usual() -> None:
    found = find_route(CATALOGUE, "gpt-5")
    assert found is not None
    assert (found.recorded, found.aliases) == (Recorded.HASHED, ())


def test_public_names_are_routes_and_aliases() -> None:
    assert list(names(CATALOGUE)) == ["fast", "gpt-quick", "a/b", "gpt-own"]
