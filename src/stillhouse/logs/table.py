"""Reads plain tables: a prompt and an answer a row, with the columns under their users' names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import Completion, LoggedCall, Message, Request
from stillhouse.logs import openai_chat
from stillhouse.logs.bodies import is_failure, tags_of, tier_of
from stillhouse.logs.content import Body
from stillhouse.logs.values import (
    RowError,
    as_count,
    as_instant,
    as_milliseconds,
    as_paid,
    as_text,
    shown,
)

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("text", "input", "question", "query", "user", "user_message"),
    "messages": ("conversation", "chat"),
    "system": ("system_prompt", "system_message", "instructions"),
    "answer": ("teacher", "completion", "response", "output", "reply", "prediction"),
    "model": ("model_name", "model_id"),
    "input_tokens": ("prompt_tokens", "tokens_in"),
    "cached_tokens": ("cache_read_tokens", "cached_input_tokens", "cached_prompt_tokens"),
    "output_tokens": ("completion_tokens", "tokens_out", "answer_tokens"),
    "reasoning_tokens": ("thinking_tokens",),
    "cost_usd": ("cost", "total_cost", "usd"),
    "created_at": ("ts", "timestamp", "time", "datetime", "created", "date"),
    "latency_ms": ("duration_ms", "elapsed_ms"),
    "latency_seconds": ("latency_s", "duration_seconds", "duration_s"),
    "id": ("request_id", "call_id"),
    "host": ("provider",),
    "finish": ("finish_reason", "stop_reason"),
    "status": ("status_code", "http_status"),
    "error": ("error_message",),
    "service_tier": (),
    "task": ("task_name",),
    "team": (),
    "customer": ("customer_id",),
    "feature": (),
    "region": (),
}
"""Every field that a table may hold, with the other names by which it is recognised."""

IGNORED = "ignore"
"""What a column is mapped to that is not to be read."""

_FIELD_OF = {name: field for field, others in SYNONYMS.items() for name in (field, *others)}
_COUNTS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column holds which field, and which fields are the same in every row.

    `delimiter` and `header` are empty for a table of JSON lines.
    """

    columns: Mapping[str, str]
    constants: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ""
    header: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether there is a prompt and an answer, or a conversation that ends in one."""
        named = {*self.columns, *self.constants}
        return "messages" in named or {"prompt", "answer"} <= named


def layout_of(
    names: Iterable[str],
    mapping: Mapping[str, str],
    constants: Mapping[str, str],
    delimiter: str = "",
) -> Layout:
    """Find the field that each column holds: as mapped, else by its name or a synonym of it.

    Where several columns could be a field, the field's own name wins, then the order of SYNONYMS.
    Raises CallerError for a field or a column that does not exist.

    >>> layout_of(["text", "teacher", "gold"], {}, {"model": "m"}).columns
    {'prompt': 'text', 'answer': 'teacher'}
    """
    header = tuple(names)
    fixed = {_field_named(name): value for name, value in constants.items()}
    chosen: dict[str, str] = {}
    for column, name in mapping.items():
        if column not in header:
            raise CallerError(f"there is no column {column!r}; the columns are {listed(header)}")
        if name == IGNORED:
            continue
        wanted = _field_named(name)
        if wanted in chosen:
            raise CallerError(
                f"{chosen[wanted]!r} and {column!r} are both mapped to {wanted}; map one of them"
            )
        chosen[wanted] = column
    free = {_plain(name): name for name in reversed(header) if name not in mapping}
    columns: dict[str, str] = {}
    for wanted, others in SYNONYMS.items():
        found = next((free[name] for name in (wanted, *others) if name in free), "")
        column = chosen.get(wanted, found)
        if column and wanted not in fixed:
            columns[wanted] = column
    return Layout(columns, fixed, delimiter, header if delimiter else ())


def _field_named(name: str) -> str:
    found = _FIELD_OF.get(_plain(name))
    if found is None:
        raise CallerError(f"a table has no field {name!r}; the fields are {listed(SYNONYMS)}")
    return found


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def listed(names: Iterable[str], most: int = 30) -> str:
    """Write names into a sentence, so many of them at most.

    >>> listed(["a", "b"])
    'a, b'
    """
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if every[most:] else "")


class TableReader:
    """Reads the rows of one layout."""

    def __init__(self, layout: Layout) -> None:
        self._columns = tuple(layout.columns.items())
        self._constants = layout.constants

    def read_row(self, row: Body, line: int) -> LoggedCall:
        """Read one row; a failed call may lack its answer."""
        given: Body = {field: row.get(column) for field, column in self._columns}
        given.update(self._constants)
        get = given.get
        failed = is_failure(get("status"), get("error"))
        request, completion = _asked_and_answered(given, failed)
        usage = {name: n for name in _COUNTS if (n := as_count(get(name), name)) is not None}
        latency = as_milliseconds(get("latency_ms"), "latency_ms")
        if latency is None:
            seconds = as_milliseconds(get("latency_seconds"), "latency_seconds")
            latency = None if seconds is None else seconds * 1000
        tier, batch = tier_of(get("service_tier"))
        return LoggedCall(
            line=line,
            request=request,
            completion=completion,
            model=as_text(get("model"), "model"),
            dialect="columns",
            usage_body=usage or None,
            declared_id=as_text(get("id"), "id"),
            at_us=as_instant(get("created_at"), "created_at"),
            host=as_text(get("host"), "host"),
            latency_ms=latency,
            reported_cost=as_paid(get("cost_usd"), "cost_usd"),
            ok=not failed,
            service_tier=tier,
            batch=batch,
            tags=tags_of(given),
        )


def _asked_and_answered(given: Body, failed: bool) -> tuple[Request, Completion]:
    """The conversation and its answer; without an answer, the last turn is it."""
    turns = _turns_of(given)
    answer = given.get("answer")
    if answer is None and turns[-1].get("role") == "assistant":
        completion = openai_chat.completion_of({"choices": [{"message": turns.pop()}]})
    elif answer is not None:
        text = orjson.dumps(answer).decode() if isinstance(answer, dict | list) else None
        completion = Completion(text or as_text(answer, "answer"), finish=_finish_of(given))
    elif failed:
        completion = Completion()
    else:
        raise RowError("the row has no answer")
    messages = openai_chat.messages_of(turns)
    system = as_text(given.get("system"), "system")
    return Request((Message("system", system), *messages) if system else messages), completion


def _turns_of(given: Body) -> list[Any]:
    turns = given.get("messages")
    if type(turns) is str and turns:
        try:
            turns = orjson.loads(turns)
        except orjson.JSONDecodeError:
            raise RowError(f"messages is {shown(turns)}, not JSON") from None
    if turns:
        if type(turns) is not list:
            raise RowError(f"messages is {shown(turns)}, not a list of turns")
        return list(turns)
    prompt = as_text(given.get("prompt"), "prompt")
    if not prompt:
        raise RowError("the row has no prompt")
    return [{"role": "user", "content": prompt}]


def _finish_of(given: Body) -> str:
    return as_text(given.get("finish"), "finish")
