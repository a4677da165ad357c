"""`[[budgets]]`: who may use how much, in which window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillhouse.core.quotas import Quota, Scope, Unit, Window
from stillhouse.settings.complaints import At, Complaints, shown
from stillhouse.settings.tables import BUDGET, read_table

_SCOPES = (Scope.KEY, Scope.TEAM, Scope.CUSTOMER, Scope.FEATURE, Scope.MODEL)
_LIMITS = (
    ("usd", Unit.COST, False),
    ("soft_usd", Unit.COST, True),
    ("requests", Unit.REQUESTS, False),
    ("tokens", Unit.TOKENS, False),
    ("concurrent", Unit.CONCURRENT, False),
)


_LIMIT_KEYS = dict.fromkeys(key for key, _, _ in _LIMITS)


def read_budgets(content: object, complaints: Complaints) -> tuple[Quota, ...]:
    """All quotas of a file; what is wrong becomes a complaint."""
    if not isinstance(content, list):
        complaints.say(
            ("budgets",), f"is {shown(content)}; write each budget under a line [[budgets]]"
        )
        return ()
    found: dict[str, Quota] = {}
    for number, table in enumerate(content):
        at = ("budgets", number)
        read = read_table(table, BUDGET, at, complaints)
        if not isinstance(table, dict):
            continue
        if not table.keys() & _LIMIT_KEYS:
            complaints.say(at, f"has no limit; give it one of {', '.join(_LIMIT_KEYS)}")
        for quota in _quotas(read, "per" in table, at, complaints):
            if quota.quota_id in found:
                complaints.say(at, "caps once more what a budget above caps; keep one of the two")
            found[quota.quota_id] = quota
    return tuple(found.values())


def _quotas(
    table: dict[str, Any], window_said: bool, at: At, complaints: Complaints
) -> Iterator[Quota]:
    scopes = [scope for scope in _SCOPES if scope.value in table]
    if len(scopes) > 1:
        complaints.say(
            at, f"names {' and '.join(scopes)}; a budget caps one of them, write one for each"
        )
        return
    scope = scopes[0] if scopes else Scope.EVERYBODY
    name = table[scope.value] if scopes else "*"
    limits = [(key, unit, soft) for key, unit, soft in _LIMITS if key in table]
    window: Window | None = table.get("per")
    for key, unit, soft in limits:
        now = unit is Unit.CONCURRENT
        if not now and window is None:
            if not window_said:
                complaints.say(at, f'has {key} in no window; say per = "month", say')
            continue
        yield Quota(
            scope, name, unit, Window.NOW if now or window is None else window, table[key], soft
        )
    if "usd" in table and "soft_usd" in table and table["soft_usd"] > table["usd"]:
        complaints.say((*at, "soft_usd"), "lies above usd: the alert would come after the stop")
