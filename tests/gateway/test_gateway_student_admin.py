from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse import wiring
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import AnswerShape, Certificate, Refusal, RefusalReason, Target
from stillhouse.core.serving import Charter, Terms
from stillhouse.gateway.door import Door
from stillhouse.gateway.http import Answer, Question, RefusedError
from stillhouse.gateway.keys import KeyRing, make_key
from stillhouse.gateway.student_admin import VERBS, StudentAdmin
from stillhouse.wiring.books import student_books

ADMIN, ADMIN_TOKEN = make_key("boss", 0, admin=True)
PLAIN, PLAIN_TOKEN = make_key("plain", 0)
NONE: tuple[str, ...] = ()
CHARTER = Charter(
    "in/tent", 1, "d", "lexical", AnswerShape.LABELS, {"a": "A"}, (0.9,), 500, Target(), 0.03, "r",
    NONE, NONE, NONE,
)  # fmt: skip
CERTIFICATE = Certificate("d", 0.9, 0.05, 0.95, 0.03, 1, 500, 400, 2, "gate", "rows")


class House:
    """The admin API of students in front of a real database."""

    def __init__(self, database: Path) -> None:
        self.database = database
        door = Door(KeyRing([ADMIN, PLAIN]), lambda: 1, lambda: False)
        books = lambda: student_books(str(database))  # noqa: E731
        self.admin = StudentAdmin(books, lambda task: Terms(), door, lambda: 10**12)

    def ask(
        self,
        verb: str = "",
        body: object = None,
        *,
        task: str = "in/tent",
        token: str = ADMIN_TOKEN,
    ) -> dict[str, Any]:
        """List, or do what a verb says."""
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        content = b"" if body is None else json.dumps(body).encode()
        rest = f"{task}/{verb}"
        question = Question("POST", "/", b"", headers, content, "127.0.0.1", rest)

        async def ask() -> Answer:
            return await (self.admin.steer(question) if verb else self.admin.listing(question))

        answer: dict[str, Any] = json.loads(asyncio.run(ask()).body)
        return answer

    def refused(self, verb: str, body: object = None, **how: str) -> tuple[int, str]:
        """The status and the sentence of a refusal."""
        with pytest.raises(RefusedError) as caught:
            self.ask(verb, body, **how)
        return caught.value.status, str(caught.value)


@pytest.fixture
def house(tmp_path: Path) -> House:
    place = tmp_path / "books.db"
    with wiring.open_store(str(place)) as store:
        refusal = Refusal(RefusalReason.NO_LEVEL_QUALIFIES, "no threshold keeps the promise")
        for version, verdict in ((1, CERTIFICATE), (2, refusal)):
            store.put_student("in/tent", version, "lexical", b"%d" % version, 1)
            store.add_verdict("in/tent", version, verdict, 1)
            store.put_charter(replace(CHARTER, version=version))
    return House(place)


def test_it_is_closed_to_all_but_admin_keys(house: House) -> None:
    for verb in ("", *VERBS):
        assert house.refused(verb, token=PLAIN_TOKEN)[0] == 403
        assert house.refused(verb, token="")[0] == 401
    assert house.ask()["students"][0]["mode"] is None


def test_a_student_is_promoted_steered_and_listed(house: House) -> None:
    done = house.ask("promote", {"share": 0.25, "why": "a canary", "version": 1})
    assert (done["mode"], done["share"], done["serving"]) == ("serving", 0.25, 1)
    assert (done["who"], done["why"]) == ("key boss", "a canary")
    first, second = house.ask()["students"]
    assert (first["task"], first["mode"], first["threshold"]) == ("in/tent", "serving", 0.9)
    assert (first["max_risk"], first["confidence"], first["calibration_rows"]) == (0.05, 0.95, 500)
    assert second["refusal"] == "no threshold keeps the promise"
    assert [house.ask(verb)["mode"] for verb in ("pause", "resume", "rollback", "retire")] == [
        "paused",
        "serving",
        "stopped",
        "retired",
    ]
    with wiring.existing_store(str(house.database)) as store:
        assert [one.who for one in store.policy_events()] == ["key boss"] * 5


def test_what_cannot_be_done_now_is_a_conflict_with_its_reason(house: House) -> None:
    assert house.refused("pause")[0] == 409
    status, why = house.refused("promote", {"version": 2})
    assert (status, "no threshold keeps the promise" in why) == (409, True)


def test_tasks_and_verbs_that_are_not_there_are_not_found(house: House, tmp_path: Path) -> None:
    assert house.refused("promote", task="nothing")[0] == 404
    assert house.refused("explode")[0] == 404
    assert house.refused("promote", task="")[0] == 404
    empty = House(tmp_path / "none.db")
    assert empty.ask() == {"students": [], "expected_false_certificates": 0}
    assert empty.refused("promote")[0] == 404
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("promote", {"share": 0}),
        ("promote", {"share": 1.5}),
        ("promote", {"share": True}),
        ("promote", {"keys": "k1"}),
        ("promote", {"keys": []}),
        ("promote", {"keys": ["two words"]}),
        ("promote", {"keys": ["k1"], "share": 0.5}),
        ("promote", {"version": 0}),
        ("promote", {"version": "1"}),
        ("promote", {"threshold": 0.1}),
        ("promote", {"who": "somebody else"}),
        ("pause", {"share": 0.5}),
        ("pause", {"why": "two\nlines"}),
        ("retire", {"why": "x" * 501}),
        ("retire", []),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_and_changes_nothing(
    house: House, verb: str, body: object
) -> None:
    with pytest.raises(CallerError):
        house.ask(verb, body)
    with wiring.existing_store(str(house.database)) as store:
        assert list(store.policy_events()) == []


ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.text(max_size=3), max_size=2)
)


@given(
    st.sampled_from(VERBS),
    st.dictionaries(st.sampled_from(["version", "why", "share", "keys", "x"]), ODD, max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_whatever_is_wished_is_done_or_the_callers_fault(
    house: House, verb: str, body: dict[str, object]
) -> None:
    try:
        done = house.ask(verb, body)
    except CallerError:
        return
    assert done["task"] == "in/tent"
