from dataclasses import replace

import numpy as np
import pytest

from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Refusal, RefusalReason
from stillhouse.core.money import Avoided, Paid
from stillhouse.core.traffic import Evidence
from stillhouse.planner import (
    HeldOutCounts,
    People,
    Plan,
    PlanInputs,
    Serving,
    TeacherCost,
    Verdict,
    observed_volume,
    stated_volume,
)
from stillhouse.planner import plan as make_plan

PREMIUM = TeacherCost(Paid.of("0.004245"), "repriced at premium")
REFUSED = Refusal(RefusalReason.TEACHER_NOISE, "The teacher differs from itself on 26 % of rows.")


def planned(inputs: PlanInputs, **changes: object) -> Plan:
    return make_plan(replace(inputs, **changes), np.random.default_rng(1))  # type: ignore[arg-type]


def test_at_its_billed_price_the_recorded_task_is_not_worth_distilling(
    banking77: PlanInputs,
) -> None:
    found = planned(banking77)
    assert found.verdict is Verdict.DO_NOT_DISTIL
    assert "$0.0061 per 1,000 requests" in found.sentence
    assert found.figures.with_people.probability == 0
    assert found.figures.with_people.break_even_days.p50 == float("inf")
    assert found.not_counted


def test_twenty_minutes_of_log_are_not_stretched_into_a_month(banking77: PlanInputs) -> None:
    found = planned(banking77, volume=observed_volume([13_083], 1_186.0))
    assert found.verdict is Verdict.DO_NOT_DISTIL
    assert found.figures.bill.requests_per_month == 13_083


def test_the_same_tokens_at_a_premium_price_and_a_million_requests_pay(
    banking77: PlanInputs,
) -> None:
    found = planned(banking77, teacher=PREMIUM, volume=stated_volume(1_000_000))
    assert found.verdict is Verdict.DISTIL
    assert "repriced at premium" in found.sentence
    assert found.evidence is Evidence.SCENARIO
    assert found.figures.with_people.break_even_days.p90 < 30
    assert found.figures.with_people.probability > 0.99


def test_without_a_certificate_nothing_is_promised_at_any_price(banking77: PlanInputs) -> None:
    found = planned(
        banking77, teacher=PREMIUM, volume=stated_volume(1_000_000), student=REFUSED, held_out=None
    )
    assert found.verdict is Verdict.DO_NOT_DISTIL
    assert REFUSED.sentence in found.sentence
    assert found.figures.bill.avoided_per_month == Avoided(0)
    assert found.figures.pays_from_requests_per_month is None
    assert found.figures.pays_from_teacher_cost_per_request is None


def test_before_anyone_tried_only_the_hopeless_case_is_decided(banking77: PlanInputs) -> None:
    untried = replace(banking77, student=None, held_out=None)
    assert planned(untried).verdict is Verdict.DO_NOT_DISTIL
    hopeful = planned(untried, teacher=PREMIUM, volume=stated_volume(1_000_000))
    assert hopeful.verdict is Verdict.CANNOT_SAY
    assert "no student has been tried" in hopeful.sentence


def test_two_held_out_rows_do_not_make_a_promise(banking77: PlanInputs) -> None:
    few = HeldOutCounts(2, 0, 0)
    found = planned(banking77, teacher=PREMIUM, volume=stated_volume(10_000_000), held_out=few)
    assert found.figures.with_people.probability > 0.8
    assert found.verdict is Verdict.CANNOT_SAY


def test_near_the_threshold_the_plan_cannot_say_and_names_what_to_learn(
    banking77: PlanInputs,
) -> None:
    threshold = planned(banking77, teacher=PREMIUM).figures.pays_from_requests_per_month
    assert threshold is not None
    found = planned(banking77, teacher=PREMIUM, volume=stated_volume(threshold))
    assert found.verdict is Verdict.CANNOT_SAY
    assert found.figures.with_people.probability == pytest.approx(0.5, abs=0.01)
    assert found.figures.sensitivity[0][0] == "volume"
    assert any("comes from volume" in change for change in found.what_would_change_it)
    assert any(change.startswith("People's time") for change in found.what_would_change_it)


def test_the_teacher_price_threshold_is_where_the_odds_turn(banking77: PlanInputs) -> None:
    threshold = planned(banking77).figures.pays_from_teacher_cost_per_request
    assert threshold is not None
    for part, pays in ((0.99, False), (1.01, True)):
        teacher = TeacherCost(Paid.of(float(threshold) * part), "computed")
        chance = planned(banking77, teacher=teacher).figures.with_people.probability
        assert (chance >= 0.5) is pays


def test_dear_errors_turn_the_verdict_and_are_named(banking77: PlanInputs) -> None:
    million = {"teacher": PREMIUM, "volume": stated_volume(1_000_000)}
    found = planned(banking77, **million, price_per_error=Paid.of("0.5"))
    assert found.verdict is Verdict.DO_NOT_DISTIL
    assert "of errors" in found.sentence
    assert found.figures.pays_from_requests_per_month is None
    assert found.figures.bill.saving_per_request.pico < 0


def test_no_traffic_is_nothing_to_save(banking77: PlanInputs) -> None:
    found = planned(banking77, volume=stated_volume(0))
    assert found.verdict is Verdict.DO_NOT_DISTIL
    assert found.figures.bill.current_spend_per_month == Paid(0)
    assert found.figures.with_people.fully_loaded_cost_per_request is None
    assert found.figures.with_people.break_even_requests.p10 == float("inf")


def test_people_are_the_difference_between_the_two_outcomes(banking77: PlanInputs) -> None:
    people = People(setup_hours=10, hours_per_month=1, cost_per_hour=Paid.of(50))
    figures = planned(banking77, people=people, discount_per_year=0.0).figures
    difference = figures.automatic.net_value.p50 - figures.with_people.net_value.p50
    assert float(difference) == pytest.approx(10 * 50 + 12 * 50)


def test_saved_money_is_avoided_money_and_will_not_add_to_paid(banking77: PlanInputs) -> None:
    figures = planned(banking77).figures
    saved = [
        figures.bill.saving_per_request,
        figures.bill.avoided_per_month,
        figures.with_people.net_value.p50,
        *(point.net.p90 for point in figures.fan),
    ]
    for amount in saved:
        assert type(amount) is Avoided
        with pytest.raises(TypeError, match="never mix"):
            figures.bill.current_spend_per_month + amount


def test_the_fan_starts_at_the_outlay_and_ends_at_the_net_value(banking77: PlanInputs) -> None:
    figures = planned(banking77, teacher=PREMIUM).figures
    assert [point.month for point in figures.fan] == list(range(13))
    assert float(figures.fan[0].net.p50) == pytest.approx(-float(figures.campaign_cost.p50))
    assert figures.fan[-1].net == figures.with_people.net_value


def test_the_same_seed_gives_the_same_plan(banking77: PlanInputs) -> None:
    assert planned(banking77) == planned(banking77)


@pytest.mark.parametrize(
    ("basis", "evidence"),
    [
        ("billed", Evidence.ESTIMATED),
        ("computed", Evidence.ESTIMATED),
        ("repriced at x", Evidence.SCENARIO),
    ],
)
def test_the_plan_is_as_well_known_as_its_weakest_input(
    banking77: PlanInputs, basis: str, evidence: Evidence
) -> None:
    month = observed_volume([3000] * 31, 31 * 86_400.0)
    assert month.evidence is Evidence.DERIVED
    teacher = TeacherCost(Paid.of("0.001"), basis)
    assert planned(banking77, volume=month, teacher=teacher).evidence is evidence


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shadow_share": 1.5}, "shadow share is 1.5"),
        ({"horizon_months": 0}, "horizon in months is 0"),
        ({"retrain_every_months": 0}, "months between retrains is 0"),
        ({"price_per_error": Paid.of(-1)}, "price per error is Paid"),
        ({"labels_to_buy": Paid.of(1, "EUR")}, "convert it to USD"),
        ({"discount_per_year": float("nan")}, "discount per year is nan"),
        ({"serving": Serving(idle_cores=-1)}, "idle_cores is -1"),
        ({"people": People(setup_hours=float("inf"))}, "setup_hours is inf"),
    ],
)
def test_an_impossible_input_is_refused_in_one_sentence(
    banking77: PlanInputs, change: dict[str, object], message: str
) -> None:
    with pytest.raises(CallerError, match=message):
        planned(banking77, **change)


def test_impossible_counts_and_bases_are_refused() -> None:
    with pytest.raises(CallerError, match="each count must lie within"):
        HeldOutCounts(10, 20, 1)
    with pytest.raises(CallerError, match="'guessed'"):
        TeacherCost(Paid.of(1), "guessed")
    with pytest.raises(CallerError, match=r"-1\.0 requests a month"):
        stated_volume(-1)
