"""LangChain's standard suite for ChatOpenAI with our base URL, in front of a scripted upstream.

The upstream is another endpoint, whose scripted upstream has a rule for each part that the suite
wants played. Chat and Responses are each tried in the caller's own wire format and through a
translation; what a class says it does not support, and why, stands in its properties.
"""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests, chat_models

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Served

pytestmark = [
    pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema:UserWarning"),
    pytest.mark.filterwarnings("ignore:OpenAI may require a filename:UserWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]
"""What LangChain says of the suite's own requests, and Pydantic of OpenAI's parsed answers."""

for _test in vars(ChatModelIntegrationTests).values():
    if inspect.iscoroutinefunction(_test):  # the suite is written for asyncio's automatic mode
        pytest.mark.asyncio(_test)

JOKE = json.dumps({"setup": "Why do cats purr?", "punchline": "Because they can."})


def _calls(tool: str, arguments: Any, asked: str = "") -> dict[str, Any]:
    return {
        "text": f"(?s){asked}.*" + rf'"name":\s*"{tool}"',
        "tool": tool,
        "tool_arguments": json.dumps(arguments, ensure_ascii=False),
    }


SCRIPT: list[dict[str, Any]] = [
    {"text": '"tool_result"|"role":"tool"|"function_call_output"', "answer": "It is 3."},
    {"text": '"json_schema"|"json_object"', "answer": JOKE},
    _calls("magic_function", {"input": 3}),
    _calls("magic_function_no_args", {}),
    _calls("get_weather", {"location": "San Francisco"}),
    _calls("greeting_generator", {"answer_style": "Pirate"}),
    _calls("my_adder_tool", {"a": 1, "b": 2}),
    _calls("Joke", json.loads(JOKE)),
    _calls("unicode_customer", {"customer_name": "你好啊集团", "description": "d"}, "你好"),
    _calls("unicode_customer", {"customer_name": "こんにちは株式会社", "description": "d"}),
    {"answer": "You said: {}"},
]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


@pytest.fixture(scope="module")
def served(harbour: Harbour, tmp_path_factory: pytest.TempPathFactory) -> Served:
    script = tmp_path_factory.mktemp("script") / "script.json"
    script.write_text(json.dumps(SCRIPT), encoding="utf-8")
    inner = _serving("scripted", f'script = "{script}"', responses="chat")
    first = harbour.serve(inner)
    outer = _serving(
        "http",
        f'base_url = "{first.v1}"\nkey_env = "FIRST"\nallow_private = true',
        responses="responses",
    )
    return harbour.serve(outer, {"FIRST": first.token})


def _serving(kind: str, more: str, responses: str) -> str:
    """Two models for each wire; `responses` is the wire behind those of that name."""
    toml = ""
    for name, wire in (("chat", "chat"), ("messages", "messages"), ("responses", responses)):
        toml += f'[upstreams.{name}]\nkind = "{kind}"\nwires = ["{wire}"]\n{more}\n'
        toml += f'[models.{name}]\nupstream = "{name}"\n[models.{name}-2]\nupstream = "{name}"\n'
    return toml


class Suite(ChatModelIntegrationTests):
    """The suite, without a network: files come from here, and connections are closed."""

    model_name = ""
    responses = False
    address: str
    token: str
    _clients: tuple[httpx2.Client, httpx2.AsyncClient]

    @pytest.fixture(autouse=True)
    def _connected(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        files = SimpleNamespace(get=lambda url, **_: SimpleNamespace(content=PIXEL))
        monkeypatch.setattr(chat_models, "httpx", files)
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "none")
        type(self).address, type(self).token = served.v1, served.token
        with httpx2.Client(verify=False) as client:  # no TLS here, and its certificates take time
            # Each test has a loop of its own: a connection must not outlive its request.
            single = httpx2.AsyncClient(
                limits=httpx2.Limits(max_keepalive_connections=0), verify=False
            )
            type(self)._clients = (client, single)
            yield

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        client, async_client = self._clients
        return {
            "model": self.model_name,
            "base_url": self.address,
            "api_key": self.token,
            "http_client": client,
            "http_async_client": async_client,
            "use_responses_api": self.responses,
            "max_retries": 0,
            "stream_usage": True,
        }

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return f"{self.model_name}-2"


class TestChat(Suite):
    """Chat in front of chat. Files are no part of its tool messages."""

    model_name = "chat"
    supports_audio_inputs = True


class TestChatByMessages(Suite):
    """Chat in front of Anthropic's Messages, which have no audio and no `json_object`."""

    model_name = "messages"
    supports_json_mode = False


class TestResponses(Suite):
    """Responses in front of Responses; the suite's audio has no place in them."""

    model_name = "responses"
    responses = True
    supports_pdf_tool_message = True


class TestResponsesByChat(Suite):
    """Responses in front of chat."""

    model_name = "chat"
    responses = True


class TestResponsesByMessages(Suite):
    """Responses in front of Anthropic's Messages."""

    model_name = "messages"
    responses = True
    supports_json_mode = False


del Suite  # a base, no test
