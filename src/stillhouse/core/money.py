"""Money: exact, with a currency, to a millionth of a millionth of a unit.

Paid and avoided money are different types, because a saving is a counterfactual and no
invoice lists it: adding one to the other is a bug, so it raises.

>>> Paid.of("0.10") + Paid.of("0.20")
Paid('0.3' USD)
>>> Paid.of("1") + Avoided.of("1")
Traceback (most recent call last):
    ...
TypeError: Paid + Avoided: paid and avoided money never mix; keep them in separate columns
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Self

from stillhouse.core.nouns import MappedNoun

PICO = 10**12
"""Units of the smallest amount in one unit of currency."""


def round_div(numerator: int, denominator: int) -> int:
    """Divide two integers (denominator > 0) and round half to even, exactly.

    >>> [round_div(n, 2) for n in (1, 3, 5, -1, -3)]
    [0, 2, 2, 0, -2]
    """
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


class Money(MappedNoun):
    """An exact amount: `pico` millionths of a millionth of `currency`."""

    pico: int
    currency: str = "USD"

    @classmethod
    def of(cls, amount: str | int | float | Decimal, currency: str = "USD") -> Self:
        """Read an amount in whole units; a float is read by its shortest decimal text.

        >>> Paid.of(5.1128e-06).pico
        5112800
        """
        exact = Decimal(str(amount)) if isinstance(amount, float) else Decimal(amount)
        if not exact.is_finite():
            raise ValueError(f"an amount of money must be finite, got {amount!r}")
        scaled = (exact * PICO).to_integral_value(rounding=ROUND_HALF_EVEN)
        return cls(int(scaled), currency)

    @property
    def decimal(self) -> Decimal:
        """The amount in whole units."""
        return Decimal(self.pico).scaleb(-12)

    def __float__(self) -> float:
        return self.pico / PICO

    def _check(self, other: Money, sign: str) -> None:
        if type(self) is not type(other):
            raise TypeError(
                f"{type(self).__name__} {sign} {type(other).__name__}: paid and avoided money "
                "never mix; keep them in separate columns"
            )
        if self.currency != other.currency:
            raise TypeError(
                f"{self.currency} {sign} {other.currency}: convert at a dated rate before adding"
            )

    def __add__(self, other: Money) -> Self:
        self._check(other, "+")
        return type(self)(self.pico + other.pico, self.currency)

    def __sub__(self, other: Money) -> Self:
        self._check(other, "-")
        return type(self)(self.pico - other.pico, self.currency)

    def __neg__(self) -> Self:
        return type(self)(-self.pico, self.currency)

    def times(self, numerator: int, denominator: int = 1) -> Self:
        """Multiply by an exact fraction, rounded half to even at the last place.

        >>> Paid.of("1").times(1, 3).decimal
        Decimal('0.333333333333')
        """
        return type(self)(round_div(self.pico * numerator, denominator), self.currency)

    def __bool__(self) -> bool:
        return self.pico != 0

    def __lt__(self, other: Money) -> bool:
        self._check(other, "<")
        return self.pico < other.pico

    def __le__(self, other: Money) -> bool:
        self._check(other, "<=")
        return self.pico <= other.pico

    def __repr__(self) -> str:
        text = format(self.decimal, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return f"{type(self).__name__}('{text}' {self.currency})"


class Paid(Money):
    """Money that left, or is owed to, somebody: the only kind the books hold."""


class Avoided(Money):
    """Money that a stated counterfactual would have cost; never enters the books."""
