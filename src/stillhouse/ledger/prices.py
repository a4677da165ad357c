"""Prices as dated facts on two time axes: when the vendor charges one, when we learned it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import LEAVES

_MINUTE_US = 60_000_000
_DAY_MINUTES = 24 * 60

PRICED_LEAVES = frozenset((*LEAVES, "requests"))
"""What may carry a price: the leaves of Usage, and `requests` for a fee per call."""

Amounts = Mapping[str, int]
"""Leaf to price: pico-USD per million units, exact."""


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the week in the vendor's own zone, from `start_minute` up to `end_minute`.

    `weekdays` counts Monday as 1; empty means every day. A window whose end lies before its start
    runs over midnight; the weekday is that of the instant itself. Equal ends cover the whole day.

    >>> from datetime import datetime, UTC
    >>> weekend = Window("Asia/Shanghai", (6, 7))
    >>> weekend.covers(int(datetime(2026, 10, 3, 2, tzinfo=UTC).timestamp()) * 10**6)
    True
    """

    zone: str = "UTC"
    weekdays: tuple[int, ...] = ()
    start_minute: int = 0
    end_minute: int = 0

    def __post_init__(self) -> None:
        _zone(self.zone)
        if not all(1 <= day <= 7 for day in self.weekdays):
            raise CallerError(f"window weekdays are {self.weekdays}; use 1 (Monday) to 7 (Sunday)")
        if not all(0 <= m <= _DAY_MINUTES for m in (self.start_minute, self.end_minute)):
            raise CallerError(
                f"window runs from minute {self.start_minute} to {self.end_minute}; "
                "a day has minutes 0 to 1440"
            )

    def covers(self, at_us: int) -> bool:
        """Say whether an instant (microseconds UTC) lies in the window."""
        minutes = at_us // _MINUTE_US
        zone = _zone(self.zone)
        if zone is not None:
            local = datetime.fromtimestamp(minutes * 60, UTC).astimezone(zone)
            offset = local.utcoffset()
            minutes += int(offset.total_seconds()) // 60 if offset else 0
        day, minute = divmod(minutes, _DAY_MINUTES)
        if self.weekdays and (day + 3) % 7 + 1 not in self.weekdays:  # day 0 was a Thursday
            return False
        start, end = self.start_minute, self.end_minute
        if start < end:
            return start <= minute < end
        return minute >= start or minute < end


def _zone(name: str) -> ZoneInfo | None:
    """The zone of this name; None for UTC, which needs no time zone database."""
    if name == "UTC":
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CallerError(
            f"time zone {name!r} is unknown here; use a name as 'Asia/Shanghai', "
            "or install the tzdata package"
        ) from error


@dataclass(frozen=True, slots=True)
class Tier:
    """The amounts for a request whose whole input has more than `above` tokens."""

    above: int
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Price:
    """What one host charges for one model during one time: a fact that is never changed.

    `names` are the patterns (see `names.matches`) of the model names it holds for; without any, the
    model's own name. `valid_*` says when the vendor charges it, `known_*` when we learned it and
    when we learned that it was wrong: microseconds UTC, the end excluded, None for open.
    `service_tier` empty is the vendor's standard tier. `own` marks a team's own price, which wins
    over a catalogue's. `price_id` is a hash of the fact, without the time of learning it.
    """

    provider: str
    model: str
    amounts: Amounts
    names: tuple[str, ...] = ()
    tiers: tuple[Tier, ...] = ()
    valid_from_us: int | None = None
    valid_to_us: int | None = None
    known_from_us: int = 0
    known_to_us: int | None = None
    service_tier: str = ""
    batch: bool = False
    region: str = ""
    window: Window | None = None
    source_url: str = ""
    own: bool = False
    price_id: str = field(init=False)

    def __post_init__(self) -> None:
        for amounts in (self.amounts, *(tier.amounts for tier in self.tiers)):
            _check_amounts(amounts, self)
        above = [tier.above for tier in self.tiers]
        if above != sorted(set(above)) or any(a < 0 for a in above):
            raise CallerError(f"price of {self.title}: tiers {above} must rise from 0 or more")
        start, end = self.valid_from_us, self.valid_to_us
        if start is not None and end is not None and end <= start:
            raise CallerError(f"price of {self.title}: valid_to must be after valid_from")
        object.__setattr__(self, "price_id", _content_hash(self))

    @property
    def title(self) -> str:
        """The host and the model, for people."""
        return f"{self.model} at {self.provider or 'any host'}"

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names that this price holds for."""
        return self.names or (self.model,)

    def amounts_at(self, total_input_tokens: int) -> Amounts:
        """The amounts of the highest tier that the request's whole input lies above.

        A tier is a cliff: crossing it changes the price of every token of the request.
        """
        for tier in reversed(self.tiers):
            if total_input_tokens > tier.above:
                return tier.amounts
        return self.amounts

    def holds_at(self, at_us: int) -> bool:
        """Say whether the vendor charges this price at an instant."""
        if self.valid_from_us is not None and at_us < self.valid_from_us:
            return False
        if self.valid_to_us is not None and at_us >= self.valid_to_us:
            return False
        return self.window is None or self.window.covers(at_us)

    @property
    def holds_always(self) -> bool:
        """Say whether the price needs no instant to be known to hold."""
        return self.valid_from_us is None and self.valid_to_us is None and self.window is None


def _check_amounts(amounts: Amounts, price: Price) -> None:
    unknown = amounts.keys() - PRICED_LEAVES
    if unknown or not amounts:
        raise CallerError(
            f"price of {price.title} is for {sorted(unknown) or 'nothing'}; "
            f"give amounts for some of {', '.join(sorted(PRICED_LEAVES))}"
        )
    for leaf, amount in amounts.items():
        if type(amount) is not int or amount < 0:
            raise CallerError(
                f"price of {price.title} for {leaf} is {amount!r}; "
                "give whole pico-USD per million units, 0 or more"
            )


def _content_hash(price: Price) -> str:
    window = price.window
    content = (
        price.provider,
        price.model,
        price.names,
        sorted(price.amounts.items()),
        [(tier.above, sorted(tier.amounts.items())) for tier in price.tiers],
        (price.valid_from_us, price.valid_to_us),
        (price.service_tier, price.batch, price.region),
        window and (window.zone, window.weekdays, window.start_minute, window.end_minute),
        price.source_url,
        price.own,
    )
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=10).hexdigest()


def price_from_row(row: Mapping[str, object], known_from_us: int) -> Price:
    """Read a Price from a catalogue's plain row.

    Keys: `provider`, `model`, `amounts` {leaf: pico-USD per million units}; optional `names`,
    `tiers` [{"above": tokens, "amounts": {...}}], `valid_from_us`, `valid_to_us`, `known_from_us`
    (else the argument), `known_to_us`, `service_tier`, `batch`, `region`, `window` {"zone",
    "weekdays", "start_minute", "end_minute"}, `source_url`, `own`. Any other key is an error.

    >>> row = {"provider": "openai", "model": "gpt-4o", "amounts": {"input_tokens": 2500000000000}}
    >>> price_from_row(row, known_from_us=0).amounts_at(1000)
    {'input_tokens': 2500000000000}
    """
    given = {key: value for key, value in row.items() if value is not None}
    try:
        if "names" in given:
            given["names"] = tuple(cast("Sequence[str]", given["names"]))
        if "tiers" in given:
            tiers = cast("Sequence[Mapping[str, object]]", given["tiers"])
            given["tiers"] = tuple(Tier(**tier) for tier in tiers)  # type: ignore[arg-type]
        if "window" in given:
            window = dict(cast("Mapping[str, object]", given["window"]))
            window["weekdays"] = tuple(cast("Sequence[int]", window.get("weekdays") or ()))
            given["window"] = Window(**window)  # type: ignore[arg-type]
        return Price(**{"known_from_us": known_from_us, **given})  # type: ignore[arg-type]
    except TypeError as error:
        raise CallerError(
            f"price row of {row.get('model')!r} cannot be read: {error}; see price_from_row"
        ) from error
