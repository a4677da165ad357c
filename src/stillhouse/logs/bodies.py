"""Builds a call from a provider's request and response bodies and the log's own envelope."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stillhouse.core.traffic import Completion, LoggedCall, Request, Tags
from stillhouse.logs import anthropic_messages, openai_chat, openai_responses
from stillhouse.logs.content import Body
from stillhouse.logs.values import (
    RowError,
    as_instant,
    as_milliseconds,
    as_paid,
    as_text,
    check_counts,
    shown,
)

TAG_NAMES = ("task", "team", "customer", "feature", "region")
NO_TAGS = Tags()
_FAILED = frozenset({"error", "failed", "failure", "timeout", "cancelled", "canceled", "expired"})
_NO_ERROR = frozenset({"0", "false", "none", "null"})
_HEADER = "x-stillhouse-"
_ORDINARY_TIERS = frozenset({"default", "standard", "batch"})


class Dialect(NamedTuple):
    """How one provider's bodies are read; `name` is what LoggedCall.dialect holds."""

    name: str
    title: str
    request_of: Callable[[Body], Request]
    completion_of: Callable[[Body], Completion]


OPENAI = Dialect("openai", "OpenAI chat", openai_chat.request_of, openai_chat.completion_of)
RESPONSES = Dialect(
    "responses", "OpenAI Responses", openai_responses.request_of, openai_responses.completion_of
)
ANTHROPIC = Dialect(
    "anthropic",
    "Anthropic Messages",
    anthropic_messages.request_of,
    anthropic_messages.completion_of,
)


def dialect_of(request: Body, response: Body) -> Dialect:
    """Tell whose bodies these are: by the answer, or by the request where the call failed.

    >>> dialect_of({"messages": []}, {"choices": []}).title
    'OpenAI chat'
    """
    if "choices" in response:
        return OPENAI
    if "stop_reason" in response or response.get("type") == "message":
        return ANTHROPIC
    if "output" in response or "input" in request:
        return RESPONSES
    if response.get("type") == "error" or "system" in request:
        return ANTHROPIC
    return OPENAI


def is_failure(status: object, error: object) -> bool:
    """Whether a status (an HTTP code or a word) or an error says that the call failed.

    >>> is_failure(429, None), is_failure("ok", None), is_failure(None, {"code": "expired"})
    (True, False, True)
    """
    if error and str(error).lower() not in _NO_ERROR:
        return True
    if isinstance(status, str):
        return status.lower() in _FAILED or (status.isdecimal() and int(status) >= 400)
    return isinstance(status, int) and status >= 400


def tier_of(value: object) -> tuple[str, bool]:
    """Service tier, empty where it is the ordinary one, and whether the call was in a batch.

    >>> tier_of("default"), tier_of("flex"), tier_of("batch")
    (('', False), ('flex', False), ('', True))
    """
    tier = as_text(value, "service_tier")
    return ("" if tier in _ORDINARY_TIERS else tier), tier == "batch"


def tags_of(metadata: object, headers: object = None) -> Tags:
    """Read explicit tags; metadata wins over `x-stillhouse-...` headers.

    >>> tags_of({"task": "intent"}, {"X-Stillhouse-Team": "cards"})
    Tags(task='intent', team='cards', customer='', feature='', region='')
    """
    if not metadata and not headers:
        return NO_TAGS
    named, sent = metadata or {}, headers or {}
    if type(named) is not dict:
        raise RowError(f"metadata is {shown(metadata)}, not an object")
    if type(sent) is not dict:
        raise RowError(f"headers is {shown(headers)}, not an object")
    if sent:
        lowered = {name.lower(): value for name, value in sent.items()}
        named = {tag: named.get(tag) or lowered.get(_HEADER + tag) for tag in TAG_NAMES}
    return Tags(*[as_text(named.get(tag), tag) for tag in TAG_NAMES])


def call_of(
    line: int, row: Body, request: Body, response: Body, failed: bool, *, batch: bool = False
) -> LoggedCall:
    """Build a call; `row` is the envelope, where the log keeps what the bodies do not say.

    The model is the one that answered, which an alias in the request does not name. Raises
    RowError where a value cannot be read.
    """
    dialect = dialect_of(request, response)
    failed = failed or is_failure(response.get("status"), response.get("error"))
    usage = response.get("usage") or None
    if usage is not None:
        if type(usage) is not dict:
            raise RowError(f"usage is {shown(usage)}, not an object")
        check_counts(usage)
    created = row.get("created_at")
    if created is None:
        created = response.get("created", response.get("created_at"))
    tier, batch_tier = tier_of(response.get("service_tier") or (usage or {}).get("service_tier"))
    return LoggedCall(
        line=line,
        request=dialect.request_of(request),
        completion=Completion() if failed else dialect.completion_of(response),
        model=as_text(response.get("model") or request.get("model"), "model"),
        dialect=dialect.name,
        usage_body=usage,
        declared_id=as_text(row.get("id"), "id"),
        at_us=as_instant(created, "created_at"),
        host=as_text(row.get("host") or row.get("provider"), "host"),
        latency_ms=as_milliseconds(row.get("latency_ms"), "latency_ms"),
        reported_cost=as_paid(_reported_cost(row, usage), "cost_usd"),
        ok=not failed,
        service_tier=tier,
        batch=batch or batch_tier,
        tags=tags_of(row.get("metadata") or request.get("metadata"), row.get("headers")),
    )


def _reported_cost(row: Body, usage: Body | None) -> object:
    """What the log says was charged, or else what OpenRouter writes into the usage object."""
    cost = row.get("cost_usd")
    if cost is None and usage is not None and isinstance(usage.get("cost"), int | float):
        return usage["cost"]
    return cost
