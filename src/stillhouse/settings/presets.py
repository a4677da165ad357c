"""Vendors and servers by name, so that an upstream needs a line and not a manual.

Checked against each one's own documentation in November 2026. A wire stands here only where it
answers under the same base URL and with the same kind of key; a vendor's second base URL is a row
of its own (`deepseek-messages`). `models` are patterns of names that can be nobody else's; where a
vendor hosts other people's models there are none, and `vendor/model` finds them.
"""

from __future__ import annotations

from typing import NamedTuple

from stillhouse.core.catalogue import Wire

CHAT, RESPONSES, MESSAGES, EMBEDDINGS = (
    Wire.CHAT,
    Wire.RESPONSES,
    Wire.MESSAGES,
    Wire.EMBEDDINGS,
)


class Preset(NamedTuple):
    """What is known of a vendor: `host` is its name in the price book, empty where nobody bills.

    `key_envs` are the environment variables that its own documentation names, first wins.
    `bearer` says that its Messages want the key as a bearer token and not as `x-api-key`.
    """

    base_url: str
    wires: tuple[Wire, ...]
    key_envs: tuple[str, ...] = ()
    host: str = ""
    models: tuple[str, ...] = ()
    local: bool = False
    bearer: bool = False


PRESETS: dict[str, Preset] = {
    "openai": Preset(
        "https://api.openai.com/v1",
        (CHAT, RESPONSES, EMBEDDINGS),
        ("OPENAI_API_KEY",),
        "openai",
        ("gpt-*", "chatgpt-*", "o1", "o1-*", "o3", "o3-*", "o4-*", "text-embedding-*", "ft:*"),
    ),
    "anthropic": Preset(
        "https://api.anthropic.com/v1",
        (MESSAGES,),
        ("ANTHROPIC_API_KEY",),
        "anthropic",
        ("claude-*",),
    ),
    "deepseek": Preset(
        "https://api.deepseek.com",
        (CHAT,),
        ("DEEPSEEK_API_KEY",),
        "deepseek",
        ("deepseek-*",),
    ),
    "deepseek-messages": Preset(
        "https://api.deepseek.com/anthropic/v1",
        (MESSAGES,),
        ("DEEPSEEK_API_KEY",),
        "deepseek",
    ),
    "openrouter": Preset(
        "https://openrouter.ai/api/v1",
        (CHAT, RESPONSES, MESSAGES),
        ("OPENROUTER_API_KEY",),
        "openrouter",
        bearer=True,
    ),
    "mistral": Preset(
        "https://api.mistral.ai/v1",
        (CHAT, EMBEDDINGS),
        ("MISTRAL_API_KEY",),
        "mistral",
        ("mistral-*", "ministral-*", "magistral-*", "codestral-*", "devstral-*", "pixtral-*"),
    ),
    "groq": Preset(
        "https://api.groq.com/openai/v1",
        (CHAT, RESPONSES),
        ("GROQ_API_KEY",),
        "groq",
    ),
    "together": Preset(
        "https://api.together.ai/v1",
        (CHAT, EMBEDDINGS),
        ("TOGETHER_API_KEY",),
        "together",
    ),
    "fireworks": Preset(
        "https://api.fireworks.ai/inference/v1",
        (CHAT, MESSAGES, EMBEDDINGS),
        ("FIREWORKS_API_KEY",),
        "fireworks",
        ("accounts/fireworks/*",),
    ),
    "xai": Preset(
        "https://api.x.ai/v1",
        (RESPONSES, CHAT),
        ("XAI_API_KEY",),
        "x-ai",
        ("grok-*",),
    ),
    "gemini": Preset(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        (CHAT, EMBEDDINGS),
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "google",
        ("gemini-*",),
    ),
    "ollama": Preset(
        "http://localhost:11434/v1", (CHAT, RESPONSES, MESSAGES, EMBEDDINGS), local=True
    ),
    "vllm": Preset("http://localhost:8000/v1", (CHAT, RESPONSES, MESSAGES, EMBEDDINGS), local=True),
    "sglang": Preset("http://localhost:30000/v1", (CHAT, MESSAGES, EMBEDDINGS), local=True),
    "llama.cpp": Preset("http://localhost:8080/v1", (CHAT, MESSAGES, EMBEDDINGS), local=True),
    "lm-studio": Preset(
        "http://localhost:1234/v1", (CHAT, RESPONSES, MESSAGES, EMBEDDINGS), local=True
    ),
}
