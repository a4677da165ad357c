"""Bodies as providers send them, and a way to write and read a log."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from stillhouse.core.traffic import BrokenRow, LoggedCall
from stillhouse.logs import detect, read

Row = dict[str, Any]
Write = Callable[..., Path]
ReadAll = Callable[..., list[LoggedCall | BrokenRow]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as JSON lines, or text or bytes as they are; gzip by the file's name."""

    def write_log(content: str | bytes | Iterable[object], name: str = "log.jsonl") -> Path:
        if isinstance(content, str):
            content = content.encode()
        elif not isinstance(content, bytes):
            content = b"".join(orjson.dumps(row) + b"\n" for row in content)
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write_log


@pytest.fixture
def read_all(write: Write) -> ReadAll:
    """Write a log, detect its format and read it."""

    def read_log(
        content: str | bytes | Iterable[object],
        mapping: Mapping[str, str] | None = None,
        constants: Mapping[str, str] | None = None,
        name: str = "log.jsonl",
    ) -> list[LoggedCall | BrokenRow]:
        path = write(content, name)
        return list(read(path, detect(path, mapping, constants)))

    return read_log


@pytest.fixture
def chat_request() -> Row:
    return {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Name the intent of the message."},
            {"role": "user", "content": "Where is my card?"},
        ],
        "temperature": 0,
        "max_tokens": 16,
    }


@pytest.fixture
def chat_response() -> Row:
    return {
        "id": "chatcmpl-C8",
        "object": "chat.completion",
        "created": 1790427902,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "card arrival",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 402,
            "completion_tokens": 4,
            "total_tokens": 406,
            "prompt_tokens_details": {"cached_tokens": 384, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_51db84afab",
    }


@pytest.fixture
def pair(chat_request: Row, chat_response: Row) -> Row:
    return {"request": chat_request, "response": chat_response}
