"""The admin API: keys, quotas and spend; closed until an admin key is made on the command line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from stillhouse.core.errors import CallerError
from stillhouse.core.money import PICO
from stillhouse.core.quotas import Quota, Scope, Standing, Unit, VirtualKey, Window
from stillhouse.core.traffic import Tags
from stillhouse.gateway.door import Door
from stillhouse.gateway.http import Answer, Question, RefusedError
from stillhouse.gateway.keys import make_key

_TEXT_FIELDS = ("team", "customer", "feature")
_KNOWN = frozenset(("name", "models", "budget_usd", "per", "students", *_TEXT_FIELDS))
_LONGEST = 128
AMOUNT = r"^[0-9]{1,6}(\.[0-9]{1,12})?$"
"""Dollars as text: below a million, so that sums of picodollars have room."""

WINDOWS = ("day", "week", "month", "total")

GROUPINGS = ("model", "day", "task", "team", "customer", "feature", "key", "upstream", "fate")
"""What spend can be grouped by."""


class Access(Protocol):
    """Where keys and counters are kept."""

    def add_key(self, key: VirtualKey) -> None:
        """Keep a new key."""
        ...

    def revoke_key(self, key_id: str, at_us: int) -> None:
        """Make a key worthless."""
        ...

    def keys(self) -> tuple[VirtualKey, ...]:
        """All keys."""
        ...

    def counters(self) -> dict[str, Standing]:
        """All counters by name."""
        ...


Spend = Callable[[str], Iterable[Mapping[str, Any]]]


class Admin:
    """Handlers under /admin; every one of them wants a key with the admin right."""

    def __init__(self, access: Access, spend: Spend, door: Door, now_us: Callable[[], int]) -> None:
        self._access, self._spend, self._door, self._now_us = access, spend, door, now_us

    async def keys(self, asked: Question) -> Answer:
        """GET /admin/keys."""
        self._check(asked)
        keys = await asyncio.to_thread(self._access.keys)
        return Answer.of({"keys": [shown(key) for key in keys]})

    async def create(self, asked: Question) -> Answer:
        """POST /admin/keys: the answer is the only place where the token is ever shown."""
        self._check(asked)
        key, token = _made(asked.json(), self._now_us())
        await asyncio.to_thread(self._access.add_key, key)
        return Answer.of({**shown(key), "token": token}, 201)

    async def revoke(self, asked: Question) -> Answer:
        """DELETE /admin/keys/ID."""
        self._check(asked)
        known = await asyncio.to_thread(self._access.keys)
        key = next((key for key in known if key.key_id == asked.rest), None)
        if key is None:
            raise RefusedError(404, "there is no key of this id; GET /admin/keys lists them")
        await asyncio.to_thread(self._access.revoke_key, key.key_id, self._now_us())
        return Answer.of({"key_id": key.key_id, "revoked": True})

    async def budgets(self, asked: Question) -> Answer:
        """GET /admin/budgets."""
        self._check(asked)
        counters = await asyncio.to_thread(self._access.counters)
        rows = [
            {
                "counter": name,
                "limit": stood.limit,
                "spent": stood.spent,
                "leased": stood.leased,
                "remaining": stood.remaining,
                "over": stood.over,
            }
            for name, stood in sorted(counters.items())
        ]
        return Answer.of({"budgets": rows})

    async def spend(self, asked: Question) -> Answer:
        """GET /admin/spend?by=model."""
        self._check(asked)
        by = asked.asked("by", "model")
        if by not in GROUPINGS:
            raise CallerError(f"by is {by[:40]!r}; use one of {', '.join(GROUPINGS)}")
        rows = await asyncio.to_thread(lambda: list(self._spend(by)))
        return Answer.of({"by": by, "rows": rows})

    def _check(self, asked: Question) -> None:
        admitted(self._door, asked)


def admitted(door: Door, asked: Question) -> VirtualKey:
    """The admin key that a request comes with; RefusedError where it has none."""
    visitor = door.enter(asked.headers)
    if visitor is None:
        raise RefusedError(401, "the key is missing, unknown, expired or revoked")
    if not visitor.key.admin:
        raise RefusedError(
            403,
            "the admin API wants an admin key; make one on the machine itself: "
            "stillhouse keys create NAME --admin",
        )
    return visitor.key


def shown(key: VirtualKey) -> dict[str, Any]:
    """A key as people see it: never its token, salt or digest."""
    return {
        "key_id": key.key_id,
        "name": key.name,
        "team": key.tags.team,
        "customer": key.tags.customer,
        "feature": key.tags.feature,
        "models": list(key.models),
        "quotas": [quota.quota_id for quota in key.quotas],
        "admin": key.admin,
        "students": key.students,
        "created_us": key.created_us,
        "expires_us": key.expires_us,
        "revoked_us": key.revoked_us,
    }


def _made(content: Mapping[str, Any], now_us: int) -> tuple[VirtualKey, str]:
    unknown = content.keys() - _KNOWN
    if unknown:
        raise CallerError(
            f"{sorted(unknown)[0]!r} is unknown here; use {', '.join(sorted(_KNOWN))}"
        )
    name = _text(content, "name")
    if not name:
        raise CallerError("name is missing; say whose key it is")
    models = content.get("models")
    models = [] if models is None else models
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise CallerError("models is no list of patterns, as ['gpt-*']")
    students = content.get("students")
    if not isinstance(students, bool | None):
        raise CallerError("students is neither true nor false")
    return make_key(
        name,
        created_us=now_us,
        tags=Tags(**{field: _text(content, field) for field in _TEXT_FIELDS}),
        models=tuple(models),
        quotas=tuple(_quotas(content)),
        students=students is not False,
    )


def _text(content: Mapping[str, Any], field: str) -> str:
    value = content.get(field)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise CallerError(f"{field} is no printable text of up to {_LONGEST} characters")
    return value


def _quotas(content: Mapping[str, Any]) -> Iterable[Quota]:
    amount, per = content.get("budget_usd"), content.get("per")
    if per is not None and per not in WINDOWS:
        raise CallerError(f"per is none of {', '.join(WINDOWS)}")
    if amount is None:
        return
    if not isinstance(amount, str) or not re.fullmatch(AMOUNT, amount):
        raise CallerError('budget_usd is no amount below $1,000,000 as text, such as "12.50"')
    yield Quota(Scope.KEY, "*", Unit.COST, Window(per or "month"), int(Decimal(amount) * PICO))
