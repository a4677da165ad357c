from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.money import PICO
from stillhouse.core.quotas import Draw, Quota, Scope, Standing, Unit, VirtualKey, Window
from stillhouse.core.traffic import Tags
from stillhouse.gateway.admin import GROUPINGS, Admin
from stillhouse.gateway.door import Door
from stillhouse.gateway.http import Answer, Question, RefusedError
from stillhouse.gateway.keys import KeyRing, make_key
from stillhouse.store.access import Access

ADMIN, ADMIN_TOKEN = make_key("admin", 0, admin=True)
PLAIN, PLAIN_TOKEN = make_key("plain", 0, tags=Tags(team="red"))


class House:
    """The admin API in front of a real store of keys."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.ring = KeyRing([ADMIN, PLAIN])
        self.now_us = 1_000_000
        door = Door(self.ring, lambda: self.now_us, lambda: not len(self.ring))
        self.admin = Admin(access, self._spend, door, lambda: self.now_us)

    @property
    def kept(self) -> tuple[VirtualKey, ...]:
        return self.access.keys()

    def _spend(self, by: str) -> Iterator[Mapping[str, Any]]:
        if by == "day":
            raise StoreError("the books are away")
        yield {by: "m", "attempts": 3, "computed_usd": "0.5"}

    def ask(
        self, handler: str, body: object = None, *, query: bytes = b"", rest: str = "",
        token: str = ADMIN_TOKEN,
    ) -> Answer:  # fmt: skip
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        content = b"" if body is None else json.dumps(body).encode()
        question = Question("POST", "/", query, headers, content, "127.0.0.1", rest)
        return asyncio.run(self._ask(handler, question))

    async def _ask(self, handler: str, question: Question) -> Answer:
        answer = await getattr(self.admin, handler)(question)
        assert isinstance(answer, Answer)
        return answer


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with Access(tmp_path / "books.db.access") as access:
        access.add_key(ADMIN)
        access.add_key(PLAIN)
        yield House(access)


HANDLERS = ["keys", "create", "revoke", "budgets", "spend"]


@pytest.mark.parametrize("handler", HANDLERS)
def test_it_is_closed_to_all_but_admin_keys(house: House, handler: str) -> None:
    for token, status in ((PLAIN_TOKEN, 403), ("", 401), ("sh-no-one", 401), ("sk-x", 401)):
        with pytest.raises(RefusedError) as caught:
            house.ask(handler, {"name": "x"}, rest=PLAIN.key_id, token=token)
        assert caught.value.status == status
        assert token == "" or token not in str(caught.value)
    assert len(house.access.keys()) == 2


@pytest.mark.parametrize("handler", HANDLERS)
def test_it_is_closed_on_an_endpoint_that_is_open_for_want_of_keys(
    house: House, handler: str
) -> None:
    house.ring.replace([])
    with pytest.raises(RefusedError) as caught:
        house.ask(handler, {"name": "x"}, rest=PLAIN.key_id, token="")
    assert caught.value.status == 403
    assert "keys create NAME --admin" in str(caught.value)


def test_a_key_is_made_and_its_token_shown_once(house: House) -> None:
    made = {
        "name": "rosa",
        "team": "blue",
        "feature": "chat",
        "models": ["gpt-*"],
        "budget_usd": "12.50",
        "per": "day",
        "students": False,
    }
    answer = house.ask("create", made)
    said = json.loads(answer.body)
    assert answer.status == 201
    kept = next(key for key in house.kept if key.name == "rosa")
    assert kept.tags == Tags(team="blue", feature="chat")
    assert kept.models == ("gpt-*",)
    assert kept.created_us == house.now_us
    assert not kept.students
    assert said["students"] is False
    assert not kept.admin, "an admin key is made on the machine itself"
    assert kept.quotas == (Quota(Scope.KEY, "*", Unit.COST, Window.DAY, 12 * PICO + PICO // 2),)
    checked = KeyRing(house.access.keys()).check(said["token"], house.now_us)
    assert checked is not None
    assert checked.key_id == said["key_id"]
    listed = house.ask("keys")
    assert said["token"] not in listed.body.decode()


def test_what_is_shown_of_keys_holds_no_secret(house: House) -> None:
    shown = house.ask("keys").body.decode()
    for key, token in ((ADMIN, ADMIN_TOKEN), (PLAIN, PLAIN_TOKEN)):
        assert key.key_id in shown
        for secret in (token, token.rpartition("-")[2], key.salt.hex(), key.digest.hex()):
            assert secret not in shown
        assert str(key.salt) not in repr(key)
        assert str(key.digest) not in repr(key)
    assert {key["name"] for key in json.loads(shown)["keys"]} == {"admin", "plain"}


def test_a_revoked_key_is_worthless_and_stays_listed(house: House) -> None:
    said = json.loads(house.ask("revoke", rest=PLAIN.key_id).body)
    assert said == {"key_id": PLAIN.key_id, "revoked": True}
    ring = KeyRing(house.access.keys())
    assert ring.check(PLAIN_TOKEN, house.now_us) is None
    assert ring.check(ADMIN_TOKEN, house.now_us) is not None
    listed = json.loads(house.ask("keys").body)["keys"]
    assert {key["name"]: key["revoked_us"] for key in listed} == {
        "admin": None,
        "plain": house.now_us,
    }


@pytest.mark.parametrize("key_id", ["", "nobody", "../keys", "' or 1=1 --", "\x00"])
def test_a_key_that_is_not_there_cannot_be_revoked(house: House, key_id: str) -> None:
    with pytest.raises(RefusedError) as caught:
        house.ask("revoke", rest=key_id)
    assert caught.value.status == 404
    assert all(key.revoked_us is None for key in house.kept)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": 7},
        {"name": "x" * 129},
        {"name": "two\nlines"},
        {"name": "x", "admin": True},
        {"name": "x", "quotas": []},
        {"name": "x", "models": "gpt-*"},
        {"name": "x", "students": "no"},
        {"name": "x", "models": [7]},
        {"name": "x", "models": ["re:("]},
        {"name": "x", "team": ["red"]},
        {"name": "x", "budget_usd": 12.5},
        {"name": "x", "budget_usd": "-1"},
        {"name": "x", "budget_usd": "1e9"},
        {"name": "x", "budget_usd": "٣"},
        {"name": "x", "budget_usd": "99999999999"},
        {"name": "x", "budget_usd": "1", "per": "minute"},
        {"name": "x", "budget_usd": "1", "per": "fortnight"},
        {"name": "x", "per": ["day"]},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_and_nothing_made(
    house: House, body: dict[str, object]
) -> None:
    with pytest.raises(CallerError):
        house.ask("create", body)
    assert len(house.access.keys()) == 2


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["name", "team", "customer", "feature", "models", "budget_usd", "per", "students"]
)


@given(st.dictionaries(FIELDS, ODD, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_is_wished_is_a_key_or_the_callers_fault(
    house: House, body: dict[str, object]
) -> None:
    before = len(house.access.keys())
    try:
        answer = house.ask("create", body)
    except CallerError:
        assert len(house.access.keys()) == before
    else:
        assert answer.status == 201
        assert len(house.access.keys()) == before + 1


def test_budgets_say_what_is_left(house: House) -> None:
    def rule(draw: Any, before: Standing, now: int) -> Standing:
        return before._replace(limit=draw.limit, leased=40, mine=40, spent=60)

    house.access.draw("w1", 1, 5, [Draw("key:k1:cost:day:hard@0", 1000, asked=40)], rule)
    (row,) = json.loads(house.ask("budgets").body)["budgets"]
    assert row["counter"] == "key:k1:cost:day:hard@0"
    assert (row["limit"], row["spent"], row["leased"], row["remaining"]) == (1000, 60, 40, 900)


def test_spend_is_grouped_as_asked(house: House) -> None:
    assert json.loads(house.ask("spend").body)["by"] == "model"
    said = json.loads(house.ask("spend", query=b"by=team").body)
    assert said == {
        "by": "team",
        "rows": [{"team": "m", "attempts": 3, "computed_usd": "0.5"}],
    }
    assert "team" in GROUPINGS


@pytest.mark.parametrize("by", [b"by=", b"by=name;drop", b"by=%00", b"by=" + b"x" * 500])
def test_a_grouping_that_is_not_known_is_the_callers_fault(house: House, by: bytes) -> None:
    with pytest.raises(CallerError) as caught:
        house.ask("spend", query=by)
    assert len(str(caught.value)) < 300


def test_books_that_are_away_are_said_to_be(house: House) -> None:
    with pytest.raises(StoreError):
        house.ask("spend", query=b"by=day")
