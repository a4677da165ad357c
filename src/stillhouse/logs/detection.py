"""Tells the format of a recorded file from its first rows, and says it in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from stillhouse.core.errors import CallerError
from stillhouse.logs.batch import companion_of, is_batch_input, is_batch_output
from stillhouse.logs.bodies import dialect_of
from stillhouse.logs.content import Body
from stillhouse.logs.delimited import delimiter_of, header_of
from stillhouse.logs.lines import Lines
from stillhouse.logs.pairs import is_pair
from stillhouse.logs.stored import is_stored
from stillhouse.logs.table import Layout, layout_of, listed

PAIRS = "pairs"
STORED = "stored completions"
BATCH = "batch"
BATCH_INPUT = "batch input"
TABLE = "table"

ROW_TITLES = {
    PAIRS: "a native pair",
    STORED: "a stored completion",
    BATCH: "an answer of a batch",
    BATCH_INPUT: "a request of a batch",
    TABLE: "a row of a table",
}

_EXPECTED = (
    "a log is JSON lines of request/response pairs, stored completions or batch answers, "
    "or a table (CSV or JSON lines) with a prompt and an answer"
)
_HEAD_LINES = 100
_HEAD_BYTES = 2**22
_MAGIC = {
    b"PK\x03\x04": "a ZIP or Excel file",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x89PNG": "a picture",
    b"<": "HTML or XML",
}


@dataclass(frozen=True, slots=True)
class LogFormat:
    """What a file was recognised as: a name, and a sentence for the person who imports it.

    A table has a `layout`; the output of a batch has a `companion`, the batch's input file.
    """

    name: str
    sentence: str
    layout: Layout | None = None
    companion: Path | None = None

    @property
    def has_answers(self) -> bool:
        """Whether the file can be read by itself: the input of a batch goes with its output."""
        return self.name != BATCH_INPUT


def detect(
    path: Path,
    mapping: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    among: Sequence[Path] = (),
) -> LogFormat:
    """Recognise a file's format from its first rows.

    `mapping` gives a table's columns their fields (`{"utterance": "prompt"}`, or `"ignore"`),
    `constants` the fields that are the same in every row (`{"model": "gpt-5"}`). `among` are the
    files named with this one: an input file of a batch is looked for there. Raises CallerError
    where the file is no log, is empty, mixes formats or has another encoding than UTF-8.
    """
    head = _head_of(path)
    _check_text(path, head)
    first = next(line.strip() for line in head if line.strip())
    if first.startswith(b"["):
        raise CallerError(
            f"{path} is one JSON array; a log has one object a line: jq -c '.[]' {path} > log.jsonl"
        )
    if first.startswith(b"{"):
        return _detect_json(path, head, mapping or {}, constants or {}, among)
    return _detect_delimited(path, head, mapping or {}, constants or {})


def kind_of(row: object) -> str:
    """The format that a JSON value is a row of, by its fields; empty where it may be a table's.

    >>> kind_of({"request": {}, "response": {}}), kind_of({"text": "Hi"})
    ('pairs', '')
    """
    if type(row) is not dict:
        return ""
    if is_pair(row):
        return PAIRS
    if is_batch_output(row):
        return BATCH
    if is_batch_input(row):
        return BATCH_INPUT
    return STORED if is_stored(row) else ""


def _head_of(path: Path) -> list[bytes]:
    head = []
    lines = Lines(path, longest=_HEAD_BYTES)
    for line in lines:
        head.append(line)
        if lines.line >= _HEAD_LINES or lines.offset >= _HEAD_BYTES:
            break
    return head


def _check_text(path: Path, head: Sequence[bytes]) -> None:
    """Raise CallerError unless the head is text in UTF-8."""
    text = b"".join(head)
    for magic, title in _MAGIC.items():
        if text.startswith(magic):
            raise CallerError(f"{path} looks like {title}; {_EXPECTED}")
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in text[:2]:
        raise CallerError(
            f"{path} is written in UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {path} > log.jsonl"
        )
    if b"\x00" in text:
        raise CallerError(f"{path} looks like binary data; {_EXPECTED}")
    if not text.strip():
        raise CallerError(f"{path} is empty; {_EXPECTED}")
    for number, line in enumerate(head, 1):
        try:
            line.decode()
        except UnicodeDecodeError as fault:
            if len(line) > _HEAD_BYTES:
                continue  # The line was cut, perhaps inside a character.
            raise CallerError(
                f"{path} is not UTF-8 (byte 0x{line[fault.start]:02X} on line {number}); it looks "
                f"like Latin-1, convert it: iconv -f WINDOWS-1252 -t UTF-8 {path} > log.jsonl"
            ) from None


def _objects(head: Iterable[bytes]) -> Iterator[tuple[int, Body]]:
    for number, line in enumerate(head, 1):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if type(row) is dict and row:
            yield number, row


def _detect_json(
    path: Path,
    head: Sequence[bytes],
    mapping: Mapping[str, str],
    constants: Mapping[str, str],
    among: Sequence[Path],
) -> LogFormat:
    rows = list(_objects(head))
    if not rows:
        raise CallerError(
            f"{path} has no JSON object in its first {len(head)} lines; write one object a line: "
            f"jq -c . {path} > log.jsonl"
        )
    if rows[0][1].get("object") == "list":
        raise CallerError(
            f"{path} is a page of a list; a log has one object a line: "
            f"jq -c '.data[]' {path} > log.jsonl"
        )
    first_of = {kind_of(row) or TABLE: number for number, row in reversed(rows)}
    names = dict.fromkeys(name for _, row in rows if not kind_of(row) for name in row)
    if len(first_of) > 1 and TABLE in first_of and not layout_of(names, {}, {}).complete:
        del first_of[TABLE]  # Stray rows: each is set aside when it is read.
    if len(first_of) > 1:
        found = sorted((number, kind) for kind, number in first_of.items())
        told = " and ".join(f"{ROW_TITLES[kind]} on line {number}" for number, kind in found[:2])
        raise CallerError(f"{path} mixes formats: {told}; split it into one file for each")
    (kind,) = first_of
    if kind == TABLE:
        return _table(path, names, mapping, constants, "")
    if mapping or constants:
        raise CallerError(
            f"{path} holds {kind}, whose fields are known; columns are mapped and set in tables "
            "only, so import it in a call of its own"
        )
    return _known(path, kind, rows, among)


def _known(
    path: Path, kind: str, rows: Sequence[tuple[int, Body]], among: Sequence[Path]
) -> LogFormat:
    if kind == PAIRS:
        bodies = [(row["request"], row.get("response")) for _, row in rows if is_pair(row)]
        titles = sorted({dialect_of(a, b if type(b) is dict else {}).title for a, b in bodies})
        return LogFormat(kind, f"{path.name} holds native pairs ({' and '.join(titles)} bodies)")
    if kind == BATCH:
        others = [other for other in among if other != path and _is_input(other)]
        companion = companion_of(path, others)
        sentence = f"{path.name} is the output of an OpenAI batch with the input {companion.name}"
        return LogFormat(kind, sentence, companion=companion)
    if kind == BATCH_INPUT:
        return LogFormat(kind, f"{path.name} is the input of an OpenAI batch, read with its output")
    return LogFormat(kind, f"{path.name} holds OpenAI stored completions")


def _is_input(path: Path) -> bool:
    return any(kind_of(row) == BATCH_INPUT for _, row in _objects(_head_of(path)))


def _detect_delimited(
    path: Path, head: Sequence[bytes], mapping: Mapping[str, str], constants: Mapping[str, str]
) -> LogFormat:
    texts = [line.decode(errors="replace") for line in head]
    delimiter = delimiter_of(texts[0])
    header = header_of(texts, delimiter) if delimiter else ()
    if len(header) < 2:
        raise CallerError(f"{path} looks like plain text; {_EXPECTED}")
    named = [name for name in header if name]
    twice = next((name for name in named if named.count(name) > 1), "")
    if twice:
        raise CallerError(f"{path} has two columns named {twice!r}; rename one of them")
    return _table(path, header, mapping, constants, delimiter)


def _table(
    path: Path,
    names: Iterable[str],
    mapping: Mapping[str, str],
    constants: Mapping[str, str],
    delimiter: str,
) -> LogFormat:
    names = tuple(names)
    try:
        layout = layout_of(names, mapping, constants, delimiter)
    except CallerError as fault:
        raise CallerError(f"{path}: {fault}") from None
    if not layout.complete:
        missing = [
            field
            for field in ("prompt", "answer")
            if field not in layout.columns and field not in layout.constants
        ]
        raise CallerError(
            f"{path} is no log that is known: its fields are {listed(names)}, and none of them "
            f"names the {' or the '.join(missing)}; map them, as {names[0]}={missing[0]}, or give "
            f"another file: {_EXPECTED}"
        )
    unused = [name for name in names if name not in layout.columns.values()]
    told = [
        "read as " + ", ".join(f"{field}: {column}" for field, column in layout.columns.items()),
        *([f"set {', '.join(layout.constants)}"] if layout.constants else []),
        *([f"not used {listed(unused, 8)}"] if unused else []),
    ]
    form = "CSV" if delimiter else "JSON lines"
    return LogFormat(TABLE, f"{path.name} is a table in {form}; {'; '.join(told)}", layout)
