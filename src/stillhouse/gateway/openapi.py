"""The endpoint's own description, served at /openapi.json: every path, what it takes, what it says.

Model calls are described as far as this endpoint reads them; everything else in their bodies passes
through to the upstream, so further members are allowed everywhere.
"""

from __future__ import annotations

from typing import Any

from stillhouse import __version__
from stillhouse.gateway.http import Answer, Question

Schema = dict[str, Any]

_OPEN: Schema = {"type": "object", "additionalProperties": True}
_TEXT: Schema = {"type": "string"}
_ERROR = {"$ref": "#/components/schemas/Error"}
_ANTHROPIC_ERROR = {"$ref": "#/components/schemas/AnthropicError"}


def _object(properties: Schema, *required: str) -> Schema:
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": True}
    return made | ({"required": list(required)} if required else {})


def _content(schema: Schema, kind: str = "application/json") -> Schema:
    return {"content": {kind: {"schema": schema}}}


def _said(description: str, schema: Schema, kind: str = "application/json") -> Schema:
    return {"description": description, **_content(schema, kind)}


_FAILURES = {
    "400": "The request cannot be read, or asks for what the model's upstream cannot do.",
    "401": "The key is missing, unknown, expired or revoked.",
    "404": "The model is not served here.",
    "408": "The body took too long to arrive.",
    "413": "The body is too large.",
    "429": "A quota says no, or the upstream's rate limit was met and retries did not help.",
    "502": "The upstream failed.",
    "503": "Nothing can be booked now, so nothing is bought.",
    "504": "The upstream took too long.",
    "default": "The upstream's own error, passed on.",
}
_KEYS: list[Schema] = [{"bearer": []}, {"apiKey": []}]


def _call(summary: str, request: Schema, answer: Schema, *, streams: bool, error: Schema) -> Schema:
    good = _said("The upstream's answer.", answer)
    if streams:
        good["content"]["text/event-stream"] = {"schema": _TEXT}
    failures = {status: _said(text, error) for status, text in _FAILURES.items()}
    return {
        "summary": summary,
        "security": _KEYS,
        "requestBody": {"required": True, **_content(request)},
        "responses": {"200": good, **failures},
    }


def _own(
    summary: str,
    answer: Schema,
    *,
    failures: tuple[str, ...] = (),
    parameters: list[Schema] | None = None,
    body: Schema | None = None,
    kind: str = "application/json",
    secured: bool = True,
    status: str = "200",
) -> Schema:
    said = {status: _said("Done.", answer, kind)}
    said |= {code: _said(_FAILURES.get(code, "Refused."), _ERROR) for code in failures}
    made: Schema = {"summary": summary, "responses": said}
    if secured:
        made["security"] = _KEYS
    if parameters:
        made["parameters"] = parameters
    if body is not None:
        made["requestBody"] = {"required": True, **_content(body)}
    return made


def _in_path(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


_MESSAGES: Schema = {"type": "array", "minItems": 1, "items": _OPEN}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_SHARED: Schema = {"model": {"type": "string", "minLength": 1}, "stream": {"type": "boolean"}}
_CHAT = _object(
    {**_SHARED, "messages": _MESSAGES, "max_completion_tokens": _COUNT, "n": _COUNT},
    "model",
    "messages",
)
_MESSAGES_BODY = _object(
    {**_SHARED, "messages": _MESSAGES, "max_tokens": _COUNT}, "model", "messages", "max_tokens"
)
_RESPONSES = _object({**_SHARED, "input": {"type": ["string", "array"]}}, "model", "input")
_EMBEDDINGS = _object(
    {"model": _SHARED["model"], "input": {"type": ["string", "array"]}}, "model", "input"
)
_DECISIONS = _object({"model": _SHARED["model"]}, "model")
_ADMIN = ("400", "401", "403", "404", "413", "503")


def describe() -> Schema:
    """The OpenAPI 3.1 document.

    >>> sorted(describe()["paths"])[0]
    '/admin/budgets'
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stillhouse",
            "version": __version__,
            "description": "Every model behind one door, every attempt in the books.",
        },
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {
                "Error": _object(
                    {"error": _object({"message": _TEXT, "type": _TEXT}, "message", "type")},
                    "error",
                ),
                "AnthropicError": _object(
                    {
                        "type": {"const": "error"},
                        "error": _object({"type": _TEXT, "message": _TEXT}),
                    },
                    "type",
                    "error",
                ),
            },
        },
    }


class Described:
    """Serves the document."""

    def __init__(self) -> None:
        self._answer = Answer.of(describe())

    async def document(self, asked: Question) -> Answer:
        """GET /openapi.json."""
        return self._answer


def _paths() -> Schema:
    calls = {
        "/v1/chat/completions": ("OpenAI chat completions", _CHAT, True, _ERROR),
        "/v1/responses": ("OpenAI Responses", _RESPONSES, True, _ERROR),
        "/v1/messages": ("Anthropic Messages", _MESSAGES_BODY, True, _ANTHROPIC_ERROR),
        "/v1/embeddings": ("Embeddings", _EMBEDDINGS, False, _ERROR),
        "/v1/decisions": ("Decisions", _DECISIONS, False, _ERROR),
        "/v1/systemone": ("Decisions in the System One format", _DECISIONS, False, _ERROR),
    }
    paths: Schema = {
        path: {"post": _call(summary, request, _OPEN, streams=streams, error=error)}
        for path, (summary, request, streams, error) in calls.items()
    }
    counted = _object({"input_tokens": {"type": "integer"}})
    ask = _object({"model": _SHARED["model"], "messages": _MESSAGES}, "model", "messages")
    failing = ("400", "401", "404", "408", "413", "429", "502", "503", "504", "default")
    paths["/v1/messages/count_tokens"] = {
        "post": _own("Count the tokens of a message", counted, failures=failing, body=ask)
    }
    listing = _object({"data": {"type": "array", "items": _OPEN}}, "data")
    paths["/v1/models"] = {"get": _own("Models that can be called", listing, failures=("401",))}
    paths["/v1/models/{model}"] = {
        "get": _own("One model", _OPEN, failures=("401", "404"), parameters=[_in_path("model")])
    }
    for path, summary in (("/healthz", "Alive"), ("/readyz", "Ready to take calls")):
        failures = ("503",) if path == "/readyz" else ()
        paths[path] = {"get": _own(summary, _OPEN, failures=failures, secured=False)}
    paths["/metrics"] = {
        "get": _own("Prometheus metrics", _TEXT, failures=("401", "403"), kind="text/plain")
    }
    paths["/openapi.json"] = {"get": _own("This document", _OPEN, secured=False)}
    return paths | _admin_paths()


def _admin_paths() -> Schema:
    key = _object({"name": {"type": "string", "minLength": 1, "maxLength": 128}}, "name")
    by = {"type": "string", "enum": ["model", "day", "task", "team", "customer", "feature", "key"]}
    by_parameter = {"name": "by", "in": "query", "required": False, "schema": by}
    return {
        "/admin/keys": {
            "get": _own("Virtual keys, without their tokens", _OPEN, failures=_ADMIN),
            "post": _own("Make a virtual key", _OPEN, failures=_ADMIN, body=key, status="201"),
        },
        "/admin/keys/{key_id}": {
            "delete": _own("Revoke a key", _OPEN, failures=_ADMIN, parameters=[_in_path("key_id")])
        },
        "/admin/budgets": {"get": _own("Quotas and what is left of them", _OPEN, failures=_ADMIN)},
        "/admin/spend": {
            "get": _own("What was spent", _OPEN, failures=_ADMIN, parameters=[by_parameter])
        },
    }
