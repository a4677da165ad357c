from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stillhouse import wiring
from stillhouse.core.learning import (
    AnswerShape,
    Certificate,
    Refusal,
    RefusalReason,
    Target,
)
from stillhouse.core.quotas import VirtualKey
from stillhouse.core.serving import Charter, Evidence
from stillhouse.wiring.books import access_of

Run = Callable[..., Any]

CHARTER = Charter(
    task="intent",
    version=1,
    student="d1",
    recipe="lexical",
    shape=AnswerShape.LABELS,
    answers={"a": "A"},
    levels=(0.95, 0.9),
    planned_rows=500,
    target=Target(),
    delta=0.05 * 6 / 9.8696,
    recogniser="r",
    prompts=("p",),
    asked_models=("m",),
    teachers=("t",),
)
CERTIFICATE = Certificate("d1", 0.9, 0.05, 0.95, 0.03, 1, 500, 400, 2, "gate", "rows")
REFUSAL = Refusal(RefusalReason.NO_LEVEL_QUALIFIES, "no threshold keeps the promise")


@pytest.fixture
def books(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Versions 1 and 2 certified, 3 refused, 4 still open; of `old` one without charter."""
    monkeypatch.delenv("STILLHOUSE_CONFIG", raising=False)
    place = tmp_path / "stillhouse.db"
    with wiring.open_store(str(place)) as store:
        for task, version, verdict in (
            ("intent", 1, CERTIFICATE),
            ("intent", 2, replace(CERTIFICATE, version=2, threshold=0.8)),
            ("intent", 3, REFUSAL),
            ("intent", 4, None),
            ("old", 1, CERTIFICATE),
        ):
            store.put_student(task, version, "lexical", f"{task}{version}".encode(), 1)
            if verdict is not None:
                store.add_verdict(task, version, verdict, 1)
            if task == "intent":
                store.put_charter(replace(CHARTER, version=version))
    return place


def test_the_newest_certified_version_is_promoted_and_it_is_said_what_is_now_true(
    run: Run, books: Path
) -> None:
    said = run("promote", "intent", "--why", "good enough", "--who", "ana")
    assert said.code == 0, said.err
    assert said.out == (
        "version 2 of intent is serving all of the traffic at a threshold of 0.8; version 2 "
        "answers what it is certified for, the teacher the rest\n"
    )
    with wiring.existing_store(str(books)) as store:
        (event,) = store.policy_events("intent")
        (notice,) = store.undelivered(10, 2**62)
    assert (event.event, event.who, event.why) == ("promoted", "ana", "good enough")
    assert (notice.kind, notice.task, notice.version) == ("promoted", "intent", 2)


def test_a_life_of_a_version_from_a_canary_to_its_end(run: Run, books: Path) -> None:
    canary = run("promote", "intent", "--version", "1", "--share", "0.1", "--json").json
    assert (canary["mode"], canary["share"], canary["serving"]) == ("serving", 0.1, 1)
    assert "10% of the traffic" in canary["sentence"]
    assert canary["who"], "the user of the system"
    paused = run("pause", "intent", "--json").json
    assert (paused["version"], paused["mode"], paused["serving"]) == (1, "paused", None)
    resumed = run("resume", "intent", "--json").json
    assert (resumed["serving"], resumed["share"]) == (1, 0.1)
    assert run("rollback", "intent").out == (
        "version 1 of intent is stopped; its teacher answers everything\n"
    )
    again = run("rollback", "intent")
    assert (again.code, again.out) == (2, "")
    assert "nothing of intent can be rolled back; version 1 is stopped" in again.err
    assert "is retired" in run("retire", "intent").out
    assert "retired" in run("promote", "intent", "--version", "1").err


def test_keys_are_named_and_their_ids_are_kept(run: Run, books: Path) -> None:
    with access_of(str(books)) as access:
        access.add_key(VirtualKey("k1", "ana", b"salt", b"digest"))
        access.add_key(VirtualKey("k2", "gone", b"salt", b"digest", revoked_us=1))
    done = run("promote", "intent", "--key", "ana", "--json").json
    assert (done["keys"], done["share"]) == (["k1"], 1.0)
    wrong = run("promote", "intent", "--key", "gone")
    assert (wrong.code, "there is no valid key 'gone'; there is: ana" in wrong.err) == (2, True)
    both = run("promote", "intent", "--key", "ana", "--share", "0.5")
    assert (both.code, "give one of the two" in both.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("promote", "intent", "--version", "3"), "refused and cannot be promoted: no threshold k"),
        (("promote", "intent", "--version", "4"), "has no certificate yet: it still gathers"),
        (("promote", "intent", "--version", "9"), "no version 9 of intent; there is: 1, 2, 3, 4"),
        (("promote", "old"), "has no charter: it was made before students could answer; run"),
        (("promote", "nothing"), "no student of nothing was ever made"),
        (("pause", "intent"), "nothing of intent can be paused; no student of intent was put to"),
        (("resume", "intent", "--version", "1"), "there is no version 1 of intent to resume"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    run: Run, books: Path, words: tuple[str, ...], sentence: str
) -> None:
    said = run(*words)
    assert (said.code, said.out) == (2, "")
    assert sentence in said.err
    with wiring.existing_store(str(books)) as store:
        assert list(store.policy_events()) == []
        assert store.undelivered(10, 2**62) == []


def test_the_newest_certified_is_not_one_that_has_ended(run: Run, books: Path) -> None:
    run("promote", "intent")
    run("promote", "intent", "--version", "1")
    run("retire", "intent", "--version", "2")
    assert run("promote", "intent", "--json").json["version"] == 1


def test_certificates_say_what_was_promised_and_what_was_shown(run: Run, books: Path) -> None:
    run("promote", "intent", "--why", "for a try", "--who", "ana")
    with wiring.existing_store(str(books)) as store:
        at_us = next(store.policy_events("intent")).at_us + 1
        rows = [
            Evidence(f"{n:032x}", at_us, 0.99, "a", "a" if n else "b", served=True)
            for n in range(50)
        ]
        store.keep_watch("evidence", 1, {("intent", 2): rows}, [])
    facts = run("certificates", "intent", "--json").json
    first, second, third, fourth = facts["certificates"]
    assert [one["mode"] for one in facts["certificates"]] == [None, "serving", None, None]
    assert (second["max_risk"], second["confidence"], second["calibration_rows"]) == (
        0.05,
        0.95,
        500,
    )
    assert (second["audited"], second["agreed"], second["agreement"]) == (50, 49, 0.98)
    low, high = second["agreement_interval"]
    assert low < 0.98 < high
    assert 0 < second["alarm_share"] < 1
    assert first["alarm_share"] is None
    assert third["refusal"] == REFUSAL.sentence
    assert 0.05 > first["budget_left"] > second["budget_left"] > fourth["budget_left"] > 0
    assert facts["expected_false_certificates"] == pytest.approx(4 * CHARTER.delta)
    (event,) = facts["events"]
    assert (event["event"], event["who"], event["why"]) == ("promoted", "ana", "for a try")
    shown = run("certificates", "--history").out
    for said in ("serving", "98.0", "At most 0.12 of these 4", "for a try", "ana"):
        assert said in shown, shown


def test_without_certificates_it_is_said_what_to_do(run: Run, books: Path) -> None:
    assert "stillhouse distil nothing" in run("certificates", "nothing").err
    assert run("certificates", "old").code == 2


CONFIG = """
[upstreams.openai]
[students]
promote = "auto"
shadow_budget = ["5/day"]
webhook_url = "https://hooks.example.com/T0/secret-path"
webhook_secret_env = "HOOK_SECRET"
[students.tasks.spam]
enabled = false
"""


def test_a_check_says_what_students_may_do_and_not_where_a_webhooks_path_leads(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stillhouse.toml").write_text(CONFIG, "utf-8")
    monkeypatch.delenv("STILLHOUSE_CONFIG", raising=False)
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    shown = run("check")
    assert (
        "Students: the gate promotes, 5% are audited (at most $5 per day), after an alarm a "
        "stricter threshold, once; notices go to hooks.example.com; terms of their own: spam (off)"
    ) in " ".join(shown.out.split())
    assert "HOOK_SECRET is not set" in shown.out
    facts = run("check", "--json").json["students"]
    assert (facts["enabled"], facts["auto_promote"]) == (True, True)
    assert facts["tasks"]["spam"]["enabled"] is False
    assert facts["webhook_host"] == "hooks.example.com"
    assert "secret-path" not in shown.out + str(facts)


def test_a_key_may_do_without_students(run: Run, books: Path) -> None:
    made = run("keys", "create", "careful", "--no-students", "--json").json
    assert made["students"] is False
    assert "careful (no students)" in run("keys", "list").out
