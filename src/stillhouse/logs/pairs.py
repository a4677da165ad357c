"""Reads native pairs: a request body and a response body side by side, one JSON object a line."""

from __future__ import annotations

from stillhouse.core.traffic import LoggedCall
from stillhouse.logs.bodies import call_of, is_failure
from stillhouse.logs.content import Body
from stillhouse.logs.values import RowError, shown


def is_pair(row: Body) -> bool:
    """Whether a row is a native pair; the response of a failed call may be missing."""
    return type(row.get("request")) is dict


def read_pair(row: Body, line: int) -> LoggedCall:
    """Read one pair; everything but `request` and `response` is optional.

    >>> answer = {"choices": [{"message": {"content": "4"}}], "usage": {"prompt_tokens": 9}}
    >>> question = {"model": "m", "messages": [{"role": "user", "content": "2+2"}]}
    >>> call = read_pair({"request": question, "response": answer, "created_at": 1790428245}, 1)
    >>> call.model, call.completion.text, call.at_us
    ('m', '4', 1790428245000000)
    """
    request, response = row["request"], row.get("response")
    failed = is_failure(row.get("status", row.get("status_code")), row.get("error"))
    if response is None and failed:
        response = {}
    if type(response) is not dict:
        raise RowError(f"the response is {shown(response)}, not a response body")
    return call_of(line, row, request, response, failed)
