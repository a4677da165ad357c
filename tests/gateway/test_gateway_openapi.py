"""schemathesis on our own OpenAPI document: what it says is true, and nothing it does breaks us.

The upstream is the shipped scripted one, which answers everything; so each 5xx would be ours.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from stillhouse.dialects.paths import SERVED
from stillhouse.gateway.openapi import describe

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

document = schemathesis.openapi.from_dict(describe())

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


@pytest.fixture(scope="module")
def served(harbour: Harbour) -> Served:
    return harbour.serve(TOML)


TOKENS: dict[str, str] = {}


@document.auth()
class Key:
    def get(self, case: Any, context: Any) -> str:
        return TOKENS["admin"]

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["authorization"] = f"Bearer {data}"


@document.parametrize()
@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_x(case: schemathesis.Case, served: Served) -> None:
    TOKENS.update(served.tokens)
    case.call_and_validate(
        base_url=served.url,
    )
