"""Reading traffic back as nouns, in time order, a row at a time: memory stays flat."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import orjson

from stillhouse.core.books import CostSource
from stillhouse.core.money import Paid
from stillhouse.core.traffic import (
    INPUT_LEAVES,
    LEAVES,
    OUTPUT_LEAVES,
    Attempt,
    AttemptKind,
    Completion,
    Evidence,
    Exchange,
    Message,
    Request,
    Tags,
    Usage,
)
from stillhouse.store.connection import Database
from stillhouse.store.interning import HOLES, REMEMBERED, chunks


class TaskRow(NamedTuple):
    """One exchange of a task: the variable text that was asked, the answer, what it took.

    It is of all the calls that the exchange took; the model is the one that answered.
    `billed_pico` is None where any part of them has no price: a part is not its cost. `audits` is
    the exchange of which the row is evidence: itself, or the one that a shadow call audits; empty
    where a student had a part in who answered and no coin had chosen the row.
    """

    exchange_id: str
    at_us: int | None
    text: str
    answer: str
    tool: str
    tool_arguments: str
    model: str
    latency_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    billed_pico: int | None
    audits: str = ""


READ_AHEAD = 200
"""Exchanges whose texts are fetched together."""

MOST_CHARACTERS = 2**25
"""Of texts that are held together, however long callers make them; one exchange may have more."""

_Item = TypeVar("_Item")
Rows = list[tuple[Any, ...]]

EXCHANGE_COLUMNS = (
    "e.id, lower(hex(e.exchange_id)), e.messages, e.tools, e.response_format, e.answer, e.tool, "
    "e.tool_arguments, e.finish, e.extra, e.tag_set"
)
ATTEMPT_COLUMNS = (
    "a.id, a.attempt_id, a.route, a.at_us, a.ok, a.latency_ms, a.reported_pico, "
    "a.reported_currency, " + ", ".join(f"a.{leaf}" for leaf in LEAVES)
)
_TOTALS = (
    f"sum({' + '.join(f'a.{leaf}' for leaf in INPUT_LEAVES)}), "
    f"sum({' + '.join(f'a.{leaf}' for leaf in OUTPUT_LEAVES)}), "
    "CASE WHEN count(a.id) > 0 THEN (SELECT CASE WHEN count(*) = count(billed_pico) "
    "THEN coalesce(sum(billed_pico), 0) END FROM charges "
    "WHERE attempt IN (SELECT id FROM attempts WHERE exchange = e.id)) END"
)
_ANSWERED_BY = (
    "(SELECT {} FROM attempts m JOIN routes r ON r.id = m.route WHERE m.exchange = e.id "
    "ORDER BY m.ok DESC, m.id DESC LIMIT 1)"
)
_FILTERS = {
    "task": "e.id IN (SELECT exchange FROM task_rows JOIN tasks t ON t.id = task_rows.task "
    "WHERE name = ?)",
    "model": "EXISTS (SELECT 1 FROM attempts m JOIN routes r ON r.id = m.route "
    "WHERE m.exchange = e.id AND model = ?)",
    "since_us": "e.at_us >= ?",
    "until_us": "e.at_us < ?",
}


class Reading:
    """The reading side of the traffic."""

    _database: Database

    def exchanges(
        self,
        *,
        task: str | None = None,
        model: str | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
    ) -> Iterable[Exchange]:
        """Exchanges in time order (those without a time first, as they came).

        They are streamed, and read anew by every `iter()`; texts that repeat are one object in
        memory. `task` is the name of a task that rows were assigned to; `since_us` is inclusive,
        `until_us` is not.
        """
        given = {"task": task, "model": model, "since_us": since_us, "until_us": until_us}
        return Exchanges(
            self._database, {name: value for name, value in given.items() if value is not None}
        )

    def task_rows(self, task: str) -> Iterator[TaskRow]:
        """Stream the rows of a task in time order.

        What a student answered is none of them: nobody learns from that. What the teacher was asked
        to audit a student is.
        """
        for row in self._database.rows(
            "SELECT lower(hex(e.exchange_id)), e.at_us, slot, e.answer, e.tool, e.tool_arguments, "
            f"coalesce({_ANSWERED_BY.format('model')}, ''), sum(a.latency_ms), {_TOTALS}, "
            "CASE WHEN c.exchange IS NULL OR (c.about IS NULL AND c.coin = 1) "
            "THEN lower(hex(e.exchange_id)) ELSE coalesce(lower(hex(c.about)), '') END "
            "FROM tasks t JOIN task_rows ON task_rows.task = t.id "
            "JOIN exchanges e ON e.id = task_rows.exchange "
            "LEFT JOIN consultations c ON c.exchange = e.id "
            "LEFT JOIN attempts a ON a.exchange = e.id "
            f"WHERE name = ? AND coalesce({_ANSWERED_BY.format('kind')}, '') <> ? "
            "GROUP BY e.id, task_rows.exchange, c.exchange ORDER BY e.at_us NULLS FIRST, e.id",
            task,
            AttemptKind.STUDENT.value,
        ):
            yield TaskRow(*row)


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Exchanges that pass the filters, read from the file whenever they are iterated."""

    _database: Database
    _wanted: Mapping[str, str | int]

    def __iter__(self) -> Iterator[Exchange]:
        conditions = ["TRUE", *(_FILTERS[name] for name in self._wanted)]
        rows = self._database.rows(
            f"SELECT {EXCHANGE_COLUMNS}, {ATTEMPT_COLUMNS} FROM exchanges e "
            "LEFT JOIN attempts a ON a.exchange = e.id "
            f"WHERE {' AND '.join(conditions)} ORDER BY e.at_us NULLS FIRST, e.id, a.id",
            *self._wanted.values(),
        )
        recall = Recall(self._database)
        for some in recall.portions(rows, READ_AHEAD):
            yield from map(recall.exchange, some)


class Recall:
    """Turns rows back into nouns, remembering what repeats."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[Hashable, Any] = {}
        self._characters = 0

    def _once(self, table: str, number: int, make: Callable[..., Any]) -> Any:
        key = (table, number)
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            (row,) = self._database.rows(f"SELECT * FROM {table} WHERE id = ?", number)
            self._known[key] = make(*row[1:])
        return self._known[key]

    def portions(self, rows: Iterable[tuple[Any, ...]], most: int) -> Iterator[list[Rows]]:
        """Rows by exchange, so many at a time as may be held together, with their texts fetched."""
        exchanges = (list(of_one) for _, of_one in groupby(rows, key=itemgetter(0)))
        for some in _cut(exchanges, most, lambda of_one: len(of_one[0][2]) + len(of_one[0][5])):
            texts = {id(of_one): _texts_in(of_one[0][2]) for of_one in some}
            new = {n for found in texts.values() for n in found if ("texts", n) not in self._known}
            sizes = dict(self._of_texts("length(body)", new))
            for part in _cut(some, most, partial(_size, texts, sizes)):
                self._learn({n for of_one in part for n in texts[id(of_one)]})
                yield part

    def _learn(self, numbers: set[int]) -> None:
        """Fetch texts together, not one by one, and forget others where there are too many."""
        if len(self._known) + len(numbers) > REMEMBERED or self._characters > MOST_CHARACTERS:
            self._known.clear()
            self._characters = 0
        for number, body in self._of_texts("body", numbers):
            self._known["texts", number] = body
            self._characters += len(body)

    def _of_texts(self, what: str, numbers: set[int]) -> Iterator[tuple[int, Any]]:
        for some in chunks([n for n in numbers if ("texts", n) not in self._known]):
            yield from self._database.rows(
                f"SELECT id, {what} FROM texts WHERE id IN {HOLES}", *some
            )

    def text(self, number: int | None) -> str:
        """The text of a row of `texts`; empty for None."""
        body: str = "" if number is None else self._once("texts", number, lambda _, body: body)
        return body

    def tags(self, number: int) -> Tags:
        """The tags of a row of `tag_sets`."""
        tags: Tags = self._once("tag_sets", number, Tags)
        return tags

    def route(self, number: int) -> dict[str, Any]:
        """The fields of an attempt that stand in a row of `routes`."""

        def fields(*columns: Any) -> dict[str, Any]:
            model, host, kind, tier, region, batch, evidence = columns
            return {
                "model": model,
                "host": host,
                "kind": AttemptKind(kind),
                "service_tier": tier,
                "region": region,
                "batch": bool(batch),
                "evidence": Evidence(evidence),
            }

        found: dict[str, Any] = self._once("routes", number, fields)
        return found

    def account(self, number: int) -> dict[str, Any]:
        """The fields of a charge that stand in a row of `accounts`; `currency` among them."""

        def fields(*columns: Any) -> dict[str, Any]:
            leaf, unit, currency, cost_source, evidence, price_id = columns
            return {
                "leaf": leaf,
                "unit": unit,
                "currency": currency,
                "cost_source": CostSource(cost_source),
                "evidence": Evidence(evidence),
                "price_id": price_id or "",
            }

        found: dict[str, Any] = self._once("accounts", number, fields)
        return found

    def tools(self, number: int | None) -> tuple[str, ...]:
        """Names of the tools on offer."""
        return tuple(orjson.loads(self.text(number))) if number is not None else ()

    def conversation(self, messages: str) -> tuple[Message, ...]:
        """The messages behind their JSON: a number stands for a stored text."""
        return tuple(
            Message(role, self.text(text) if isinstance(text, int) else text)
            for role, text in orjson.loads(messages)
        )

    def exchange(self, rows: list[tuple[Any, ...]]) -> Exchange:
        """One exchange from its rows, one for each attempt."""
        facts = rows[0][1:11]
        exchange_id, messages, tools, form, text, tool, arguments, finish, extra, tags = facts
        return Exchange(
            exchange_id,
            Request(self.conversation(messages), self.tools(tools), self.text(form)),
            Completion(text, tool, arguments, finish),
            tuple(self.attempt(exchange_id, row[12:]) for row in rows if row[11] is not None),
            self.tags(tags),
            orjson.loads(extra) if extra else {},
        )

    def attempt(self, exchange_id: str, columns: tuple[Any, ...]) -> Attempt:
        """An attempt from its columns, the row number left out (see `ATTEMPT_COLUMNS`)."""
        attempt_id, route, at_us, ok, latency_ms, pico, currency, *leaves = columns
        return Attempt(
            attempt_id=attempt_id or exchange_id,
            at_us=at_us,
            usage=None if leaves[0] is None else Usage(*leaves),
            latency_ms=latency_ms,
            reported_cost=None if pico is None else Paid(pico, currency),
            ok=bool(ok),
            **self.route(route),
        )


def _texts_in(messages: str) -> list[int]:
    """The numbers of the stored texts in the JSON of a conversation."""
    return [text for _, text in orjson.loads(messages) if isinstance(text, int)]


def _size(texts: Mapping[int, list[int]], sizes: Mapping[int, int], of_one: Rows) -> int:
    return sum(sizes.get(number, 0) for number in texts[id(of_one)])


def _cut(
    items: Iterable[_Item], most: int, size_of: Callable[[_Item], int]
) -> Iterator[list[_Item]]:
    """Cut a stream into parts of so many items and characters; each has one at least.

    >>> list(_cut("abcde", 2, lambda one: MOST_CHARACTERS if one == "c" else 1))
    [['a', 'b'], ['c'], ['d', 'e']]
    """
    part: list[_Item] = []
    characters = 0
    for one in items:
        size = size_of(one)
        if part and (len(part) == most or characters + size > MOST_CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(one)
        characters += size
    if part:
        yield part
