"""The rules of quotas: what a call draws on, for how long, and how leases are dealt out.

A counter holds `spent + leased <= limit`: a worker spends only out of its lease, and a lease is
dealt out only from what remains. So no cap is passed by what was reserved, however many workers
there are; tests/ledger/test_ledger_quotas.py lets them do their worst.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from stillhouse.core.errors import ConfigError
from stillhouse.core.money import PICO
from stillhouse.core.quotas import Draw, Quota, Scope, Standing, Unit, Window
from stillhouse.core.traffic import Tags

SECOND_US = 10**6

LARGEST_LIMIT = 2**62
"""Counters are 64-bit numbers, and a sum of two has to fit: 4.6 million dollars in money."""

PERCENTS = (100, 80)
"""Shares of a soft limit that are worth an alert, the greater ones first."""

SHARE_OF_REST = 8
"""A lease beyond the need takes at most this part of what remains, so leases shrink with it."""

RECALL_US = 2 * SECOND_US
"""How long after a recall leases are dealt out to the need alone."""

_PERIODS = {Window.MINUTE: 60, Window.HOUR: 3600, Window.DAY: 86400}
_MONDAY = 4 * 86400  # 1970 began on a Thursday


class Span(NamedTuple):
    """A window in time: microseconds UTC, the end excluded; None where it never ends."""

    starts_us: int
    ends_us: int | None


def span(window: Window, at_us: int) -> Span:
    """The window around an instant, by the calendar in UTC.

    >>> noon = 1_793_275_200 * 10**6  # Thursday, 29 October 2026
    >>> [(span(w, noon).starts_us - noon) // 10**6 for w in (Window.DAY, Window.WEEK)]
    [-43200, -302400]
    """
    if window in (Window.TOTAL, Window.NOW):
        return Span(0, None)
    second = at_us // SECOND_US
    if window is Window.MONTH:
        day = datetime.fromtimestamp(second, UTC).replace(hour=0, minute=0, second=0)
        first = day.replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
        return Span(int(first.timestamp()) * SECOND_US, int(following.timestamp()) * SECOND_US)
    if window is Window.WEEK:
        start, length = second - (second - _MONDAY) % (7 * 86400), 7 * 86400
    else:
        length = _PERIODS[window]
        start = second - second % length
    return Span(start * SECOND_US, (start + length) * SECOND_US)


class Claim(NamedTuple):
    """A quota that a call draws on, with the name of its counter less the window's start."""

    quota: Quota
    base: str


def claims(
    everybodys: Iterable[Quota],
    keys_own: Iterable[Quota],
    key_id: str,
    tags: Tags,
    model: str,
) -> tuple[Claim, ...]:
    """The quotas that a call draws on: those of everybody, and those of its key.

    A quota of everybody counts all use under its name; one that stands on a key counts that key's
    use alone, and where it names no other name holds for every name. Calls that name nobody count
    together as one, so that leaving a name out is no way around a quota for each (`*`); nor is
    writing a model in other letters.

    >>> each = Quota(Scope.CUSTOMER, "*", Unit.COST, Window.DAY, 10**12)
    >>> [c.base for c in claims([each], [], "k1", Tags(customer="acme"), "gpt-5")]
    ['customer:acme:cost:day:hard']
    """
    names = {
        Scope.KEY: key_id,
        Scope.TEAM: tags.team,
        Scope.CUSTOMER: tags.customer,
        Scope.FEATURE: tags.feature,
        Scope.MODEL: model.lower(),
        Scope.EVERYBODY: "",
    }
    found: dict[str, Claim] = {}
    for own, quotas in ((False, everybodys), (True, keys_own)):
        for quota in quotas:
            name = names[quota.scope]
            alone = quota.scope is Scope.EVERYBODY or (own and quota.scope is Scope.KEY)
            wanted = quota.name.lower() if quota.scope is Scope.MODEL else quota.name
            if not (alone or wanted in {"*", name}):
                continue
            base = _base(quota, name, f"{key_id}/" if own else "")
            other = found.get(base)
            if other is None or quota.limit < other.quota.limit:
                found[base] = Claim(quota, base)
    return tuple(found.values())


def _base(quota: Quota, name: str, owner: str) -> str:
    kind = "soft" if quota.soft else "hard"
    return f"{owner}{quota.scope}:{name}:{quota.unit}:{quota.window}:{kind}"


def counter(base: str, window: Span) -> str:
    """The name of a counter: what it counts, and the second in which its window starts."""
    return f"{base}@{window.starts_us // SECOND_US}"


def used_of(counter: str, cost_pico: int, tokens: int) -> int:
    """How much a call that cost this much uses up of a counter; concurrent calls give all back.

    >>> used_of("team:red:tokens:day:hard@1793275200", cost_pico=5, tokens=42)
    42
    """
    unit = counter.rsplit("@", 1)[0].rsplit(":", 3)[1]
    return {Unit.COST: cost_pico, Unit.TOKENS: tokens, Unit.REQUESTS: 1}.get(Unit(unit), 0)


def check(quota: Quota) -> None:
    """Refuse a quota that cannot hold: ConfigError says which and what to do."""
    if not 0 <= quota.limit <= LARGEST_LIMIT:
        raise ConfigError(
            f"the limit of quota {quota.quota_id} is {quota.limit}; give a number from 0 to "
            f"{LARGEST_LIMIT} (in money {LARGEST_LIMIT // PICO:,} dollars), or leave the quota out"
        )
    if (quota.unit is Unit.CONCURRENT) != (quota.window is Window.NOW):
        raise ConfigError(
            f"quota {quota.quota_id} counts {quota.unit} per {quota.window}; concurrent calls are "
            "counted `now`, everything else in a calendar window"
        )


def grant(draw: Draw, remaining: int, recalled: bool) -> int:
    """How much to lease: the need first, and more of plenty than of a small rest.

    Nothing where not even the most modest need can be met, since a part of it would only lie idle.
    After a recall there is no more than the need.

    >>> wish = Draw("c", 1000, asked=5, least=5, usual=100)
    >>> [grant(wish, rest, recalled=False) for rest in (900, 400, 40, 8, 4)]
    [100, 50, 5, 5, 0]
    """
    if draw.asked <= 0 or remaining < draw.least:
        return 0
    spare = 0 if recalled else min(draw.usual, remaining // SHARE_OF_REST)
    return min(max(draw.asked, spare), remaining)


def drawn(draw: Draw, before: Standing, at_us: int) -> Standing:
    """How a counter stands after a draw; the worker's lease never falls below nothing.

    Use beyond the lease was not covered by any reservation: it is counted all the same, and
    `over` says how much of the spending was so.
    """
    mine = max(0, before.mine - draw.used - draw.returned)
    spent = before.spent + draw.used
    leased = before.leased - before.mine + mine
    remaining = draw.limit - spent - leased
    recalled_us = before.recalled_us
    more = grant(draw, remaining, at_us - recalled_us < RECALL_US)
    if draw.asked > 0 and more == 0 and leased > mine:
        recalled_us = at_us
    alerted = reached(spent, draw.limit, before.alerted) if draw.soft else before.alerted
    return Standing(
        draw.limit,
        spent,
        leased + more,
        before.over + draw.over,
        alerted,
        recalled_us,
        mine + more,
        alerted if alerted > before.alerted else 0,
    )


def reached(spent: int, limit: int, alerted: int) -> int:
    """The greatest share in PERCENTS that spending has reached, or what was alerted before.

    >>> [reached(spent, 100, 0) for spent in (79, 80, 99, 250)], reached(10, 100, 80)
    ([0, 80, 80, 100], 80)
    """
    for percent in PERCENTS:
        if spent > 0 and 100 * spent >= percent * limit:
            return max(percent, alerted)
    return alerted


def retry_after_seconds(window: Span, at_us: int, *, in_use: bool) -> float | None:
    """When asking again may help: soon while others' calls may give back, else in a new window."""
    if in_use:
        return 1.0
    if window.ends_us is None:
        return None
    return max(1.0, (window.ends_us - at_us) / SECOND_US)


_LIMITED = {
    Unit.COST: "cost",
    Unit.REQUESTS: "requests",
    Unit.TOKENS: "tokens",
    Unit.CONCURRENT: "concurrent calls",
}
_DURING = {
    Window.MINUTE: " this minute",
    Window.HOUR: " this hour",
    Window.DAY: " today",
    Window.WEEK: " this week",
    Window.MONTH: " this month",
    Window.TOTAL: "",
    Window.NOW: " at once",
}


def refusal(claim: Claim, standing: Standing, amount: int) -> str:
    """Say in one sentence which quota is in the way, how it stands, and what to do.

    >>> quota = Quota(Scope.TEAM, "red", Unit.REQUESTS, Window.MINUTE, 10)
    >>> refusal(Claim(quota, ""), Standing(10, spent=8, leased=2), 1)
    "the quota of 10 requests this minute for team 'red' has 0 left (8 used, 2 reserved) and this \
call needs 1; ask again later or raise the quota"

    What can never fit is told so.

    >>> refusal(Claim(Quota(Scope.TEAM, "red", Unit.TOKENS, Window.DAY, 10), ""), Standing(10), 12)
    "the quota of 10 tokens today for team 'red' is smaller than this call alone, which needs up \
to 12; ask for less or raise the quota"
    """
    quota = claim.quota
    shown = _money if quota.unit is Unit.COST else str
    limit = shown(quota.limit) + ("" if quota.unit is Unit.COST else f" {_LIMITED[quota.unit]}")
    name = claim.base.rsplit(":", 3)[0].partition(":")[2] if claim.base else quota.name
    whom = "everybody" if quota.scope is Scope.EVERYBODY else f"{quota.scope} '{name}'"
    need = f"up to {shown(amount)}" if quota.unit in (Unit.COST, Unit.TOKENS) else str(amount)
    named = f"the quota of {limit}{_DURING[quota.window]} for {whom}"
    if amount > quota.limit:
        return (
            f"{named} is smaller than this call alone, which needs {need}; ask for less or raise "
            "the quota"
        )
    return (
        f"{named} has "
        f"{shown(max(0, standing.remaining))} left ({shown(standing.spent)} used, "
        f"{shown(standing.leased)} reserved) and this call needs {need}; ask again later or raise "
        "the quota"
    )


def _money(pico: int) -> str:
    return f"${pico / PICO:.6f}".rstrip("0").rstrip(".")
