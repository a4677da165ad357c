"""llm-comply's suites against the endpoint, in front of upstreams that conform.

What a gateway alone decides is tried in front of three upstreams: the shipped one on a socket
(`socket`), the shipped scripted one (`script`), and one that thinks (`vendor`); each spoken to in
the caller's own wire format, and in another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from llm_comply import http, runner, schema, tests
from llm_comply.config import ComplianceConfig

from stillhouse.dialects.paths import SERVED
from stillhouse.dialects.translate_responses_answer import answer
from stillhouse.dialects.unfold import unfold

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Heard, Said, Served

pytestmark = pytest.mark.filterwarnings(
    "ignore:jsonschema.RefResolver is deprecated:DeprecationWarning"  # llm-comply's own use of it
)

SPECS = {
    "openai-chat": "openai_chat.json",
    "open-responses": "openresponses.json",
    "anthropic": "anthropic.json",
}
MODELS = {
    "openai-chat": (
        "gpt-5-socket",
        "gpt-5-script",
        "gpt-5-vendor",
        "gpt-5-socket-as-messages",
        "gpt-5-vendor-as-messages",
    ),
    "open-responses": (
        "gpt-5-socket",
        "gpt-5-script",
        "gpt-5-vendor",
        "gpt-5-socket-as-chat",
        "gpt-5-socket-as-messages",
        "gpt-5-vendor-as-chat",
        "gpt-5-vendor-as-messages",
    ),
    "anthropic": (
        "claude-opus-socket",
        "claude-opus-script",
        "claude-opus-vendor",
        "claude-opus-socket-as-chat",
        "claude-opus-vendor-as-chat",
    ),
}
"""llm-comply looks at the names: these it takes for models that think."""

_NO_ECHO = "the shipped upstreams do not think and give no `reasoning` back; passes with vendor"
_OPENAI_EVENTS = (
    "thinking is streamed by OpenAI's events (response.reasoning_text.delta), which its SDKs know; "
    "Open Responses has other names for them (response.reasoning.delta)"
)
FAILS = {
    ("open-responses", "gpt-5-vendor-as-chat", "streaming-response"): _OPENAI_EVENTS,
    ("open-responses", "gpt-5-vendor-as-chat", "streaming-usage"): _OPENAI_EVENTS,
    ("open-responses", "gpt-5-socket", "reasoning-summary"): _NO_ECHO,
    ("open-responses", "gpt-5-script", "reasoning-summary"): _NO_ECHO,
}
"""Tests that cannot be passed, with the reason; each must fail indeed."""

_FOREIGN_ID = "an answer keeps the id that its upstream gave it"
_NO_COMPACTION = "no path /v1/responses/compact is served: 404, which llm-comply allows"
_NO_THOUGHT = "the shipped upstreams do not think; passes with vendor"
_LENIENT = "max_tokens is the upstream's to insist on, and the shipped ones do not"
WARNS = {
    **{
        ("openai-chat", f"gpt-5-{upstream}-as-messages", f"chat-{test}"): _FOREIGN_ID
        for upstream in ("socket", "vendor")
        for test in ("basic-response", "system-prompt", "multi-turn", "tool-calling", "image-input")
    },
    **{("open-responses", m, "compact-response"): _NO_COMPACTION for m in MODELS["open-responses"]},
    ("openai-chat", "gpt-5-script", "chat-reasoning-summary"): _NO_THOUGHT,
    **{
        ("anthropic", model, "anth-thinking-display"): _NO_THOUGHT
        for model in MODELS["anthropic"]
        if "vendor" not in model
    },
    **{
        ("anthropic", f"claude-opus-{upstream}", "anth-error-handling"): _LENIENT
        for upstream in ("socket", "script")
    },
}
"""Tests that are passed with advice; each must still give it."""

SCRIPT = """
[[rules]]
text = '"tools"'
tool = "get_weather"
tool_arguments = '{"location": "San Francisco"}'

[[rules]]
answer = "Hello there, friend."
"""


def vendor(heard: Heard) -> Said:
    """Thinks before it answers, and insists on what its API insists on."""
    said = heard.body
    wanted = ("model", "max_tokens") if heard.path == "/v1/messages" else ("model",)
    kind = {"content-type": "application/json"}
    if missing := [name for name in wanted if name not in said]:
        error: dict[str, Any] = {"type": "invalid_request_error", "message": f"{missing}: required"}
        return 400, kind, [json.dumps({"type": "error", "error": error}).encode()]
    body = THOUGHT[heard.path](said)
    if said.get("stream"):
        return 200, {"content-type": "text/event-stream"}, unfold(body, SERVED[heard.path])
    return 200, kind, [json.dumps(body).encode()]


def _chat(said: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "555",
        "refusal": None,
        "annotations": [],
        "reasoning_content": "15 * 37 is 555.",
    }
    if said.get("tools"):
        call = {"name": "get_weather", "arguments": '{"location": "San Francisco"}'}
        message["content"] = None
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": call}]
    finish = "tool_calls" if said.get("tools") else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": said["model"],
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": 14,
            "completion_tokens": 19,
            "total_tokens": 33,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 16},
        },
    }


def _messages(said: dict[str, Any]) -> dict[str, Any]:
    thinking = {"type": "thinking", "thinking": "15 * 37 is 555.", "signature": "c2lnbmVk"}
    content: list[dict[str, Any]] = [{"type": "text", "text": "555", "citations": None}]
    if said.get("thinking") or (said.get("output_config") or {}).get("effort"):
        content.insert(0, thinking)
    if said.get("tools"):
        given = {"location": "San Francisco"}
        call = {"id": "toolu_1", "name": "get_weather", "input": given}
        content[-1] = {"type": "tool_use", **call, "caller": {"type": "direct"}}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": said["model"],
        "content": content,
        "stop_reason": "tool_use" if said.get("tools") else "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": {
            "input_tokens": 14,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 19,
            "output_tokens_details": {"thinking_tokens": 16},
            "server_tool_use": None,
            "service_tier": "standard",
            "inference_geo": None,
        },
    }


def _responses(said: dict[str, Any]) -> dict[str, Any]:
    """What a vendor's Responses hold is a long list; the same answer told in that format."""
    made: dict[str, Any] = json.loads(
        answer(json.dumps(_chat(said)).encode(), said["model"], json.dumps(said).encode())
    )
    return made


THOUGHT = {"/v1/chat/completions": _chat, "/v1/messages": _messages, "/v1/responses": _responses}


@pytest.fixture(scope="module")
def served(harbour: Harbour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    script = tmp_path_factory.mktemp("script") / "script.toml"
    script.write_text(SCRIPT)
    places = {"socket": f"{harbour.faulty().url}/v1", "vendor": harbour.vendor(vendor)[0]}
    every = '["chat", "responses", "messages"]'
    toml = f'[upstreams.script]\nkind = "scripted"\nscript = "{script}"\nwires = {every}\n'
    for name, place in places.items():
        for suffix, wires in (
            ("", every),
            ("-as-chat", '["chat"]'),
            ("-as-messages", '["messages"]'),
        ):
            toml += (
                f'[upstreams.{name}{suffix}]\nbase_url = "{place}"\nallow_private = true\n'
                f"wires = {wires}\n"
            )
    for model in {model for models in MODELS.values() for model in models}:
        upstream = model.removeprefix("gpt-5-").removeprefix("claude-opus-")
        toml += f'[models.{model}]\nupstream = "{upstream}"\n'
    yield harbour.serve(toml)
    http.close_client()


def _all() -> Iterator[Any]:
    for form, models in MODELS.items():
        for model in models:
            for case in tests.get_tests(form):
                reason = FAILS.get((form, model, case.id))
                marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
                yield pytest.param(form, model, case, id=f"{model}-{case.id}", marks=marks)


@cache
def _spec(form: str) -> Any:
    return schema.SpecLoader(str(Path(schema.__file__).parent / "specs" / SPECS[form]))


@pytest.mark.parametrize(("form", "model", "case"), list(_all()))
def test_llm_comply_passes(served: Served, form: str, model: str, case: Any) -> None:
    config = ComplianceConfig(served.v1, served.token, model, timeout=20)
    result = runner.TestRunner(config, [case], _spec(form)).run_one(case)

    assert result.errors == []
    assert result.status.value == "passed"
    assert bool(result.warnings) == ((form, model, case.id) in WARNS), result.warnings


def test_what_is_listed_exists_and_stands_in_the_reference() -> None:
    known = {
        (form, model, case.id)
        for form, models in MODELS.items()
        for model in models
        for case in tests.get_tests(form)
    }
    page = (Path(__file__).parents[2] / "docs" / "reference" / "compliance.md").read_text("utf-8")

    assert FAILS.keys() | WARNS.keys() <= known
    assert all(f"`{test}`" in page for _, _, test in FAILS)
    assert f"| {len(known & FAILS.keys())} |\n" in page
    for package in ("llm-comply", "langchain-tests", "schemathesis", "openai", "anthropic"):
        assert package in page
