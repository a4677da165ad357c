"""Reads OpenAI batches: an output file, joined by custom_id with the requests of its input file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import LoggedCall
from stillhouse.logs.bodies import call_of, is_failure
from stillhouse.logs.content import Body
from stillhouse.logs.lines import Lines
from stillhouse.logs.values import RowError, as_text, shown

_IN_MEMORY = 2**25


def is_batch_output(row: Body) -> bool:
    """Whether a row is an answer of a batch, also one that failed."""
    return "custom_id" in row and "response" in row


def is_batch_input(row: Body) -> bool:
    """Whether a row is a request of a batch."""
    return "custom_id" in row and type(row.get("body")) is dict


def input_name(output: str) -> str:
    """The name beside an output or error file under which its input file is looked for.

    >>> input_name("may_output.jsonl.gz"), input_name("may_errors.jsonl")
    ('may_input.jsonl.gz', 'may_input.jsonl')
    """
    for word in ("output", "errors", "error"):
        if word in output:
            return output.replace(word, "input")
    return ""


def companion_of(output: Path, inputs: Iterable[Path]) -> Path:
    """Choose the input file of a batch's output file.

    Of the input files that were named with it, the one with the matching name, or the only one;
    otherwise the one that lies beside it. Raises CallerError where there is none, or a choice.
    """
    named = list(inputs)
    beside = output.with_name(input_name(output.name) or output.name)
    for path in named:
        if path.name == beside.name:
            return path
    if len(named) == 1:
        return named[0]
    if not named and beside != output and beside.exists():
        return beside
    found = f"{len(named)} input files are named with it" if named else "its input file is missing"
    raise CallerError(
        f"{output} is the output of an OpenAI batch and {found}; name the one input file with it, "
        "or lay it beside as ..._input.jsonl for ..._output.jsonl"
    )


class BatchInput:
    """The requests of a batch by custom_id, set aside in a temporary file as answers come unsorted.

    A batch has at most 50,000 requests, so that the index of their places stays small.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (closed in __exit__)
        self._places: dict[str, int] = {}
        try:
            self._set_aside(path)
        except OSError as fault:
            self._file.close()
            raise CallerError(
                f"{path} cannot be set aside in a temporary file ({fault.strerror}); "
                "free some space and try again"
            ) from fault

    def _set_aside(self, path: Path) -> None:
        for raw in Lines(path):
            try:
                row = orjson.loads(raw)
            except orjson.JSONDecodeError:
                continue
            if type(row) is dict and is_batch_input(row):
                self._places[str(row["custom_id"])] = self._file.tell()
                self._file.write(raw)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()

    def body(self, custom_id: str) -> Body:
        """The request body with this custom_id; RowError where the input file has none."""
        if custom_id not in self._places:
            raise RowError(f"custom_id {shown(custom_id)} is not in {self.name}")
        self._file.seek(self._places[custom_id])
        body: Body = orjson.loads(self._file.readline())["body"]
        return body

    def read_answer(self, row: Body, line: int) -> LoggedCall:
        """Read one row of the output file, with its request."""
        answer = row["response"] or {}
        failed = is_failure(answer.get("status_code"), row.get("error"))
        body = answer.get("body")
        if type(body) is not dict:
            if not failed:
                raise RowError(f"the response's body is {shown(body)}, not a response body")
            body = {}
        request = self.body(as_text(row["custom_id"], "custom_id"))
        return call_of(line, row, request, body, failed, batch=True)
