"""The story of an import: a log is read, its usage decomposed and priced, its charges booked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from operator import attrgetter
from typing import Protocol

import msgspec
import orjson

from stillhouse.core.books import Charge
from stillhouse.core.errors import CallerError
from stillhouse.core.nouns import Noun
from stillhouse.core.traffic import (
    INPUT_LEAVES,
    OUTPUT_LEAVES,
    Attempt,
    BrokenRow,
    Evidence,
    Exchange,
    LoggedCall,
    Usage,
)
from stillhouse.ledger.book import PriceBook
from stillhouse.ledger.charging import charge
from stillhouse.ledger.usage import decompose

ROWS_A_BATCH = 5_000
"""Rows kept in one transaction: an interruption loses the work on so many at most, under a second.

Ids are scattered over their index, so a transaction writes most of its pages: fewer are faster.
"""

MOST_PICO = 10**18
"""A million USD: what costs more than this is no call, but a fault in the counts."""

_inputs, _outputs = attrgetter(*INPUT_LEAVES), attrgetter(*OUTPUT_LEAVES)

Position = tuple[int, int]
"""Bytes and lines before the next row of a log."""

Entry = tuple[Exchange, bytes, tuple[Charge, ...]]
"""An exchange, the digest of its content, its charges."""


class Log(Protocol):
    """A log that is open for reading: iterate once."""

    @property
    def position(self) -> Position:
        """Where the row after the last one starts."""
        ...

    @property
    def share_read(self) -> float:
        """Share of the file that has been read, 0 to 1."""
        ...

    def __iter__(self) -> Iterator[LoggedCall | BrokenRow]:
        """The rows from where the log was opened."""
        ...


class ImportState(Protocol):
    """How far a log was imported."""

    @property
    def position(self) -> Position:
        """Where to go on."""
        ...

    @property
    def finished(self) -> bool:
        """Whether its last row was reached."""
        ...


class Outcome(Protocol):
    """What became of a batch."""

    @property
    def new(self) -> int:
        """Entries that were not in the books."""
        ...

    @property
    def duplicates(self) -> int:
        """Entries that were."""
        ...

    @property
    def conflicts(self) -> Sequence[int]:
        """Places of entries whose id is in the books with another content."""
        ...


class Books(Protocol):
    """Where the traffic is kept."""

    def importing(self) -> AbstractContextManager[None]:
        """Hold the right to import; StoreError where another process holds it."""
        ...

    def import_state(self, fingerprint: str) -> ImportState | None:
        """How far the log with this fingerprint was imported."""
        ...

    def occurrences(self, fingerprint: str, digests: Iterable[bytes]) -> dict[bytes, int]:
        """How often rows without id and time were met so far in an unfinished import."""
        ...

    def add_batch(
        self,
        entries: Sequence[Entry],
        prices: Mapping[str, str],
        *,
        fingerprint: str,
        position: Position,
        occurrences: Mapping[bytes, int],
        finished: bool,
    ) -> Outcome:
        """Keep a batch and the place in the log after it, whole or not at all."""
        ...


SetAside = Callable[[int, str, str], None]
"""Takes a row that is not booked: line, reason, raw text."""


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did since it began or went on; times are None where no row has one.

    `rows` were read: each is new, a duplicate of one in the books, or quarantined. `unpriced` is
    how many of the readable ones have no price for all that they used. `resumed_from` is the
    number of lines that an earlier, interrupted import had done.
    """

    rows: int = 0
    new: int = 0
    duplicates: int = 0
    quarantined: int = 0
    unpriced: int = 0
    resumed_from: int = 0
    first_us: int | None = None
    last_us: int | None = None


@dataclass(slots=True)
class _Batch:
    """Rows on their way into the books."""

    entries: list[Entry] = field(default_factory=list)
    calls: list[LoggedCall] = field(default_factory=list)
    prices: dict[str, str] = field(default_factory=dict)
    occurrences: dict[bytes, int] = field(default_factory=dict)
    broken: list[BrokenRow] = field(default_factory=list)
    unpriced: int = 0


def import_log(
    read: Callable[[Position], Log],
    fingerprint: str,
    books: Books,
    prices: PriceBook,
    *,
    now_us: int,
    set_aside: SetAside,
    progress: Callable[[ImportSummary, float], None],
    rows_a_batch: int = ROWS_A_BATCH,
) -> ImportSummary:
    """Bring a log into the books: each call once, priced at its own instant.

    `read` opens the log at a position, `fingerprint` names its content. The same log imported
    again changes nothing; an interrupted import goes on after its last whole batch. A call without
    a time is priced at `now_us`, and its charges are estimates. `progress` hears the summary so
    far and the share of the file read.
    """
    with books.importing():
        state = books.import_state(fingerprint)
        start = (0, 0) if state is None or state.finished else state.position
        log = read(start)
        summary = ImportSummary(resumed_from=start[1])
        rows = iter(log)
        while some := list(islice(rows, rows_a_batch)):
            batch = _prepare(some, prices, now_us, lambda d: books.occurrences(fingerprint, d))
            for broken in batch.broken:
                set_aside(broken.line, broken.reason, broken.raw)
            outcome = books.add_batch(
                batch.entries,
                batch.prices,
                fingerprint=fingerprint,
                position=log.position,
                occurrences=batch.occurrences,
                finished=False,
            )
            for place in outcome.conflicts:
                set_aside(*_taken(batch.calls[place]))
            summary = _add(summary, batch, outcome)
            progress(summary, log.share_read)
        books.add_batch(
            (), {}, fingerprint=fingerprint, position=log.position, occurrences={}, finished=True
        )
    return summary


def _prepare(
    rows: Sequence[LoggedCall | BrokenRow],
    prices: PriceBook,
    now_us: int,
    met_before: Callable[[list[bytes]], dict[bytes, int]],
) -> _Batch:
    """Decompose, identify, price and charge the rows of a batch."""
    batch = _Batch()
    read: list[tuple[LoggedCall, Usage | None, bytes]] = []
    for row in rows:
        if isinstance(row, BrokenRow):
            batch.broken.append(row)
            continue
        try:
            usage = decompose(row.usage_body, row.dialect) if row.usage_body is not None else None
            read.append((row, usage, _content(row)))
        except CallerError as misfit:
            batch.broken.append(_refused(row, str(misfit)))
        except orjson.JSONEncodeError as fault:
            batch.broken.append(_refused(row, f"the text of the row cannot be kept: {fault}"))
    nameless = [content for call, _, content in read if not call.declared_id and call.at_us is None]
    if nameless:
        batch.occurrences = dict.fromkeys(nameless, 0) | met_before(nameless)
    for call, usage, content in read:
        _book(batch, call, usage, content, prices=prices, now_us=now_us)
    return batch


def _book(
    batch: _Batch,
    call: LoggedCall,
    usage: Usage | None,
    content: bytes,
    *,
    prices: PriceBook,
    now_us: int,
) -> None:
    """Give a call its identity and its charges."""
    exchange_id = _identity(call, content, batch.occurrences)
    attempt = Attempt(
        attempt_id=exchange_id,
        model=call.model,
        at_us=call.at_us,
        host=call.host,
        usage=usage,
        latency_ms=call.latency_ms,
        reported_cost=call.reported_cost,
        ok=call.ok,
        service_tier=call.service_tier,
        batch=call.batch,
        region=call.tags.region,
        evidence=Evidence.REPORTED if call.at_us is not None else Evidence.ESTIMATED,
    )
    price = prices.find(
        call.model,
        call.host,
        call.at_us if call.at_us is not None else now_us,
        service_tier=call.service_tier,
        batch=call.batch,
        region=call.tags.region,
    )
    charges = charge(attempt, price)
    costs = [booked.billed.pico for booked in charges if booked.billed is not None]
    if sum(costs) > MOST_PICO:
        reason = "the call would cost more than a million USD; correct its token counts"
        batch.broken.append(_refused(call, reason))
        return
    if price is not None and price.price_id not in batch.prices:
        batch.prices[price.price_id] = orjson.dumps(price, default=dict).decode()
    batch.unpriced += len(costs) < len(charges)
    exchange = Exchange(exchange_id, call.request, call.completion, (attempt,), call.tags)
    batch.entries.append((exchange, _with_counts(content, usage), charges))
    batch.calls.append(call)


def _content(call: LoggedCall) -> bytes:
    """Digest of what was asked of which model and answered; field by field, so that it stays the
    same when a noun grows a field."""
    request, completion = call.request, call.completion
    return blake2b(
        orjson.dumps(
            (
                [(message.role, message.text) for message in request.messages],
                request.tools,
                request.response_format,
                completion.text,
                completion.tool,
                completion.tool_arguments,
                call.model,
            )
        ),
        digest_size=16,
    ).digest()


def _identity(call: LoggedCall, content: bytes, occurrences: dict[bytes, int]) -> str:
    """Hexadecimal id of an exchange: from the log's own id, else from its content and time.

    Rows with neither are told apart by how often the same content came before in the file, because
    the same prompt answered twice in a table is two calls.
    """
    if call.declared_id:
        name = f"id {call.declared_id}".encode(errors="surrogatepass")
    elif call.at_us is not None:
        name = b"at %d %b" % (call.at_us, content)
    else:
        occurrences[content] += 1
        name = b"nth %d %b" % (occurrences[content], content)
    return blake2b(name, digest_size=16).hexdigest()


def _with_counts(content: bytes, usage: Usage | None) -> bytes:
    """Digest by which the same id with other content or other counts is recognised.

    Only totals are in it, so that it outlives finer rules for their parts.
    """
    if usage is None:
        return content
    totals = b"%b %d %d" % (content, sum(_inputs(usage)), sum(_outputs(usage)))
    return blake2b(totals, digest_size=16).digest()


def _refused(call: LoggedCall, reason: str) -> BrokenRow:
    return BrokenRow(call.line, reason, json.dumps(asdict(call), default=_plain))


def _plain(value: object) -> object:
    """What JSON has no word for: a noun as a map of its fields, anything else as text."""
    return msgspec.structs.asdict(value) if isinstance(value, Noun) else str(value)


def _taken(call: LoggedCall) -> tuple[int, str, str]:
    """What to say of a row whose id belongs to other content."""
    named = f"the id {call.declared_id!r}" if call.declared_id else "the same request and time"
    reason = f"{named} is in the books with another content; correct the log, or leave the row out"
    refused = _refused(call, reason)
    return refused.line, refused.reason, refused.raw


def _add(summary: ImportSummary, batch: _Batch, outcome: Outcome) -> ImportSummary:
    times = [call.at_us for call in batch.calls if call.at_us is not None]
    firsts = times if summary.first_us is None else [summary.first_us, *times]
    lasts = times if summary.last_us is None else [summary.last_us, *times]
    return replace(
        summary,
        rows=summary.rows + len(batch.calls) + len(batch.broken),
        new=summary.new + outcome.new,
        duplicates=summary.duplicates + outcome.duplicates,
        quarantined=summary.quarantined + len(batch.broken) + len(outcome.conflicts),
        unpriced=summary.unpriced + batch.unpriced,
        first_us=min(firsts, default=None),
        last_us=max(lasts, default=None),
    )
