from __future__ import annotations

from typing import Any

import pytest

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import BrokenRow, LoggedCall
from stillhouse.logs import detect, read


@pytest.fixture
def asked(chat_request: Any) -> list[dict[str, Any]]:
    return [
        {
            "custom_id": f"row-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {**chat_request, "messages": [{"role": "user", "content": f"question {n}"}]},
        }
        for n in range(4)
    ]


@pytest.fixture
def answered(chat_response: Any) -> list[dict[str, Any]]:
    def answer(n: int, **change: Any) -> dict[str, Any]:
        body = {"status_code": 200, "request_id": "r", "body": chat_response}
        return {
            "id": f"batch_req_{n}",
            "custom_id": f"row-{n}",
            "response": body,
            "error": None,
            **change,
        }

    refused = {"status_code": 400, "request_id": "r", "body": {"error": {"message": "bad"}}}
    expired = {"code": "batch_expired", "message": "not finished in time"}
    return [
        answer(2),
        answer(0),
        answer(1, response=refused),
        answer(3, response=None, error=expired),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_answers_find_their_requests_in_any_order(
    write: Any, asked: Any, answered: Any, suffix: str
) -> None:
    write(asked, f"may_input.{suffix}")
    output = write(answered, f"may_output.{suffix}")
    found = detect(output)
    assert found.sentence == (
        f"may_output.{suffix} is the output of an OpenAI batch with the input may_input.{suffix}"
    )
    calls = [row for row in read(output, found) if isinstance(row, LoggedCall)]
    assert [call.request.messages[0].text for call in calls] == [
        "question 2",
        "question 0",
        "question 1",
        "question 3",
    ]
    assert [call.ok for call in calls] == [True, True, False, False]
    assert all(call.batch for call in calls)
    assert (calls[0].declared_id, calls[0].at_us) == ("batch_req_2", 1790427902000000)


def test_the_input_file_named_with_it_is_taken(write: Any, asked: Any, answered: Any) -> None:
    questions = write(asked, "questions.jsonl")
    output = write(answered, "batch_68.jsonl")
    assert detect(output, among=[questions, output]).companion == questions


def test_of_several_input_files_the_one_with_the_matching_name_is_taken(
    write: Any, asked: Any, answered: Any
) -> None:
    inputs = [write(asked, "may_input.jsonl"), write(asked, "june_input.jsonl")]
    output = write(answered, "june_errors.jsonl")
    assert detect(output, among=inputs).companion == inputs[1]


def test_an_output_without_its_input_is_refused(write: Any, answered: Any) -> None:
    output = write(answered, "may_output.jsonl")
    with pytest.raises(CallerError) as refused:
        detect(output)
    assert str(refused.value) == (
        f"{output} is the output of an OpenAI batch and its input file is missing; name the one "
        "input file with it, or lay it beside as ..._input.jsonl for ..._output.jsonl"
    )


def test_a_choice_of_input_files_is_refused(write: Any, asked: Any, answered: Any) -> None:
    inputs = [write(asked, "a.jsonl"), write(asked, "b.jsonl")]
    with pytest.raises(CallerError, match="and 2 input files are named with it; name the one"):
        detect(write(answered, "may_output.jsonl"), among=inputs)


def test_an_input_file_has_no_answers_to_read(write: Any, asked: Any) -> None:
    path = write(asked, "may_input.jsonl")
    found = detect(path)
    assert (found.name, found.has_answers) == ("batch input", False)
    with pytest.raises(CallerError) as refused:
        read(path, found)
    assert str(refused.value) == (
        f"{path} holds the requests of a batch and no answers; name the batch's output file"
    )


def test_an_answer_without_a_request_or_a_body_is_set_aside(
    write: Any, asked: Any, answered: Any
) -> None:
    write(asked, "may_input.jsonl")
    strays = [{**answered[0], "custom_id": "row-9"}, {**answered[0], "response": {"body": None}}]
    output = write(strays, "may_output.jsonl")
    broken = [row for row in read(output, detect(output)) if isinstance(row, BrokenRow)]
    assert [row.reason for row in broken] == [
        "custom_id 'row-9' is not in may_input.jsonl",
        "the response's body is None, not a response body",
    ]
