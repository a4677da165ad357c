"""The endpoint's own description, served at /openapi.json: every path, what it takes, what it says.

Model calls are described as far as this endpoint reads them; everything else in their bodies passes
through to the upstream, so further members are allowed everywhere.
"""

from __future__ import annotations

from typing import Any

from stillhouse import __version__
from stillhouse.gateway.admin import AMOUNT, GROUPINGS, WINDOWS
from stillhouse.gateway.http import Answer, Question
from stillhouse.gateway.openapi_students import steering_paths

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
    "421": "The Host field names another server.",
    "429": "A quota says no, or the upstream's rate limit was met and retries did not help.",
    "502": "The upstream failed.",
    "503": "Nothing can be booked now, so nothing is bought.",
    "504": "The upstream took too long.",
    "default": "The upstream's own error, passed on.",
}
_KEYS: list[Schema] = [{"bearer": []}, {"apiKey": []}]


def _call(summary: str, request: Schema, answer: Schema, *, streams: bool, error: Schema) -> Schema:
    good = _said("The upstream's answer.", answer)
    good["headers"] = {
        "x-stillhouse-exchange": {"description": "Its id in the books.", "schema": _TEXT}
    }
    if streams:
        good["content"]["text/event-stream"] = {}
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
    error: Schema = _ERROR,
) -> Schema:
    said = {status: _said("Done.", answer, kind)}
    if secured:
        failures = tuple(sorted({*failures, "401", "421"}))
    said |= {code: _said(_FAILURES.get(code, "Refused."), error) for code in failures}
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
_ADMIN = ("400", "403", "404", "408", "413", "503")
_WHOLE: Schema = {"type": "integer"}
_AT: Schema = {"type": ["integer", "null"], "description": "Microseconds since 1970."}
_TAG: Schema = {"type": ["string", "null"], "maxLength": 128, "description": "Printable."}
_NEW_KEY: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 128, "description": "Printable."},
        "team": _TAG,
        "customer": _TAG,
        "feature": _TAG,
        "models": {"type": ["array", "null"], "items": _TEXT, "description": "As `gpt-*`."},
        "budget_usd": {"type": ["string", "null"], "pattern": AMOUNT},
        "per": {"enum": [*WINDOWS, None]},
        "students": {"type": ["boolean", "null"], "description": "May students answer its calls?"},
    },
    "required": ["name"],
    "additionalProperties": False,
}
_KEY = _object(
    {
        **dict.fromkeys(("key_id", "name", "team", "customer", "feature"), _TEXT),
        "models": {"type": "array", "items": _TEXT},
        "quotas": {"type": "array", "items": _TEXT},
        "admin": {"type": "boolean"},
        "students": {"type": "boolean"},
        "created_us": {"type": "integer"},
        "expires_us": _AT,
        "revoked_us": _AT,
        "token": {"type": "string", "description": "Shown once, when it is made."},
    },
    "key_id",
    "name",
    "admin",
)
_BUDGET = _object(
    {
        "counter": _TEXT,
        **dict.fromkeys(("limit", "spent", "leased", "remaining", "over"), _WHOLE),
    },
    "counter",
    "limit",
    "spent",
)
_DOLLARS: Schema = {"type": ["string", "null"], "description": "Exact; null if not all is known."}
_SPENT = _object(
    {
        "attempts": _WHOLE,
        "computed_usd": _DOLLARS,
        "reported_usd": _DOLLARS,
        "tokens": {"type": "object", "additionalProperties": _WHOLE},
        "evidence": _TEXT,
    },
    "attempts",
    "computed_usd",
)


def _rows(name: str, row: Schema) -> Schema:
    return _object({name: {"type": "array", "items": row}}, name)


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
    counted = _object({"input_tokens": {"type": "integer", "minimum": 0}}, "input_tokens")
    ask = _object({"model": _SHARED["model"], "messages": _MESSAGES}, "model", "messages")
    failing = ("400", "404", "408", "413", "429", "502", "503", "504", "default")
    paths["/v1/messages/count_tokens"] = {
        "post": _own(
            "Count the tokens of a message",
            counted,
            failures=failing,
            body=ask,
            error=_ANTHROPIC_ERROR,
        )
    }
    model = _object({"id": _TEXT}, "id")
    listing = _object({"data": {"type": "array", "items": model}}, "data")
    paths["/v1/models"] = {"get": _own("Models that can be called", listing)}
    paths["/v1/models/{model}"] = {
        "get": _own("One model", model, failures=("404",), parameters=[_in_path("model")])
    }
    for path, summary in (("/healthz", "Alive"), ("/readyz", "Ready to take calls")):
        failures = ("503",) if path == "/readyz" else ()
        paths[path] = {"get": _own(summary, _OPEN, failures=failures, secured=False)}
    metrics = _own("Prometheus metrics", _TEXT, failures=("403", "404"), kind="text/plain")
    metrics["security"] = [{}, *_KEYS]  # on this machine nobody is asked for a key
    paths["/metrics"] = {"get": metrics}
    paths["/openapi.json"] = {"get": _own("This document", _OPEN, secured=False)}
    return paths | _batch_paths() | _admin_paths()


_KEPT_UPSTREAM: dict[str, tuple[str, ...]] = {
    "/v1/files": ("get", "post"),
    "/v1/files/{id}": ("get", "delete"),
    "/v1/files/{id}/content": ("get",),
    "/v1/batches": ("get", "post"),
    "/v1/batches/{id}": ("get",),
    "/v1/batches/{id}/cancel": ("post",),
    "/v1/messages/batches": ("get", "post"),
    "/v1/messages/batches/{id}": ("get", "delete"),
    "/v1/messages/batches/{id}/cancel": ("post",),
    "/v1/messages/batches/{id}/results": ("get",),
}
_UPSTREAM: Schema = {
    "name": "x-stillhouse-upstream",
    "in": "header",
    "required": False,
    "schema": _TEXT,
    "description": "The upstream that keeps it, where several could.",
}


def _batch_paths() -> Schema:
    """Files and batches: what is passed on untouched to the upstream that keeps them."""
    return {
        path: {method: _passed(path, method) for method in methods}
        for path, methods in _KEPT_UPSTREAM.items()
    }


def _passed(path: str, method: str) -> Schema:
    error = _ANTHROPIC_ERROR if path.startswith("/v1/messages") else _ERROR
    refusals = {status: _said(text, error) for status, text in _FAILURES.items()}
    refusals["403"] = _said("A key for some models only may not use batches.", error)
    anything: Schema = {"*/*": {}}
    made: Schema = {
        "summary": "Passed on to the upstream",
        "security": _KEYS,
        "parameters": [_UPSTREAM, *([_in_path("id")] if "{id}" in path else [])],
        "responses": {
            "200": {"description": "The upstream's answer.", "content": anything},
            **refusals,
            "default": {"description": "The upstream's answer.", "content": anything},
        },
    }
    if method == "post" and not path.endswith("/cancel"):
        kind = "multipart/form-data" if path == "/v1/files" else "application/json"
        made["requestBody"] = {"required": True, **_content(_OPEN, kind)}
    return made


def _admin_paths() -> Schema:
    by = {"type": "string", "enum": list(GROUPINGS)}
    by_parameter = {"name": "by", "in": "query", "required": False, "schema": by}
    revoked = _object({"key_id": _TEXT, "revoked": {"const": True}}, "key_id", "revoked")
    made = {**_KEY, "required": [*_KEY["required"], "token"]}
    return steering_paths(_own, _ADMIN, _in_path("task")) | {
        "/admin/keys": {
            "get": _own("Virtual keys, without their tokens", _rows("keys", _KEY), failures=_ADMIN),
            "post": _own("Make a virtual key", made, failures=_ADMIN, body=_NEW_KEY, status="201"),
        },
        "/admin/keys/{key_id}": {
            "delete": _own(
                "Revoke a key", revoked, failures=_ADMIN, parameters=[_in_path("key_id")]
            )
        },
        "/admin/budgets": {
            "get": _own(
                "Quotas and what is left of them", _rows("budgets", _BUDGET), failures=_ADMIN
            )
        },
        "/admin/spend": {
            "get": _own(
                "What was spent", _rows("rows", _SPENT), failures=_ADMIN, parameters=[by_parameter]
            )
        },
    }
