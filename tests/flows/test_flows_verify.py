from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.money import Paid
from stillhouse.core.traffic import (
    Attempt,
    AttemptKind,
    Completion,
    Evidence,
    Exchange,
    Request,
    Tags,
    Usage,
)
from stillhouse.flows.price_facts import facts_of
from stillhouse.flows.verify import Audit, Difference, verify
from stillhouse.ledger.charging import charge, nothing_bought, reverse
from stillhouse.ledger.prices import Price, Tier, Window
from stillhouse.store.sqlite import SqliteStore

PRICE = Price("acme", "m", {"input_tokens": 3 * 10**12, "output_tokens": 5 * 10**12})
ODD_PRICE = Price(
    "acme",
    "m",
    {"input_tokens": 7, "requests": 10**15},
    names=("m*",),
    tiers=(Tier(10, {"input_tokens": 333_333_333_333, "output_tokens": 1}),),
    valid_from_us=5,
    service_tier="flex",
    window=Window("Asia/Shanghai", (6, 7), 60, 120),
    own=True,
)
BARE = Price("acme", "m", {"web_searches": 10**16})
ATTEMPT = Attempt("a1", "m", at_us=9, usage=Usage(input_tokens=1000, output_tokens=7))
BODY = '{"prompt_tokens": 1000, "completion_tokens": 7}'


class Row(NamedTuple):
    """An attempt in books that are made up."""

    attempt: Attempt
    charges: tuple[Charge, ...]
    wire: str = "chat"
    fate: str = "ok"
    status: int = 200
    price_id: str = PRICE.price_id
    usage_body: str = BODY
    avoided_pico: int | None = None


class Shelf:
    """Books that say what they are told to."""

    def __init__(self, *rows: Row, facts: dict[str, str] | None = None) -> None:
        self._rows = rows
        known = {price.price_id: facts_of(price) for price in (PRICE, ODD_PRICE, BARE)}
        self._facts = known if facts is None else facts

    def booked(self) -> Iterator[Row]:
        return iter(self._rows)

    def price_facts(self, price_id: str) -> str:
        return self._facts.get(price_id, "")

    def strays(self) -> Iterator[tuple[str, str]]:
        return iter(())


def found(*rows: Row, facts: dict[str, str] | None = None) -> list[Difference]:
    return list(verify(Shelf(*rows, facts=facts), Audit()))


def row(attempt: Attempt = ATTEMPT, price: Price | None = PRICE, **facts: Any) -> Row:
    booked = Row(attempt, charge(attempt, price), price_id=price.price_id if price else "")
    return booked._replace(**facts)


def test_books_that_hold_have_no_difference_and_are_counted() -> None:
    audit = Audit()
    assert list(verify(Shelf(row(), row()), audit)) == []
    assert (audit.attempts, audit.charges, audit.from_usage_bodies) == (2, 4, 2)


usages = st.none() | st.builds(
    Usage,
    input_tokens=st.integers(0, 10**9),
    cache_read_tokens=st.integers(0, 30),
    output_tokens=st.integers(0, 10**6),
    reasoning_tokens=st.integers(0, 3),
    web_searches=st.integers(0, 3),
)


@given(
    usage=usages,
    price=st.sampled_from([None, PRICE, ODD_PRICE, BARE]),
    evidence=st.sampled_from(Evidence),
    live=st.booleans(),
)
def test_what_the_ledger_charges_is_always_derived_again(
    usage: Usage | None, price: Price | None, evidence: Evidence, live: bool
) -> None:
    attempt = ATTEMPT._replace(usage=usage, evidence=evidence)
    booked = row(attempt, price, usage_body="")
    if not live:
        booked = booked._replace(fate="", wire="", status=0, price_id="")
    assert found(booked) == []


@given(
    usage=usages.filter(lambda u: u is not None and any(u.leaves().values())),
    price=st.sampled_from([PRICE, ODD_PRICE]),
    pico=st.integers(-3, 3).filter(bool),
    nth=st.integers(0, 99),
)
def test_a_charge_that_is_one_pico_off_is_found(
    usage: Usage, price: Price, pico: int, nth: int
) -> None:
    booked = row(ATTEMPT._replace(usage=usage), price, usage_body="")
    charges = list(booked.charges)
    priced = [n for n, c in enumerate(charges) if c.billed is not None]
    if not priced:
        return
    at = priced[nth % len(priced)]
    billed = charges[at].billed
    assert billed is not None
    charges[at] = charges[at]._replace(billed=Paid(billed.pico + pico))
    (difference,) = found(booked._replace(charges=tuple(charges)))
    assert difference.attempt_id == "a1"
    assert difference.what == "has other charges than its usage and its price give"
    assert difference.stored != difference.derived


def charged(**fields: Any) -> tuple[Charge, ...]:
    first, *others = charge(ATTEMPT, PRICE)
    return first._replace(**fields), *others


CHARGES = charge(ATTEMPT, PRICE)
REVERSED = (*CHARGES, *reverse(CHARGES))
ANEW = tuple(c._replace(charge_id=f"{c.charge_id}:anew") for c in CHARGES)
CACHED = ATTEMPT._replace(kind=AttemptKind.CACHE)
TAUGHT = ATTEMPT._replace(kind=AttemptKind.STUDENT, usage=Usage())
REFUSED = Attempt("a1", "m", at_us=9, usage=Usage(), ok=False, evidence=Evidence.DERIVED)

SOUND = {
    "reversed and booked anew": row(charges=(*REVERSED, *ANEW)),
    "taken back": row(charges=REVERSED),
    "from the cache": Row(CACHED, (), avoided_pico=5),
    "by a student": Row(TAUGHT, nothing_bought(TAUGHT), usage_body="", avoided_pico=5),
    "by a student that was cut off": Row(TAUGHT, (), fate="interrupted", status=0, usage_body=""),
    "never sent": Row(REFUSED, nothing_bought(REFUSED), fate="refused", status=0, usage_body=""),
    "a 4xx": Row(REFUSED, nothing_bought(REFUSED), fate="status", status=429, usage_body=""),
    "an import that used nothing": Row(REFUSED, (), wire="", fate="", usage_body="", price_id=""),
    "spoken in another wire": row(
        wire="messages", usage_body='{"input_tokens": 1000, "output_tokens": 7}'
    ),
    "a body that contradicts itself, estimated": row(
        ATTEMPT._replace(evidence=Evidence.ESTIMATED), usage_body='{"prompt_tokens": -1}'
    ),
    "billed by the provider": row(
        charges=charged(cost_source=CostSource.PROVIDER, billed=Paid(1)),
    ),
}
TAMPERED = {
    "a quantity": (row(charges=charged(quantity=999)), "other charges"),
    "a leaf": (row(charges=charged(leaf="reasoning_tokens")), "other charges"),
    "a grade": (row(charges=charged(evidence=Evidence.REPORTED)), "other charges"),
    "a charge is missing": (row(charges=CHARGES[:1]), "other charges"),
    "all charges are missing": (row(charges=()), "other charges"),
    "an unpriced charge": (row(charges=charge(ATTEMPT, None)[:1]), "other charges"),
    "a charge that stands twice": (row(charges=(*CHARGES, CHARGES[0])), "same charge twice"),
    "another currency": (row(charges=charged(billed=Paid(3000000000, "EUR"))), "other charges"),
    "counts": (row(usage_body='{"prompt_tokens": 1000, "completion_tokens": 8}'), "other counts"),
    "a usage object": (row(usage_body="{}"), "does not give"),
    "a usage object that is none": (row(usage_body="nonsense"), "does not give"),
    "a wire that does not exist": (row(wire="carrier pigeon"), "does not give"),
    "charges of what the cache gave": (Row(CACHED, CHARGES), "from the cache, which costs"),
    "charges of what a student gave": (Row(TAUGHT, CHARGES), "by a student, which costs"),
    "an unpriced charge of a student's": (Row(TAUGHT, charge(ATTEMPT, None)), "by a student"),
    "a saving of a call that was made": (row(avoided_pico=5), "has a saving"),
    "a price of another id": (row(charges=charged(price_id=BARE.price_id)), "other charges"),
    "a price that nobody knows": (row(charges=charged(price_id="gone")), "facts are not in"),
    "a reversal of nothing": (row(charges=(*CHARGES, *reverse(ANEW))), "does not stand"),
    "a reversal twice": (row(charges=(*REVERSED, *reverse(CHARGES))), "does not stand"),
    "a reversal of a part": (
        row(charges=(*CHARGES, reverse(CHARGES)[0]._replace(billed=Paid(-1)), *ANEW[:1])),
        "does not cancel",
    ),
    "half taken back": (row(charges=(*CHARGES, reverse(CHARGES)[0])), "other charges"),
    "a cost of what never left": (
        Row(REFUSED, charge(ATTEMPT, PRICE), fate="dns", usage_body=""),
        "other charges",
    ),
}


@pytest.mark.parametrize("booked", SOUND.values(), ids=SOUND)
def test_what_holds_is_passed(booked: Row) -> None:
    assert found(booked) == []


@pytest.mark.parametrize(("booked", "said"), TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with_is_said(booked: Row, said: str) -> None:
    differences = found(booked)
    assert differences
    assert said in differences[0].what
    assert differences[0].attempt_id == "a1"


def test_a_price_whose_facts_were_changed_is_said() -> None:
    facts = {PRICE.price_id: facts_of(PRICE).replace("3000000000000", "2000000000000")}
    (difference,) = found(row(), facts=facts)
    assert "facts are not in the books" in difference.what


def test_a_file_that_somebody_edited_is_found_out(tmp_path: Path) -> None:
    name = f"{1:032x}"
    attempt = ATTEMPT._replace(attempt_id=name)
    started = Started(name, attempt, "chat", "acme", Tags(), "k", PRICE.price_id)
    ended = Ended(name, attempt, charge(attempt, PRICE), Fate.OK, 200, usage_body=BODY)
    exchange = Exchange(name, Request(()), Completion(), (attempt,))
    with SqliteStore(tmp_path / "some.db") as store:
        facts = {PRICE.price_id: facts_of(PRICE)}
        store.add_live([(exchange, ((started, ended),))], facts, run="r", place=(0, 0))
        assert list(verify(store, Audit())) == []
        with store._database.transaction() as connection:
            connection.execute("DROP TRIGGER charges_no_update")
            connection.execute("DROP TRIGGER attempts_no_update")
            connection.execute("UPDATE charges SET billed_pico = billed_pico + 1 WHERE place = 0")
        (one,) = verify(store, Audit())
        assert one.attempt_id == name
        assert "1000 input_tokens 0.003000000001 USD" in one.stored
        assert "1000 input_tokens 0.003000000000 USD" in one.derived
        with store._database.transaction() as connection:
            connection.execute("UPDATE charges SET billed_pico = billed_pico - 1 WHERE place = 0")
            connection.execute("UPDATE attempts SET output_tokens = 8")
        assert [d.what for d in verify(store, Audit())] == [
            "has other counts than its usage object",
            "has other charges than its usage and its price give",
        ]
        list(store._database.rows("PRAGMA foreign_keys = OFF"))
        with store._database.transaction() as connection:
            connection.execute("UPDATE attempts SET output_tokens = 7")
            connection.execute(
                "INSERT INTO charges SELECT 99, place, account, quantity, billed_pico, charge_id, "
                "reverses FROM charges"
            )
        (stray,) = verify(store, Audit())
        assert (stray.attempt_id, stray.what) == (
            "row 99 of attempts",
            "has charges, and does not exist",
        )
