"""Reading the books as they stand, attempt by attempt, for the one who checks them."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from stillhouse.core.books import Charge
from stillhouse.core.money import Paid
from stillhouse.core.traffic import LEAVES, Attempt
from stillhouse.store.connection import Database
from stillhouse.store.reading import ATTEMPT_COLUMNS, Recall


class Booked(NamedTuple):
    """An attempt with all of its charges, reversals included, in the order of their booking.

    `fate` is empty for an imported attempt, of which the rest is not known either. `price_id` names
    the price that it was charged by. `avoided_pico` is None where nothing was saved.
    """

    attempt: Attempt
    charges: tuple[Charge, ...]
    wire: str
    fate: str
    status: int
    price_id: str
    usage_body: str
    avoided_pico: int | None


_FACTS = "o.wire, o.fate, o.status, f.price_id, f.usage_body, s.avoided_pico"
_CHARGE = "c.account, c.quantity, c.billed_pico, c.charge_id, c.reverses"
_N_ATTEMPT = 8 + len(LEAVES)


class Auditing:
    """The checking side of the books."""

    _database: Database

    def booked(self) -> Iterator[Booked]:
        """Every attempt, in the order of booking: streamed, so memory stays flat."""
        recall = Recall(self._database)
        rows = self._database.rows(
            f"SELECT {ATTEMPT_COLUMNS}, lower(hex(e.exchange_id)), {_FACTS}, {_CHARGE} "
            "FROM attempts a JOIN exchanges e ON e.id = a.exchange "
            "LEFT JOIN attempt_facts f ON f.attempt = a.id "
            "LEFT JOIN outcomes o ON o.id = f.outcome "
            "LEFT JOIN savings s ON s.attempt = a.id LEFT JOIN charges c ON c.attempt = a.id "
            "ORDER BY a.id, c.place"
        )
        for _, of_one in groupby(rows, key=itemgetter(0)):
            yield _booked(recall, list(of_one))

    def price_facts(self, price_id: str) -> str:
        """The facts, as JSON, of a price that some charge names; empty where they are not kept."""
        for (facts,) in self._database.rows(
            "SELECT facts FROM prices WHERE price_id = ?", price_id
        ):
            return str(facts)
        return ""

    def n_attempts(self) -> int:
        """How many attempts are in the books."""
        return sum(n for (n,) in self._database.rows("SELECT count(*) FROM attempts"))

    def strays(self) -> Iterator[tuple[str, str]]:
        """What hangs on nothing, or stands twice: the row and what is wrong with it."""
        for (attempt,) in self._database.rows(
            "SELECT DISTINCT attempt FROM charges WHERE NOT EXISTS "
            "(SELECT 1 FROM attempts WHERE attempts.id = charges.attempt)"
        ):
            yield f"row {attempt} of attempts", "has charges, and does not exist"
        for (exchange,) in self._database.rows(
            "SELECT lower(hex(e.exchange_id)) FROM exchanges e JOIN "
            "(SELECT exchange FROM attempts WHERE attempt_id IS NULL GROUP BY exchange "
            "HAVING count(*) > 1) doubled ON doubled.exchange = e.id"
        ):
            yield str(exchange), "is booked twice as the first attempt of its exchange"


def _booked(recall: Recall, rows: list[tuple[Any, ...]]) -> Booked:
    first = rows[0]
    columns, (exchange_id, *facts) = first[1:_N_ATTEMPT], first[_N_ATTEMPT : _N_ATTEMPT + 7]
    wire, fate, status, price_id, usage_body, avoided = facts
    attempt = recall.attempt(exchange_id, columns)
    return Booked(
        attempt,
        tuple(
            _charge(recall, attempt.attempt_id, row[_N_ATTEMPT + 7 :])
            for row in rows
            if row[_N_ATTEMPT + 7] is not None
        ),
        wire or "",
        fate or "",
        status or 0,
        price_id or "",
        usage_body or "",
        avoided,
    )


def _charge(recall: Recall, attempt_id: str, columns: tuple[Any, ...]) -> Charge:
    account, quantity, pico, charge_id, reverses = columns
    fields = recall.account(account)
    return Charge(
        charge_id=charge_id or f"{attempt_id}:{fields['leaf']}",
        attempt_id=attempt_id,
        leaf=fields["leaf"],
        quantity=quantity,
        unit=fields["unit"],
        billed=None if pico is None else Paid(pico, fields["currency"]),
        cost_source=fields["cost_source"],
        evidence=fields["evidence"],
        price_id=fields["price_id"],
        reverses=reverses or "",
    )
