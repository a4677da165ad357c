"""Exchanges for a store to keep, and the few steps that its checks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.errors import StoreError
from stillhouse.core.money import Paid
from stillhouse.core.traffic import (
    Attempt,
    Completion,
    Evidence,
    Exchange,
    Message,
    Request,
    Usage,
)

Opener = Callable[[], AbstractContextManager[Any]]
"""Opens one and the same place, as often as it is called: each time as another process would."""

PRICES = {"p1": '{"model": "m"}'}


def an_entry(
    n: int,
    *,
    content: bytes = b"",
    at_us: int | None = 0,
    asked: str = "hello",
    model: str = "m",
    billed: int | None = 5,
    price_id: str = "p1",
) -> tuple[Exchange, bytes, tuple[Charge, ...]]:
    """An exchange of one attempt and one charge, as `add_batch` takes it."""
    name = f"{n:032x}"
    attempt = Attempt(name, model, at_us=at_us, usage=Usage(10, output_tokens=2))
    request = Request((Message("system", "Answer briefly."), Message("user", asked)))
    charge = Charge(
        f"{name}:input_tokens",
        name,
        "input_tokens",
        10,
        "tokens",
        None if billed is None else Paid(billed),
        CostSource.UNPRICED if billed is None else CostSource.COMPUTED,
        Evidence.DERIVED,
        "" if billed is None else price_id,
    )
    exchange = Exchange(name, request, Completion("label"), (attempt,))
    return exchange, content or n.to_bytes(4, "big"), (charge,)


def keep(store: Any, entries: Sequence[Any], line: int = 0) -> tuple[int, int, tuple[int, ...]]:
    """Add a batch to the log `log`: how many were new and duplicates, and which conflict."""
    outcome = store.add_batch(entries, PRICES, fingerprint="log", position=(10 * line, line))
    return outcome.new, outcome.duplicates, outcome.conflicts


def numbers(exchanges: Iterable[Exchange]) -> list[int]:
    """The numbers that `an_entry` made exchanges of."""
    return [int(exchange.exchange_id, 16) for exchange in exchanges]


def count(store: Any, table: str) -> int:
    """How many rows a table has."""
    ((rows,),) = store.database.rows(f"SELECT count(*) FROM {table}")  # noqa: S608
    return int(rows)


def refused(step: Callable[[], object], what: str) -> str:
    """The sentence of the StoreError that a step must end in."""
    sentence = ""
    try:
        step()
    except StoreError as error:
        sentence = str(error)
    assert sentence, f"{what} was not refused"
    assert "\n" not in sentence, f"{what}: the error is more than one sentence: {sentence}"
    return sentence
