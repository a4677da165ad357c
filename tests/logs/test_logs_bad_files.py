from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import BrokenRow, LoggedCall
from stillhouse.logs import START, detect, fingerprint, read

EXPECTED = (
    "a log is JSON lines of request/response pairs, stored completions or batch answers, or a "
    "table (CSV or JSON lines) with a prompt and an answer"
)
ROW = '{"prompt": "Grüße", "answer": "hello"}\n'


def refusal(path: Path) -> str:
    with pytest.raises(CallerError) as refused:
        detect(path)
    return str(refused.value).replace(str(path), "FILE")


@pytest.mark.parametrize("content", ["", "\n \n"])
@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_an_empty_file_is_refused(write: Any, content: str, name: str) -> None:
    assert refusal(write(content, name)) == f"FILE is empty; {EXPECTED}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04abc", f"FILE looks like a ZIP or Excel file; {EXPECTED}"),
        (b"PAR1\x15\x04", f"FILE looks like a Parquet file; {EXPECTED}"),
        (b"SQLite format 3\x00", f"FILE looks like an SQLite database; {EXPECTED}"),
        (b"<!doctype html>", f"FILE looks like HTML or XML; {EXPECTED}"),
        (b"abc\x00\x01\x02", f"FILE looks like binary data; {EXPECTED}"),
        (b"Dear all\nhello\n", f"FILE looks like plain text; {EXPECTED}"),
        (
            ROW.encode("utf-16"),
            "FILE is written in UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE > log.jsonl",
        ),
        (
            ROW.encode("utf-16-le"),
            "FILE is written in UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE > log.jsonl",
        ),
        (
            b"\n" + ROW.encode("latin-1"),
            "FILE is not UTF-8 (byte 0xFC on line 2); it looks like Latin-1, convert it: "
            "iconv -f WINDOWS-1252 -t UTF-8 FILE > log.jsonl",
        ),
        (
            b'[{"prompt": "a", "answer": "b"}]',
            "FILE is one JSON array; a log has one object a line: jq -c '.[]' FILE > log.jsonl",
        ),
        (
            b'{\n  "prompt": "a",\n  "answer": "b"\n}\n',
            "FILE has no JSON object in its first 4 lines; write one object a line: "
            "jq -c . FILE > log.jsonl",
        ),
        (
            b'{"object": "list", "data": []}',
            "FILE is a page of a list; a log has one object a line: "
            "jq -c '.data[]' FILE > log.jsonl",
        ),
        (
            b'{"colour": "red", "text": "wall"}',
            "FILE is no log that is known: its fields are colour, text, and none of them names the "
            f"answer; map them, as colour=answer, or give another file: {EXPECTED}",
        ),
        (
            b"colour,size\nred,3\n",
            "FILE is no log that is known: its fields are colour, size, and none of them names the "
            f"prompt or the answer; map them, as colour=prompt, or give another file: {EXPECTED}",
        ),
    ],
)
def test_what_is_no_log_is_told_what_it_looks_like(
    write: Any, content: bytes, sentence: str
) -> None:
    assert refusal(write(content)) == sentence


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert refusal(path) == "FILE does not exist; give the path of a log"
    with pytest.raises(CallerError, match="does not exist; give the path of a log"):
        fingerprint(path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "FILE is a directory; name the files in it, as FILE/*.jsonl"


def test_a_head_of_mixed_formats_is_refused(write: Any, pair: Any) -> None:
    path = write([pair, pair, {"prompt": "a", "answer": "b"}])
    assert refusal(path) == (
        "FILE mixes formats: a native pair on line 1 and a row of a table on line 3; "
        "split it into one file for each"
    )


def test_a_row_of_another_format_after_the_head_is_set_aside(read_all: Any, pair: Any) -> None:
    stray = {"custom_id": "a", "response": None, "error": None}
    rows = read_all([pair] * 100 + [stray, {"colour": "red"}, pair])
    assert [row for row in rows if isinstance(row, BrokenRow)] == [
        BrokenRow(
            101, "the row is an answer of a batch in a file of pairs", orjson.dumps(stray).decode()
        ),
        BrokenRow(102, "the row does not have the shape of a native pair", '{"colour":"red"}'),
    ]
    assert isinstance(rows[-1], LoggedCall)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "a", ', "the row is not JSON: unexpected end of data at column 16"),
        (b"[1, 2]", "the row is JSON, but no object"),
        (
            b'{"prompt": "caf\xe9", "answer": "b"}',
            "the row is not UTF-8 (byte 0xE9 at column 16); it looks like Latin-1",
        ),
        (b'{"prompt": "' + b"a" * 500 + b'"}', "the row is longer than 400 bytes"),
    ],
)
def test_a_broken_line_is_set_aside_and_the_rest_goes_on(
    write: Any, line: bytes, reason: str
) -> None:
    good = b'{"prompt": "a", "answer": "b"}\n'
    path = write(good * 100 + b"\n" + line + b"\n" + good)
    *_, broken, last = read(path, detect(path), START, 400)
    assert isinstance(broken, BrokenRow)
    assert (broken.line, broken.reason) == (102, reason)
    assert isinstance(last, LoggedCall)
    assert last.line == 103


def test_a_csv_record_in_another_encoding_is_set_aside(write: Any) -> None:
    rows = b"a,b\n" * 100 + b"caf\xe9,b\n" + b"a,b\n"
    path = write(b"prompt,answer\n" + rows, "log.csv")
    *_, broken, last = read(path, detect(path))
    assert broken == BrokenRow(
        102, "the row is not UTF-8 (byte 0xE9 at column 4); it looks like Latin-1", "café,b"
    )
    assert isinstance(last, LoggedCall)


def test_a_gzip_file_that_is_cut_off_is_refused_after_its_whole_rows(tmp_path: Path) -> None:
    rows = b"".join(b'{"prompt": "%d", "answer": "b"}\n' % (n * n) for n in range(40_000))
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(rows)[:-5000])
    reader = read(path, detect(path))
    read_so_far: list[object] = []
    with pytest.raises(CallerError) as refused:
        read_so_far.extend(reader)
    seen = reader.position.line
    assert seen == len(read_so_far) > 1000
    assert str(refused.value) == (
        f"{path} is damaged after line {seen}: its gzip stream is broken or cut off; fetch it again"
    )


def test_a_gzip_file_that_is_damaged_at_once_is_refused(write: Any, tmp_path: Path) -> None:
    path = write(gzip.compress(ROW.encode())[:20], "log.jsonl")
    assert refusal(path) == (
        "FILE is damaged after line 0: its gzip stream is broken or cut off; fetch it again"
    )


def test_a_file_that_vanishes_between_detection_and_reading_is_refused(write: Any) -> None:
    path = write(ROW)
    found = detect(path)
    path.unlink()
    with pytest.raises(CallerError, match="does not exist; give the path of a log"):
        read(path, found)
