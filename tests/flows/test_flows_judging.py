"""A judge says the same of the same rows: is the gate open, is the promise broken?"""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.serving import Evidence, Mode, Standing, Terms
from stillhouse.flows.judging import Judge
from stillhouse.risk.certificate import open_gate
from stillhouse.testing.student_traffic import LEVELS, a_charter, name

CHARTER = a_charter("r")
SERVING = Standing("desk", 1, Mode.SERVING, 0.5, since_us=100)
SHADOW = Standing("desk", 1, Mode.SHADOW)


def row(number: int, wrong: bool, score: float = 0.9, *, at_us: int = 200) -> Evidence:
    said = "no" if wrong else "yes"
    return Evidence(name(number), at_us, score, said, "yes", served=True, number=number)


def rows_of(seed: int, good: int, bad: int) -> list[Evidence]:
    """Answers of which one in forty disagrees, then one in ten."""
    chance = random.Random(seed)
    rates = [0.025] * good + [0.1] * bad
    return [row(n, chance.random() < rate) for n, rate in enumerate(rates, 1)]


def alarms(judge: Judge, one: Evidence) -> bool:
    judge.take([one])
    return bool(judge.alarm())


def test_a_jump_after_months_that_were_good_is_noticed_within_some_two_hundred_labels() -> None:
    delays = []
    for seed in range(40):
        rows = rows_of(seed, 3000, 2000)
        judge = Judge(CHARTER, SERVING, Terms())
        judge.take(rows[:3000])
        delays.append(next(n for n, one in enumerate(rows[3000:], 1) if alarms(judge, one)))
    assert median(delays) <= 220


def test_the_same_rows_say_the_same_however_they_come() -> None:
    rows = rows_of(1, 300, 200)
    whole, parts = (Judge(CHARTER, SERVING, Terms()) for _ in range(2))
    whole.take(rows)
    for begin in range(0, 500, 7):
        parts.take(rows[begin : begin + 7])
    assert (whole.level, whole.alarm(), whole.read) == (parts.level, parts.alarm(), parts.read)
    assert whole.certificate() == parts.certificate()


@given(st.data())
def test_what_this_standing_let_nobody_have_says_nothing_of_it(data: st.DataObject) -> None:
    strange = data.draw(
        st.lists(
            st.sampled_from(
                [
                    row(1, True, at_us=99),
                    row(1, True, 0.49),
                    row(1, True)._replace(served=False),
                    row(1, True, float("nan")),
                ]
            )
        )
    )
    judge = Judge(CHARTER, SERVING, Terms())
    judge.take(strange)
    assert judge.level == 0
    judge.take([row(2, True)])
    assert judge.level > 0


def test_a_pause_wipes_nothing_out_where_it_is_said_since_when() -> None:
    resumed = replace(SERVING, since_us=10_000)
    judge = Judge(CHARTER, resumed, Terms(), since_us=100)
    judge.take([row(n, True) for n in range(1, 30)])
    assert judge.alarm()
    forgetful = Judge(CHARTER, resumed, Terms())
    forgetful.take([row(n, True) for n in range(1, 30)])
    assert not forgetful.alarm()


def test_an_alarm_stands_and_counts_what_there_was() -> None:
    judge = Judge(CHARTER, SERVING, Terms())
    judge.take([row(n, n % 2 == 0) for n in range(1, 41)])
    said = judge.alarm()
    judge.take([row(n, False) for n in range(41, 600)])
    assert said == (
        "audited answers disagree with the teacher more often than the promised 0.05 of late "
        "(20 of 40 since it answers)"
    )
    assert "(20 of 599 since it answers)" in judge.alarm()
    assert (judge.audited, judge.agreed) == (599, 579)
    paused = Judge(CHARTER, replace(SERVING, mode=Mode.PAUSED), Terms())
    paused.take([row(n, True) for n in range(1, 41)])
    assert paused.alarm() == ""


def test_the_certificate_is_what_the_gate_says_of_the_same_rows() -> None:
    chance = random.Random(3)
    rows = []
    for n in range(1, 1501):
        score = chance.random()
        rows.append(row(n, chance.random() < 0.1 * (1 - score), score)._replace(served=False))
    judge = Judge(CHARTER, SHADOW, Terms())
    judge.take(rows)
    certificate = judge.certificate()
    scores = np.array([one.score for one in rows])
    wrong = np.array([one.disagrees for one in rows])
    gate = open_gate(scores, wrong, np.array(LEVELS), 0.05, 0.03, 1000)
    assert certificate is not None
    assert gate.threshold is not None
    assert (certificate.threshold, certificate.n_accepted) == (gate.threshold, gate.n_accepted)
    assert (certificate.n_calibration, certificate.delta_spent) == (1500, 0.03)
    assert judge.due, "an open gate is to be acted on"


def test_a_closed_gate_is_looked_at_again_once_there_are_some_more_rows() -> None:
    judge = Judge(CHARTER, SHADOW, Terms())
    assert not judge.due
    judge.take([row(n, True) for n in range(1, 1001)])
    assert judge.due
    assert judge.certificate() is None
    assert not judge.due
    judge.take([row(n, True) for n in range(1001, 1011)])
    assert not judge.due
    judge.take([row(1011, True)])
    assert judge.due


@pytest.mark.parametrize("seed", range(3))
def test_inputs_like_those_of_before_raise_no_alarm_and_others_do(seed: int) -> None:
    chance = random.Random(seed)
    charter = a_charter("r", words=("card", "late", "where"))
    judge = Judge(charter, replace(SERVING, since_us=10**6), Terms(run_length=500.0))
    before = [chance.betavariate(5, 2) for _ in range(800)]
    judge.take([row(n, False, score, at_us=2000) for n, score in enumerate(before, 1)])

    def hear(first: int, count: int, steep: float) -> None:
        judge.look_at_inputs(
            [
                (name(n), "where is my card", chance.betavariate(steep, 2))
                for n in range(first, first + count)
            ]
        )

    assert judge.inputs_alarm() == ""
    hear(1000, 1500, 5)
    assert judge.inputs_alarm() == ""
    hear(3000, 1500, 2)
    assert judge.inputs_alarm() == "the student's scores have changed, and look lower"


def test_rows_held_out_from_training_are_nothing_to_compare_live_inputs_with() -> None:
    chance = random.Random(1)
    standing = replace(SERVING, since_us=10**6)
    judge = Judge(a_charter("r"), standing, Terms(run_length=500.0, shadow_share=1.0))
    judge.take([row(n, False, chance.betavariate(2, 5), at_us=999) for n in range(1, 801)])
    judge.look_at_inputs([(name(n), "yes", chance.betavariate(5, 2)) for n in range(1000, 1400)])
    assert judge.inputs_alarm() == ""


def test_unknown_words_are_noticed_without_a_teacher() -> None:
    charter = a_charter("r", words=("card", "late", "where"))
    judge = Judge(charter, SERVING, Terms(run_length=500.0))
    for begin, text in ((0, "where is my late card"), (1500, "quid pro quo vadis")):
        judge.look_at_inputs([(name(n), text, 0.9) for n in range(begin, begin + 1500)])
    assert "the share of unknown words has changed" in judge.inputs_alarm()
