"""Writes numbers as people read them: money of any size, shares, counts, durations."""

from __future__ import annotations

from decimal import Decimal
from math import isinf

from stillhouse.pages.report import Interval

GAP = "\u202f"
"""Narrow space that never breaks, between a number and its unit."""
MINUS = "\u2212"
ABSENT = "–"
_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}
_SMALLEST = Decimal("1e-12")
_NO_CENTS = Decimal("999.995")


def money(amount: float | None, currency: str = "USD") -> str:
    """Write an amount: whole units from 1,000 on, cents from 1 on, two figures below.

    >>> [money(x) for x in (12345.6, 12.5, 0.5, 0.0062, 0.0000051, -3, 0)]
    ['$12,346', '$12.50', '$0.50', '$0.0062', '$0.0000051', '−$3.00', '$0']
    >>> money(0.25, "CHF"), money(None)
    ('CHF\u202f0.25', '–')
    """
    if amount is None:
        return ABSENT
    exact = abs(Decimal(repr(float(amount))))
    digits = "0" if exact < _SMALLEST else f"{exact:,.{_money_decimals(exact)}f}"
    sign = MINUS if amount < 0 and digits != "0" else ""
    return f"{sign}{_symbol(currency)}{digits}"


def _money_decimals(exact: Decimal) -> int:
    """Decimals that leave two figures, or cents, or none for large amounts."""
    if exact >= _NO_CENTS:
        return 0
    return max(2, 1 - Decimal(f"{exact:.1e}").adjusted())


def _symbol(currency: str) -> str:
    return _SYMBOLS.get(currency, currency + GAP)


def share(part: float | None) -> str:
    """Write a share as a percentage with one decimal, never rounded to all or nothing.

    >>> [share(x) for x in (0.7421, 0, 1, 0.0001, 0.9999)]
    ['74.2\u202f%', '0\u202f%', '100\u202f%', 'under 0.1\u202f%', 'over 99.9\u202f%']
    """
    if part is None:
        return ABSENT
    if part in (0, 1):
        return f"{part:.0%}".replace("%", f"{GAP}%")
    if 0 < part < 0.001:
        return f"under 0.1{GAP}%"
    if 0.999 < part < 1:
        return f"over 99.9{GAP}%"
    return f"{part * 100:.1f}{GAP}%".replace("-", MINUS)


def chance(probability: float) -> str:
    """Write a chance in whole percent: draws are not surer than that.

    >>> [chance(p) for p in (0.826, 0, 1, 0.002, 0.998)]
    ['83\u202f%', '0\u202f%', '100\u202f%', 'under 1\u202f%', 'over 99\u202f%']
    """
    if 0 < probability < 0.01:
        return f"under 1{GAP}%"
    if 0.99 < probability < 1:
        return f"over 99{GAP}%"
    return f"{probability * 100:.0f}{GAP}%"


def target(part: float) -> str:
    """Write a chosen share as it was given.

    >>> target(0.05), target(0.995)
    ('5\u202f%', '99.5\u202f%')
    """
    return f"{part * 100:.4g}{GAP}%"


def interval(found: Interval) -> str:
    """Write the ends of an interval with its level.

    >>> interval(Interval(0.97, 0.962, 0.977))
    '95\u202f% interval 96.2 to 97.7\u202f%'
    """
    ends = f"{found.low * 100:.1f} to {found.high * 100:.1f}{GAP}%"
    return f"{target(found.level)} interval {ends}"


def count(number: float | None) -> str:
    """Write how many, in groups of three figures.

    >>> count(10003), count(2.5e6), count(None)
    ('10,003', '2,500,000', '–')
    """
    return ABSENT if number is None else f"{number:,.0f}".replace("-", MINUS)


def count_or_never(number: float | None) -> str:
    """Write how many it takes, where it may take for ever.

    >>> count_or_never(231000), count_or_never(float("inf")), count_or_never(None)
    ('231,000', 'never', 'never')
    """
    return "never" if number is None or isinf(number) else count(number)


def plural(number: int, noun: str) -> str:
    """Write how many of what.

    >>> plural(1, "request"), plural(2400, "request")
    ('1 request', '2,400 requests')
    """
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float | None) -> str:
    """Write a duration in the two largest units that matter.

    >>> [duration(s) for s in (0.0004, 3.21, 200, 3900)]
    ['0.4\u202fms', '3.2\u202fs', '3\u202fmin 20\u202fs', '1\u202fh 5\u202fmin']
    """
    if seconds is None:
        return ABSENT
    if seconds < 1:
        return f"{seconds * 1000:.3g}{GAP}ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}{GAP}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{GAP}min {whole % 60}{GAP}s"
    return f"{whole // 3600}{GAP}h {whole % 3600 // 60}{GAP}min"


def axis_money(amount: float, decimals: int, currency: str) -> str:
    """Write a tick of a money axis with the decimals of its step.

    >>> [axis_money(x, 0, "USD") for x in (-500, 0, 20000, 2500000)]
    ['−$500', '$0', '$20k', '$2.5M']
    >>> axis_money(0.002, 3, "USD"), axis_money(0.5, 1, "USD")
    ('$0.002', '$0.50')
    """
    size = abs(amount)
    sign = MINUS if amount < 0 else ""
    if size == 0:
        return f"{_symbol(currency)}0"
    return sign + _symbol(currency) + _scaled(size, 2 if decimals == 1 else decimals)


def axis_count(number: float, decimals: int) -> str:
    """Write a tick of an axis of counts.

    >>> axis_count(2500, 0), axis_count(12000, 0)
    ('2,500', '12k')
    """
    return _scaled(number, decimals)


def axis_share(part: float, decimals: int) -> str:
    """Write a tick of an axis of shares, where `decimals` counts those of the share.

    >>> axis_share(0.2, 1), axis_share(0.975, 3)
    ('20\u202f%', '97.5\u202f%')
    """
    return f"{part * 100:.{max(0, decimals - 2)}f}{GAP}%"


def _scaled(size: float, decimals: int) -> str:
    if size >= 1e6:
        return f"{size / 1e6:.4g}M"
    if size >= 1e4:
        return f"{size / 1e3:.4g}k"
    return f"{size:,.{decimals}f}"


def clip(long: str, limit: int) -> str:
    """Shorten long text in its middle and say how much is left out.

    >>> clip("abcdefghij" * 10, 20)
    'abcdefghij … (80 characters) … abcdefghij'
    """
    if len(long) <= limit + 30:
        return long
    head, tail = limit - limit // 2, limit // 2
    return f"{long[:head]} … ({count(len(long) - limit)} characters) … {long[-tail:]}"
