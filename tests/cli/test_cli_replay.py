"""`replay` with a watch on the student, and with drift put in for it to find."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse import wiring
from stillhouse.core.learning import AnswerShape, Certificate, Row, Target, TrainSet
from stillhouse.core.serving import Charter
from stillhouse.distillation.dataset import rehearsal_split
from stillhouse.routing.contract import learnt_range
from stillhouse.students.lexical import LexicalRecipe

Run = Callable[..., Any]

QUEUES = "Route the ticket to one queue: billing, shipping or technical."
WORDS = {
    "billing": ("invoice", "refund", "charge", "card"),
    "shipping": ("parcel", "courier", "address", "late"),
    "technical": ("login", "password", "crash", "screen"),
}
N = 400


def tickets(n: int) -> list[tuple[str, str]]:
    """Texts and their queues, which any student can tell apart."""
    draw = random.Random(5)
    queues = [draw.choice(sorted(WORDS)) for _ in range(n)]
    return [(f"my {' '.join(draw.choices(WORDS[one], k=4))} case {k}", one)
            for k, one in enumerate(queues)]  # fmt: skip


@pytest.fixture
def books(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Recorded tickets, and a certified student that was made from none of them."""
    monkeypatch.delenv("STILLHOUSE_CONFIG", raising=False)
    rows = [
        {"created_at": 1_780_000_000 + 60 * k, "system": QUEUES, "prompt": text, "answer": queue,
         "model": "gpt-4o-mini", "task": "desk"}
        for k, (text, queue) in enumerate(tickets(N))
    ]  # fmt: skip
    (tmp_path / "calls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert run("import", "calls.jsonl", "--set", "task=desk").code == 0
    assert [task["name"] for task in run("tasks", "--json").json["tasks"]] == ["desk"]
    learnt = [Row(f"l{k}", text, one, k, k) for k, (text, one) in enumerate(tickets(300)[::-1])]
    train, labels = TrainSet(tuple(learnt)), tuple(sorted(WORDS))
    recipe = LexicalRecipe()
    known, apart = rehearsal_split(train)
    artefact = recipe.fit(train, labels, 0, recipe.rehearse(known, apart, labels, 0, {}), {})
    charter = Charter(
        task="desk", version=1, student="", recipe="lexical", shape=AnswerShape.LABELS,
        answers={one: one for one in labels}, levels=(0.9, 0.5), planned_rows=300,
        target=Target(), delta=0.03, recogniser="r", prompts=("p",), asked_models=("gpt-4o-mini",),
        teachers=("gpt-4o-mini",), inputs=learnt_range([row.text for row in learnt]),
        words=tuple({word for row in learnt for word in row.text.split()}),
    )  # fmt: skip
    with wiring.existing_store("stillhouse.db") as store:
        digest = store.put_student("desk", 1, "lexical", artefact.to_bytes(), 1)
        proof = Certificate(digest, 0.5, 0.05, 0.95, 0.03, 1, 300, 250, 2, "gate", "rows")
        store.add_verdict("desk", 1, proof, 1)
        store.put_charter(charter)
    return run


def test_plain_traffic_is_watched_and_nothing_is_found(books: Run) -> None:
    said = books("replay", "desk", "--watch", "--shadow", "1")
    assert said.code == 0, said.err
    assert "The watch, 1 of the requests audited" in said.out
    assert "nothing in 400 requests" in said.out
    assert "in the end the student answers from 0.5000 on" in said.out


def test_without_a_watch_nothing_is_said_of_one(books: Run) -> None:
    assert "watch" not in books("replay", "desk", "--json").json
    assert "watch" not in books("replay", "desk").out


def test_a_teacher_that_answers_otherwise_is_found_by_audits_and_the_student_stops(
    books: Run,
) -> None:
    drift = ("--inject", "shift=labels:0.9@0.5", "--shadow", "1")
    found = books("replay", "desk", *drift, "--json").json
    watch = found["watch"]
    assert [one["event"] for one in watch["happenings"]] == ["raised", "rolled_back"]
    assert watch["injected_row"] == 201
    raised = watch["happenings"][0]
    assert raised["row"] == 200 + raised["since"]["requests"]
    assert 0 < raised["since"]["audited"] <= raised["since"]["served"]
    assert watch["threshold"] is None
    assert watch["injections"] == ["shift=labels:0.9@0.5"]
    assert found["requests"] == N == sum(day["requests"] for day in found["days"])
    assert found["accepted"] < 300, "the teacher answers what comes after the alarm"
    text = books("replay", "desk", *drift).out
    assert "row 201: shift=labels:0.9@0.5 begins" in text
    assert "in the end the teacher answers everything" in text


def test_another_teacher_voids_the_certificate_where_it_first_answers(books: Run) -> None:
    drift = ("--inject", "teacher=gpt-9@100", "--shadow", "1")
    (voided,) = books("replay", "desk", *drift, "--json").json["watch"]["happenings"]
    assert (voided["event"], voided["row"]) == ("voided", 100)
    assert voided["why"] == "gpt-9 answered, and the certificate speaks of gpt-4o-mini"


def test_mistyped_words_are_found_by_the_watch_on_inputs(books: Run) -> None:
    drift = ("--inject", "shift=words:1@0.5", "--shadow", "1")
    found = books("replay", "desk", *drift, "--json").json["watch"]["happenings"]
    assert "inputs" in [one["event"] for one in found]
    assert all(one["row"] > 200 for one in found)


def test_the_same_seed_replays_the_same_and_another_seed_does_not(books: Run) -> None:
    def replayed(seed: str) -> Any:
        drift = ("--inject", "shift=0.3", "--shadow", "1", "--seed", seed)
        return books("replay", "desk", *drift, "--json").json["watch"]

    assert replayed("1") == replayed("1")
    assert replayed("1")["total"] != replayed("2")["total"]


def test_the_configuration_says_how_it_is_watched_and_the_command_line_wins(
    books: Run, tmp_path: Path
) -> None:
    (tmp_path / "stillhouse.toml").write_text(
        '[students]\nshadow_share = 0.5\nrun_length = 700\non_alarm = "stop"\n'
        '[upstreams.u]\nkind = "scripted"\nmodels = ["*"]\n'
    )
    drift = ("replay", "desk", "--inject", "shift=labels:1", "--json")
    watch = books(*drift).json["watch"]
    assert (watch["shadow_share"], watch["run_length"]) == (0.5, 700)
    assert [one["event"] for one in watch["happenings"]] == ["rolled_back"]
    assert books(*drift, "--shadow", "0.9").json["watch"]["shadow_share"] == 0.9


@pytest.mark.parametrize(
    ("drift", "sentence"),
    [
        ("shift=2", "--inject is 'shift=2', whose share is '2'"),
        ("noise=0.1", "give shift=SHARE"),
        ("shift=0.1@401", "would begin at row 401, and the replay has 400"),
    ],
)
def test_what_cannot_be_injected_is_one_sentence_and_exit_code_2(
    books: Run, drift: str, sentence: str
) -> None:
    said = books("replay", "desk", "--inject", drift)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert sentence in said.err


def test_a_version_without_a_charter_is_to_be_distilled_again(books: Run) -> None:
    with wiring.existing_store("stillhouse.db") as store:
        digest = store.put_student("desk", 2, "lexical", store.get_student(_student(store)), 1)
        proof = Certificate(digest, 0.5, 0.05, 0.95, 0.01, 2, 300, 250, 2, "gate", "rows")
        store.add_verdict("desk", 2, proof, 1)
    said = books("replay", "desk", "--watch")
    assert said.code == 2
    assert "version 2 of desk was made before students could be watched" in said.err


def _student(store: Any) -> str:
    return str(store.versions("desk")[0].student)
