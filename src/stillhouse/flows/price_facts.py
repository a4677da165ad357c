"""Prices as the books and journals keep them: facts as JSON, by which a charge can be redone."""

from __future__ import annotations

import orjson

from stillhouse.core.errors import CallerError
from stillhouse.ledger.prices import Price, price_from_row


def facts_of(price: Price) -> str:
    """The facts of a price as JSON text.

    >>> price_of(facts_of(Price("acme", "m", {"input_tokens": 3})))
    Price(provider='acme', model='m', amounts={'input_tokens': 3}, ...)
    """
    return orjson.dumps(price, default=dict).decode()


def price_of(facts: str) -> Price | None:
    """The price behind its facts; None where they are no price's."""
    try:
        row = orjson.loads(facts)
        row.pop("price_id", None)
        return price_from_row(row, known_from_us=0)
    except (orjson.JSONDecodeError, AttributeError, KeyError, CallerError):
        return None
