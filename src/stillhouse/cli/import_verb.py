"""`stillhouse import`: logs of LLM calls go into the books."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from stillhouse import wiring
from stillhouse.cli.terminal import as_json, print_json, progress, say
from stillhouse.core.errors import CallerError
from stillhouse.flows.import_log import Books, ImportSummary, Log, Position, import_log
from stillhouse.ledger.book import PriceBook
from stillhouse.pages.numerals import plural

ASIDE = ".quarantine.jsonl"
"""What is put behind a log's name for the file of the rows that were set aside."""


class Quarantine:
    """The rows of a log that are not booked, in a file beside it that is made when needed.

    Each line is an object of `line`, `reason` and `raw`, the row as it was.
    """

    def __init__(self, log: Path) -> None:
        self.path = log.with_name(log.name + ASIDE)
        self.first = ""

    def begin(self, done: int) -> None:
        """Forget an earlier import; where one was interrupted, keep what its `done` lines gave."""
        with self._translated():
            old = self.path.read_bytes().splitlines(True) if done and self.path.exists() else []
            self.path.unlink(missing_ok=True)
            if kept := [row for row in old if _is_among(row, done)]:
                self.path.write_bytes(b"".join(kept))

    def add(self, line: int, reason: str, raw: str) -> None:
        """Set a row aside at once, for the place in the log is kept right after."""
        self.first = self.first or f"line {line}: {reason}"
        row = json.dumps({"line": line, "reason": reason, "raw": raw}, ensure_ascii=False)
        with self._translated(), self.path.open("ab", buffering=0) as file:
            file.write(row.encode(errors="replace") + b"\n")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            raise CallerError(
                f"rows that cannot be booked are set aside in {self.path}, which cannot be written "
                f"({fault.strerror}); make room there, or copy the log to another directory"
            ) from fault


def _is_among(row: bytes, done: int) -> bool:
    """Whether a row of a quarantine file is about one of the log's first lines."""
    try:
        return int(json.loads(row)["line"]) <= done
    except (ValueError, KeyError, TypeError):  # cut off when the import was
        return False


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one log."""

    log: wiring.LogFile
    summary: ImportSummary
    quarantine: Quarantine

    @property
    def complaint(self) -> str:
        """Why nothing of the log is in the books; empty where something is."""
        rows, path = self.summary.rows, self.log.path
        if rows > self.summary.quarantined or self.summary.resumed_from:
            return ""
        if not rows:
            return f"{path} has no rows; give a log of LLM calls"
        return (
            f"no row of {path} can be booked ({self.quarantine.first}); correct the log, whose "
            f"rows are in {self.quarantine.path} with their reasons"
        )


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--set",
    "constants",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Give a field of a table the same value in every row; @FILE takes the file's text.",
)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="COLUMN=FIELD",
    help="Say which field a table's column holds; `ignore` leaves the column out.",
)
@click.option(
    "--prices",
    type=click.Path(path_type=Path),
    help="Your own dated prices, a YAML file; they win over the catalogue's.",
)
@as_json
@click.pass_obj
def verb(
    database: str,
    files: tuple[Path, ...],
    constants: tuple[str, ...],
    mapping: tuple[str, ...],
    prices: Path | None,
    as_json: bool,
) -> None:
    """Bring logs of LLM calls into the books, each call once and priced at its own instant.

    The format is told from the first rows: request/response pairs (OpenAI chat and Responses,
    Anthropic Messages), stored completions, batch files, or a table (CSV or JSON lines), each also
    gzipped. Importing again changes nothing, and an interrupted import goes on where it stopped.
    Rows that cannot be read are set aside in FILE.quarantine.jsonl with line and reason.

    \b
    Examples:
      stillhouse import calls.jsonl
      stillhouse import logs/*.jsonl.gz --prices our-prices.yaml
      stillhouse import may_output.jsonl may_input.jsonl
      stillhouse import answers.csv --map utterance=prompt --map label=answer \\
          --set model=gpt-4o-mini --set system=@prompt.md --set task=intents
      stillhouse --db books.db import calls.jsonl --json
    """
    now_us = wiring.SystemClock().now_us()
    found = wiring.recognise_logs(
        _without_quarantine(files),
        mapping=dict(_halves(pair, "--map", "column=field", last=True) for pair in mapping),
        constants={name: _value(name, text) for name, text in map(_setting, constants)},
    )
    book = wiring.price_book(prices, now_us)
    done: list[Imported] = []
    with wiring.open_store(database) as store:
        place = store.place
        for log in found:
            imported = _import(log, store, book, now_us)
            done.append(imported)
            if not (as_json or imported.complaint):
                _show(imported)
    complaints = [imported.complaint for imported in done if imported.complaint]
    if len(complaints) == len(done):
        raise CallerError(complaints[0])
    for complaint in complaints:
        say(complaint)
    if as_json:
        print_json(_report(place, done))
    else:
        click.echo(f"The books are in {place}; next: stillhouse ledger, stillhouse tasks")


def _import(log: wiring.LogFile, books: Books, prices: PriceBook, now_us: int) -> Imported:
    """Import one log under a bar."""
    say(log.format.sentence)
    quarantine = Quarantine(log.path)

    def read(start: Position) -> Log:
        quarantine.begin(done=start[1])
        return log.open(start)

    with progress(log.path.name) as bar:

        def hear(summary: ImportSummary, share: float) -> None:
            aside = f", {summary.quarantined:,} set aside" if summary.quarantined else ""
            bar(share, f"{summary.rows:,} rows{aside}")

        gc.disable()  # rows make no cycles; walking each batch for some costs a tenth of the time
        try:
            summary = import_log(
                read,
                log.fingerprint(),
                books,
                prices,
                now_us=now_us,
                set_aside=quarantine.add,
                progress=hear,
            )
        finally:
            gc.enable()
    return Imported(log, summary, quarantine)


def _show(imported: Imported) -> None:
    """Say what became of a log."""
    summary = imported.summary
    click.echo(f"{imported.log.path}")
    if summary.resumed_from:
        click.echo(f"  went on after line {summary.resumed_from:,}, where an import had stopped")
    counts = f"{summary.new:,} new, {plural(summary.duplicates, 'duplicate')}"
    click.echo(f"  {plural(summary.rows, 'row')}: {counts}")
    if summary.first_us is not None and summary.last_us is not None:
        click.echo(f"  from {minute(summary.first_us)} to {minute(summary.last_us)} UTC")
    if summary.quarantined:
        click.echo(
            f"  {plural(summary.quarantined, 'row')} set aside in {imported.quarantine.path}, "
            f"the first: {imported.quarantine.first}"
        )
    if summary.unpriced:
        click.echo(f"  {plural(summary.unpriced, 'row')} without a price: {_advice(imported)}")


def _advice(imported: Imported) -> str:
    """What to do about rows that have no price: what is booked is never priced again."""
    layout = imported.log.format.layout
    if layout is not None and "model" not in {*layout.columns, *layout.constants}:
        remedy = "no column names the model; give it with --set model=NAME"
    else:
        remedy = "`stillhouse ledger` names the models; give their prices with --prices FILE"
    return f"{remedy}, and import into a new database (--db)"


def _report(place: str, done: Sequence[Imported]) -> dict[str, Any]:
    totals = ("rows", "new", "duplicates", "quarantined", "unpriced")
    return {
        "database": place,
        **{name: sum(getattr(imported.summary, name) for imported in done) for name in totals},
        "files": [_file_report(imported) for imported in done],
    }


def _file_report(imported: Imported) -> dict[str, Any]:
    summary, quarantined = imported.summary, imported.summary.quarantined
    return {
        "file": str(imported.log.path),
        "format": imported.log.format.name,
        "recognised_as": imported.log.format.sentence,
        "rows": summary.rows,
        "new": summary.new,
        "duplicates": summary.duplicates,
        "quarantined": quarantined,
        "quarantine_file": str(imported.quarantine.path) if quarantined else None,
        "first_reason": imported.quarantine.first or None,
        "unpriced": summary.unpriced,
        "resumed_from": summary.resumed_from,
        "first_at": instant(summary.first_us),
        "last_at": instant(summary.last_us),
    }


def _without_quarantine(files: Sequence[Path]) -> list[Path]:
    """The files named, each once, less those that an earlier import wrote beside its log."""
    logs = [path for path in dict.fromkeys(files) if not path.name.endswith(ASIDE)]
    if not logs:
        raise CallerError(
            f"{files[0]} holds rows that an import set aside; correct them in the log itself and "
            "import that"
        )
    return logs


def _halves(pair: str, option: str, form: str, last: bool = False) -> tuple[str, str]:
    before, sign, after = pair.rpartition("=") if last else pair.partition("=")
    if not (before and sign and after):
        raise CallerError(f"{option} is given {pair!r}; write it as {form}")
    return before, after


def _setting(pair: str) -> tuple[str, str]:
    return _halves(pair, "--set", "field=value, or field=@file")


def _value(name: str, text: str) -> str:
    """The value of a field, or the text of the file that it names."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8").rstrip("\n")
    except OSError as fault:
        raise CallerError(
            f"the file of --set {name}={text} cannot be read ({fault.strerror}); correct its path"
        ) from fault
    except UnicodeDecodeError as fault:
        raise CallerError(
            f"the file of --set {name}={text} is not UTF-8; convert it with iconv"
        ) from fault


def minute(at_us: int) -> str:
    """An instant as people read it, in UTC.

    >>> minute(1790427820617576)
    '2026-09-26 13:03'
    """
    return f"{_moment(at_us):%Y-%m-%d %H:%M}"


def instant(at_us: int | None) -> str | None:
    """An instant for JSON."""
    return None if at_us is None else _moment(at_us).isoformat()


def _moment(at_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
