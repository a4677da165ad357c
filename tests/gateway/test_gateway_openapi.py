"""schemathesis on our own OpenAPI document: what it says is true, and nothing it does breaks us.

The upstream is the shipped scripted one, which answers everything; so each 5xx would be ours.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zlib import crc32

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from stillhouse.dialects.paths import SERVED
from stillhouse.gateway.keys import make_key
from stillhouse.gateway.openapi import describe

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

TOML = """
[upstreams.all]
kind = "scripted"
wires = ["chat", "responses", "messages"]
[upstreams.chat]
kind = "scripted"
wires = ["chat"]
[upstreams.messages]
kind = "scripted"
wires = ["messages"]
[models.all]
upstream = "all"
[models.chat]
upstream = "chat"
[models.messages]
upstream = "messages"
"""


KEY, TOKEN = make_key("schemathesis", 0, admin=True)
document = schemathesis.openapi.from_dict(describe())
thorough = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

BATCHES = ("/v1/files", "/v1/batches", "/v1/messages/batches")
COUNT = "/v1/messages/count_tokens"
MODELS = ("all", "chat", "messages", "")
UPSTREAMS_JUDGE: list[Any] = [positive_data_acceptance, negative_data_rejection]
"""What a model takes is not ours to say: bodies pass through, and the upstream refuses them."""
NO_PATTERN: list[Any] = [positive_data_acceptance]
"""Names and reasons must be printable, which no pattern of a schema says."""


@document.auth()
class Key:
    """An admin's key with every request, except where the check is what happens without."""

    def get(self, case: Any, context: Any) -> str:
        return TOKEN

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["authorization"] = f"Bearer {data}"


@pytest.fixture(scope="module")
def served(harbour: Harbour) -> Served:
    return harbour.serve(TOML, keys=[KEY])


calls = document.include(path=list(SERVED))
others = document.exclude(path=list(SERVED))


@others.parametrize()
@thorough
def test_what_is_ours_answers_as_described(case: schemathesis.Case[Any], served: Served) -> None:
    excluded = UPSTREAMS_JUDGE if case.path.startswith((*BATCHES, COUNT)) else []
    if case.method == "POST" and case.path.startswith("/admin/"):
        excluded = NO_PATTERN
    case.call_and_validate(base_url=served.url, excluded_checks=excluded)


@calls.parametrize()
@thorough
def test_a_call_of_a_model_answers_as_described(
    case: schemathesis.Case[Any], served: Served
) -> None:
    """With each model in turn: spoken to directly, through a translation, or unknown."""
    if isinstance(case.body, dict) and case.body.get("model"):
        shown = json.dumps(case.body, sort_keys=True, default=repr).encode()
        case.body["model"] = MODELS[crc32(shown) % 4] or case.body["model"]
    case.call_and_validate(base_url=served.url, excluded_checks=UPSTREAMS_JUDGE)


def test_the_document_that_is_served_is_this_one(served: Served) -> None:
    assert httpx2.get(f"{served.url}/openapi.json").json() == json.loads(json.dumps(describe()))


def test_every_path_that_is_served_is_described_and_no_other(served: Served) -> None:
    described = {
        (method.upper(), path.partition("{")[0])
        for path, methods in describe()["paths"].items()
        for method in methods
    }
    batches = {(method, path) for method, path in described if path.startswith(BATCHES)}

    assert {("POST", path) for path in SERVED} <= described
    with httpx2.Client(base_url=served.url) as client:
        for path in {path for _, path in described - batches}:
            answer = client.request("PATCH", path + ("x" if path.endswith("/") else ""))
            allowed = answer.headers["allow"].split(", ")
            assert {m for m, p in described if p == path} >= set(allowed), path
            assert answer.status_code == 405
