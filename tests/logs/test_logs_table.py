from __future__ import annotations

from typing import Any

import pytest

from stillhouse.core.errors import CallerError
from stillhouse.core.money import Paid
from stillhouse.core.traffic import BrokenRow, Completion, LoggedCall, Message, Request, Tags
from stillhouse.logs import detect
from stillhouse.logs.table import SYNONYMS

RECORDED = {
    "split": "train",
    "text": "I am still waiting on my card?",
    "gold": "card_arrival",
    "teacher": "card delivery estimate",
    "prompt_tokens": 397,
    "cached_tokens": 384,
    "completion_tokens": 4,
    "cost_usd": 5.1128e-06,
    "latency_ms": 567.9,
    "ts": 1790427902.353726,
    "finish": "stop",
}
CSV = (
    "id,Question,Answer,Model,Prompt Tokens,completion_tokens,cost,time,latency_s,team\n"
    'a1,"Is 7 prime,\nor not?",yes,gpt-4,20.0,1,0.00063,2023-07-16 21:28:40,0.5,maths\n'
    "a2,Is 8 prime?,no,gpt-4,,,,,,\n"
)


def only(rows: list[Any]) -> LoggedCall:
    (row,) = rows
    assert isinstance(row, LoggedCall), row
    return row


def test_a_recorded_row_with_what_it_leaves_out_is_read_whole(read_all: Any) -> None:
    constants = {"model": "deepseek/deepseek-v4.1-flash", "system": "Classify.", "task": "intent"}
    assert only(read_all([RECORDED], None, constants)) == LoggedCall(
        line=1,
        request=Request(
            (Message("system", "Classify."), Message("user", "I am still waiting on my card?"))
        ),
        completion=Completion("card delivery estimate", finish="stop"),
        model="deepseek/deepseek-v4.1-flash",
        dialect="columns",
        usage_body={"input_tokens": 397, "cached_tokens": 384, "output_tokens": 4},
        at_us=1790427902353726,
        latency_ms=567.9,
        reported_cost=Paid(5112800),
        tags=Tags(task="intent"),
    )


def test_what_was_recognised_is_said(write: Any) -> None:
    assert detect(write([RECORDED]), None, {"model": "m"}).sentence == (
        "log.jsonl is a table in JSON lines; read as prompt: text, answer: teacher, input_tokens: "
        "prompt_tokens, cached_tokens: cached_tokens, output_tokens: completion_tokens, cost_usd: "
        "cost_usd, created_at: ts, latency_ms: latency_ms, finish: finish; set model; not used "
        "split, gold"
    )


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_csv_is_read_with_records_that_span_lines(read_all: Any, ends: str, mark: str) -> None:
    first, second = read_all(mark + CSV.replace("\n", ends), name="log.csv")
    assert first.request.messages == (Message("user", f"Is 7 prime,{ends}or not?"),)
    assert first.completion.text == "yes"
    assert first.usage_body == {"input_tokens": 20, "output_tokens": 1}
    assert (first.line, second.line) == (2, 4)
    assert first.reported_cost == Paid.of("0.00063")
    assert (first.at_us, first.latency_ms) == (1689542920000000, 500.0)
    assert (first.declared_id, first.tags) == ("a1", Tags(team="maths"))
    assert (second.usage_body, second.at_us, second.reported_cost) == (None, None, None)


@pytest.mark.parametrize(
    ("tier", "kept", "batch"), [("standard", "", False), ("priority", "priority", False)]
)
def test_a_column_may_hold_the_service_tier(
    read_all: Any, tier: str, kept: str, batch: bool
) -> None:
    call = only(read_all([{**RECORDED, "service_tier": tier}]))
    assert (call.service_tier, call.batch) == (kept, batch)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_recognised(read_all: Any, delimiter: str) -> None:
    lines = [["prompt", "answer", "model, version"], ["2+2, please", "4", "m"]]
    text = "".join(delimiter.join(cells) + "\n" for cells in lines)
    call = only(read_all(text, {"model, version": "model"}, name="log.csv"))
    assert (call.request.messages[0].text, call.completion.text) == ("2+2, please", "4")
    assert call.model == "m"


def test_every_synonym_is_recognised(write: Any) -> None:
    for field, others in SYNONYMS.items():
        for name in others:
            needed = {"prompt": 1, "answer": 1} if field not in ("prompt", "answer") else {}
            needed |= {"answer": 1} if field == "prompt" else {"prompt": 1}
            layout = detect(write([{**needed, name: 1}])).layout
            assert layout is not None
            assert layout.columns[field] == name


def test_a_mapping_wins_over_recognition_and_can_ignore_a_column(read_all: Any) -> None:
    row = {"prompt": "template", "text": "Hi", "pred": "hello", "id": "q7", "answer": "gold"}
    mapping = {"text": "prompt", "pred": "answer", "id": "ignore"}
    call = only(read_all([row], mapping))
    assert call.request.messages == (Message("user", "Hi"),)
    assert (call.completion.text, call.declared_id) == ("hello", "")


def test_a_mapping_may_use_a_synonym_of_the_field(read_all: Any) -> None:
    row = {"prompt": "Hi", "answer": "hello", "n": 3}
    assert only(read_all([row], {"n": "prompt_tokens"})).usage_body == {"input_tokens": 3}


def test_a_constant_wins_over_a_column(read_all: Any) -> None:
    row = {"prompt": "Hi", "answer": "hello", "model": "alias"}
    assert only(read_all([row], None, {"model": "gpt-5-2025-08-07"})).model == "gpt-5-2025-08-07"


def test_a_conversation_column_is_read_as_turns(read_all: Any) -> None:
    turns = '[{"role": "user", "content": "Hi"}]'
    text = 'messages,system,answer\n"' + turns.replace('"', '""') + '",Be brief.,hello\n'
    call = only(read_all(text, name="log.csv"))
    assert call.request.messages == (Message("system", "Be brief."), Message("user", "Hi"))


def test_a_conversation_without_an_answer_column_ends_in_its_answer(read_all: Any) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "hello"}]
    call = only(read_all([{"messages": turns}]))
    assert call.request.messages == (Message("user", "Hi"),)
    assert call.completion == Completion("hello")


@pytest.mark.parametrize(
    ("answer", "text"), [({"total": 7}, '{"total":7}'), (1, "1"), (True, "true"), ("", "")]
)
def test_an_answer_that_is_no_text_becomes_text(read_all: Any, answer: Any, text: str) -> None:
    assert only(read_all([{"prompt": "Hi", "answer": answer}])).completion.text == text


def test_a_failed_row_needs_no_answer(read_all: Any) -> None:
    rows = [
        {"prompt": "Hi", "answer": "hello", "status": 200, "error": "None"},
        {"prompt": "Hi", "answer": None, "status": 500, "error": "False"},
        {"prompt": "Hi", "answer": None, "status": None, "error": "timed out"},
    ]
    assert [call.ok for call in read_all(rows)] == [True, False, False]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt_tokens": -1}, "input_tokens is -1, which cannot be negative"),
        ({"prompt_tokens": "many"}, "input_tokens is 'many', not a number"),
        ({"prompt_tokens": 1.5}, "input_tokens is 1.5, not a count of tokens"),
        ({"teacher": None}, "the row has no answer"),
        ({"text": ""}, "the row has no prompt"),
        ({"messages": {"role": "user"}}, "messages is {'role': 'user'}, not a list of turns"),
        ({"messages": "Hi"}, "messages is 'Hi', not JSON"),
        ({"messages": ["Hi"]}, "the row does not have the shape of a row of a table"),
        ({"text": ["a"]}, "prompt is ['a'], not text"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(read_all: Any, change: Any, reason: str) -> None:
    good, broken = read_all([{**RECORDED, "messages": None}, {**RECORDED, **change}])
    assert isinstance(good, LoggedCall)
    assert isinstance(broken, BrokenRow)
    assert (broken.line, broken.reason) == (2, reason)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a3,too,few\n", "the row has 3 cells where the header names 10"),
        ('a3,"quo"ted,yes,,,,,,,\n', "the row, up to line 5, is not CSV: ',' expected after '\"'"),
        ('a3,"open\n\n', "the row, up to line 6, is not CSV: unexpected end of data"),
        ("a3,Is 9 prime?,no,gpt-4,-5,,,,,\n", "input_tokens is '-5', which cannot be negative"),
    ],
)
def test_a_broken_csv_record_is_set_aside(read_all: Any, row: str, reason: str) -> None:
    *_, broken = read_all(CSV + row, name="log.csv")
    assert broken == BrokenRow(5, reason, row.rstrip("\n"))


@pytest.mark.parametrize(
    ("mapping", "constants", "reason"),
    [
        ({"txt": "prompt"}, {}, "there is no column 'txt'; the columns are text, teacher"),
        (
            {"text": "prompt", "teacher": "prompt"},
            {},
            "'text' and 'teacher' are both mapped to prompt; map one of them",
        ),
        (
            {},
            {"colour": "red"},
            f"a table has no field 'colour'; the fields are {', '.join(SYNONYMS)}",
        ),
    ],
)
def test_a_mapping_that_fits_nothing_is_refused(
    write: Any, mapping: Any, constants: Any, reason: str
) -> None:
    path = write([{"text": "a", "teacher": "b"}])
    with pytest.raises(CallerError) as refused:
        detect(path, mapping, constants)
    assert str(refused.value) == f"{path}: {reason}"


def test_pairs_take_no_mapping(write: Any, pair: Any) -> None:
    path = write([pair])
    with pytest.raises(CallerError) as refused:
        detect(path, {"text": "prompt"})
    assert str(refused.value) == (
        f"{path} holds pairs, whose fields are known; columns are mapped and set in tables only, "
        "so import it in a call of its own"
    )


def test_two_columns_of_one_name_are_refused(write: Any) -> None:
    path = write("prompt,answer,answer\n1,2,3\n", "log.csv")
    with pytest.raises(CallerError) as refused:
        detect(path)
    assert str(refused.value) == f"{path} has two columns named 'answer'; rename one of them"
