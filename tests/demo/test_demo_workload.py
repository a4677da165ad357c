"""What the bundled workload holds, and that it can be read, priced and discovered."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

from stillhouse import demo
from stillhouse.catalogues.yaml_book import price_rows
from stillhouse.core.learning import AnswerShape
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Attempt, Exchange, LoggedCall
from stillhouse.distillation.discovery import discover
from stillhouse.ledger.book import PriceBook
from stillhouse.ledger.prices import price_from_row
from stillhouse.ledger.usage import decompose
from stillhouse.logs import detect


def instant(call: LoggedCall) -> datetime:
    assert call.at_us is not None
    return datetime.fromtimestamp(call.at_us / 1e6, UTC)


def asked(call: LoggedCall) -> str:
    return call.request.messages[-1].text


def test_the_workload_is_a_log_of_native_pairs() -> None:
    with demo.workload() as log:
        assert detect(log).name == "pairs"


def test_three_teams_share_the_month(calls: list[LoggedCall]) -> None:
    assert Counter((call.tags.team, call.tags.task) for call in calls) == {
        ("support", ""): 4_820,
        ("catalogue", "review-facts"): 140,
        ("staff", ""): 45,
    }
    assert len({call.declared_id for call in calls}) == len(calls)


def test_the_desk_has_24_intents_and_each_answer_is_one_of_its_prompt(
    intents: list[LoggedCall],
) -> None:
    answers = Counter(call.completion.text for call in intents)
    prompt = intents[0].request.messages[0].text
    offered = {line.split(" - ")[0] for line in prompt.splitlines() if " - " in line}
    assert len(offered) == 24
    assert set(answers) == offered
    assert min(answers.values()) >= 100
    assert len(set(map(asked, intents))) >= 2_400


def test_the_messages_come_in_the_order_in_which_they_were_written_down(
    intents: list[LoggedCall], written: list[dict[str, str]]
) -> None:
    assert [(asked(call), call.completion.text) for call in intents] == [
        (row["message"].replace("\\n", "\n"), row["answer"]) for row in written
    ]


def test_the_calls_fill_october_in_order_of_time(calls: list[LoggedCall]) -> None:
    moments = [instant(call) for call in calls]
    assert all(before <= after for before, after in pairwise(moments))
    assert {moment.date().isoformat()[:8] for moment in moments} == {"2026-10-"}
    assert {moment.day for moment in moments} == set(range(1, 32))


def test_weekends_and_nights_are_lighter_and_the_campaign_week_is_busier(
    intents: list[LoggedCall],
) -> None:
    moments = [instant(call) for call in intents]
    days = Counter(moment.date() for moment in moments)
    weeks = Counter((moment.day - 5) // 7 for moment in moments if 5 <= moment.day <= 25)
    weekdays = [count for day, count in days.items() if day.weekday() < 5]
    weekends = [count for day, count in days.items() if day.weekday() >= 5]
    assert sum(weekends) / len(weekends) < 0.7 * sum(weekdays) / len(weekdays)
    assert weeks[1] > 1.4 * max(weeks[0], weeks[2])
    assert sum(moment.hour < 6 for moment in moments) < 0.03 * len(moments)


def test_every_usage_decomposes_and_only_recent_long_prompts_are_cached(
    calls: list[LoggedCall],
) -> None:
    asked_at: dict[tuple[str, str], int] = {}
    for call in calls:
        assert call.usage_body is not None
        assert call.at_us is not None
        usage = decompose(call.usage_body, call.dialect)
        assert usage.cache_read_tokens % 128 == 0
        assert usage.input_tokens > 0 < usage.output_tokens
        prompt = (call.model, call.request.messages[0].text)
        if usage.cache_read_tokens:
            assert call.at_us - asked_at[prompt] <= 600 * 10**6
        asked_at[prompt] = call.at_us


def test_the_preview_model_alone_has_no_price_and_one_price_changes_in_mid_month(
    calls: list[LoggedCall],
) -> None:
    with demo.prices() as own:
        book = PriceBook([price_from_row(row, 0) for row in price_rows(own)], [])
    unpriced: Counter[str] = Counter()
    input_prices: dict[str, set[int]] = {}
    for call in calls:
        price = book.find(call.model, call.host, call.at_us, region=call.tags.region)
        if price is None:
            unpriced[call.model] += 1
        else:
            assert price.amounts["cache_read_tokens"] * 10 == price.amounts["input_tokens"]
            input_prices.setdefault(call.model, set()).add(price.amounts["input_tokens"])
    assert unpriced == {"larkspur-preview": 12}
    assert input_prices == {
        "larkspur-large": {Paid.of("3").pico},
        "larkspur-small": {Paid.of("0.25").pico, Paid.of("0.2").pico},
    }


def test_discovery_finds_the_untagged_intents_and_takes_no_conversation_for_a_task(
    calls: list[LoggedCall],
) -> None:
    exchanges = [
        Exchange(
            call.declared_id,
            call.request,
            call.completion,
            (Attempt(call.declared_id, call.model, call.at_us),),
            call.tags,
        )
        for call in calls
    ]
    intents, reviews = discover(exchanges).tasks
    assert (intents.task.shape, intents.task.tagged) == (AnswerShape.LABELS, False)
    assert (intents.volume, len(intents.task.labels)) == (4_820, 24)
    assert (reviews.task.name, reviews.task.shape) == ("review-facts", AnswerShape.FIELDS)
    assert reviews.volume == 140
