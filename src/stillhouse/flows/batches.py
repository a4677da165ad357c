"""The story of a batch: made and fetched through the endpoint, each of its results booked once.

A batch is paid for by what its results say, however often they are fetched and by whomever: each
line becomes an exchange whose id follows from the line itself, so that the books know it again.
Quotas know it by the same id. A line is booked before its last byte leaves.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from stillhouse.core.calls import Ended, Fate, Headers, Started, UpstreamCall
from stillhouse.core.catalogue import Catalogue, Upstream, Wire
from stillhouse.core.errors import CallerError, ProviderError, StoreError, UpstreamError
from stillhouse.core.ports import Reply
from stillhouse.core.quotas import Denied, Need, Unit
from stillhouse.core.traffic import Attempt, Evidence, Tags, Usage
from stillhouse.dialects.batches import Lines, Result, read_result, with_results_here
from stillhouse.flows.booking import decompose_seen, price_of, reported_cost, sane
from stillhouse.flows.house import Caller, House
from stillhouse.flows.speaking import passed_on
from stillhouse.ledger.book import STANDARD_TIERS
from stillhouse.ledger.charging import charge, nothing_bought
from stillhouse.routing.catalogue import find_route

AT_ONCE = 64
"""Lines that are booked in one step; others have their turn between two steps."""

MAX_LINE_BYTES = 32 * 2**20
"""The longest line of results: so much of them is held back until its end is here."""

MAX_RESULTS_BYTES = 8 * 2**30
"""More than a vendor lets a file of results have."""

Once = Callable[[Sequence[str]], Awaitable[set[str]]]
"""Which of these names were never given before; from then on they were."""


class QuotaError(CallerError):
    """A quota says no: when asking again may help, and which it was."""

    def __init__(self, denied: Denied, sentence: str) -> None:
        super().__init__(sentence)
        self.retry_after_seconds = denied.retry_after_seconds


class Passing(NamedTuple):
    """A request about files or batches that has passed the door.

    `path` follows the upstream's base URL. `makes` says that it begins a batch, `results` names the
    file or the batch whose content it asks for. `base_url` is this endpoint's own, as the caller
    knows it.
    """

    method: str
    path: str
    body: bytes
    wire: Wire
    upstream: Upstream
    key_id: str
    tags: Tags
    headers: tuple[tuple[bytes, bytes], ...]
    caller_key: str
    makes: bool
    results: str
    base_url: bytes


async def pass_on(house: House, once: Once, asked: Passing, caller: Caller) -> None:
    """Pass a request on and its answer back; results are booked on their way.

    Raises StillhouseError where there is no answer to pass on, QuotaError where a batch may not be
    begun. After the caller's stream has begun, it means that the rest of it cannot be given.
    """
    if asked.makes:
        await _check_quotas(house, asked)
    if asked.results and house.keeper.blocked:
        raise StoreError(_UNBOOKED)
    own = asked.caller_key if asked.upstream.pass_caller_key else ""
    call = UpstreamCall(
        asked.wire,
        asked.method,
        asked.path,
        "",
        asked.body,
        bool(asked.results),
        asked.headers,
        own,
        MAX_RESULTS_BYTES if asked.results else 0,
    )
    reply = await house.providers[asked.upstream.name].send(call, lambda: None)
    if reply.status == 401 and not own:
        reply.cancel()
        raise ProviderError(
            f"the upstream {asked.upstream.name} refused this endpoint's own key; check its key_env"
        )
    if asked.results and reply.status < 300:
        await _pass_results(Results(house, once, asked), reply, caller)
        return
    body = await reply.read()
    if asked.wire is Wire.MESSAGES:
        body = with_results_here(body, asked.base_url)
    headers = _headers(reply)
    if asked.method != "HEAD":
        headers.append((b"content-length", b"%d" % len(body)))
    await caller.whole(reply.status, headers, body)


_UNBOOKED = "the journal cannot be written, so no results are given: free space on its disk"


async def _check_quotas(house: House, asked: Passing) -> None:
    """Begin no batch on an empty purse: what it will cost shows only in its results."""
    least = Need(1, 0)
    held = house.desk.try_hold(asked.key_id, asked.tags, "", least)
    if held is None:
        answered = await house.desk.hold(asked.key_id, asked.tags, "", least)
        if isinstance(answered, Denied):
            quota, sentence = answered.quota, answered.sentence
            if quota is not None and quota.unit is Unit.COST:
                sentence = (
                    f"the quota {quota.quota_id} is used up, so that no batch is begun; ask again "
                    "later or raise the quota"
                )
            raise QuotaError(answered, sentence)
        held = answered
    house.desk.settle(held, 0, 0)


def _headers(reply: Reply) -> Headers:
    return passed_on(reply.headers)


async def _pass_results(results: Results, reply: Reply, caller: Caller) -> None:
    """Pass a file on as it comes; what it says of calls is booked first."""
    begun = False
    try:
        async for chunk in reply.chunks():
            piece = await results.take(chunk)
            if caller.gone:
                return
            if piece:
                if not begun:
                    begun = True
                    await caller.begin(reply.status, _headers(reply))
                await caller.piece(piece)
        last = await results.end()
        if not begun:
            await caller.begin(reply.status, _headers(reply))
        await caller.end(last)
    finally:
        reply.cancel()


class Results:
    """Results on their way through: gives back what may leave, once it is booked.

    A file whose first line is no result of a batch is nothing that was bought, and passes as it is.
    """

    def __init__(self, house: House, once: Once, asked: Passing) -> None:
        self._house, self._once, self._asked = house, once, asked
        self._lines = Lines()
        self._are_results: bool | None = None
        self._names: dict[str, str] = {}

    async def take(self, chunk: bytes) -> bytes:
        """What may be passed on now that a chunk has come."""
        if self._are_results is False:
            return chunk
        lines = [*self._lines.feed(chunk)]
        if self._are_results is None:
            self._decide(lines)
            if self._are_results is False:
                return b"".join([*lines, self._lines.rest()])
        await self._book(lines)
        if self._lines.held > MAX_LINE_BYTES:
            raise UpstreamError(
                Fate.TOO_LARGE,
                f"the upstream {self._asked.upstream.name} sent a line of results with more than "
                f"{MAX_LINE_BYTES} bytes, which cannot be booked",
            )
        return b"".join(lines)

    async def end(self) -> bytes:
        """What is left once the body has ended."""
        rest = self._lines.rest()
        if rest and self._are_results is not False:
            await self._book([rest])
        return rest

    def _decide(self, lines: Sequence[bytes]) -> None:
        """Tell results from any other file by the first line that says something."""
        first = next((line for line in lines if line.strip()), None)
        if first is not None:
            self._are_results = read_result(first) is not None
        elif self._lines.held > MAX_LINE_BYTES or not self._lines.may_be_object():
            self._are_results = False

    async def _book(self, lines: Sequence[bytes]) -> None:
        found = [result for line in lines if (result := read_result(line)) is not None]
        for start in range(0, len(found), AT_ONCE):
            if self._house.keeper.blocked:
                raise StoreError(_UNBOOKED)
            await _to_its_end(self._keep(found[start : start + AT_ONCE]))

    async def _keep(self, results: Sequence[Result]) -> None:
        """Book some lines: asked of the quotas, written down, then settled where they are new."""
        desk, asked = self._house.desk, self._asked
        calls = [self._call(result) for result in results]
        holds = [
            desk.unreserved(asked.key_id, asked.tags, self._public(ended.attempt.model))
            for _, ended in calls
        ]
        counted = {
            ended.exchange_id: place
            for place, (_, ended) in enumerate(calls)
            if holds[place].counters
        }
        new: set[int] = set()
        try:
            if counted:
                new = {counted[name] for name in await self._once([*counted])}
            entries: list[Started | Ended] = []
            for place, (started, ended) in enumerate(calls):
                claims = holds[place].counters if place in new else ()
                entries += (started._replace(claims=claims), ended)
            await asyncio.gather(*map(self._house.keeper.close, entries))
        finally:
            for place, (_, ended) in enumerate(calls):
                desk.settle(holds[place], *(_used(ended) if place in new else (0, 0)))

    def _call(self, result: Result) -> tuple[Started, Ended]:
        """The two words of the journal for a line."""
        house, asked, seen = self._house, self._asked, result.seen
        upstream, now_us = asked.upstream, house.now_us()
        at_us = result.at_s * 1_000_000
        exchange_id = result_id(upstream, asked.results, result.own_id)
        begun = Attempt(
            exchange_id,
            seen.model,
            at_us if 0 < at_us <= now_us else now_us,
            upstream.host,
            service_tier="" if seen.service_tier in STANDARD_TIERS else seen.service_tier,
            batch=True,
            region=upstream.region,
        )
        usage, evidence, error = _usage(result)
        attempt = begun._replace(
            usage=usage,
            evidence=evidence,
            ok=result.ok and not seen.error,
            reported_cost=reported_cost(seen.reported_cost),
        )
        price = price_of(house, attempt) if result.ok else None
        started = Started(
            exchange_id,
            begun,
            result.wire,
            upstream.name,
            asked.tags,
            asked.key_id,
            price.price_id if price is not None else "",
        )
        ended = Ended(
            exchange_id,
            attempt,
            charge(attempt, price) if result.ok else nothing_bought(attempt),
            result.fate,
            result.status,
            usage_body=orjson.dumps(seen.usage_body).decode() if seen.usage_body else "",
            error=error,
            upstream=upstream.name,
        )
        return started, ended

    def _public(self, model: str) -> str:
        name = self._names.get(model)
        if name is None:
            catalogue = self._house.catalogue
            name = self._names[model] = public_name(catalogue, self._asked.upstream.name, model)
        return name


def _usage(result: Result) -> tuple[Usage | None, Evidence, str]:
    """What a line used, how well that is known, and what is wrong with it."""
    if not result.ok:
        return Usage(), Evidence.DERIVED, result.error
    if result.seen.usage_body is None:
        return None, Evidence.REPORTED, result.error
    try:
        return sane(decompose_seen(result.seen, result.wire)), Evidence.REPORTED, result.error
    except CallerError as misfit:
        return None, Evidence.ESTIMATED, str(misfit)


def _used(ended: Ended) -> tuple[int, int]:
    """Cost and tokens that a call is settled with."""
    usage = ended.attempt.usage
    tokens = usage.total_input_tokens + usage.total_output_tokens if usage is not None else 0
    return sum(c.billed.pico for c in ended.charges if c.billed is not None), tokens


def result_id(upstream: Upstream, results: str, own_id: str) -> str:
    """The exchange id of a line: the same whenever and wherever it is fetched.

    >>> acme = Upstream("acme", base_url="https://api.acme.com/v1")
    >>> result_id(acme, "file-1", "r1") == result_id(acme, "file-1", "r1")
    True
    >>> result_id(acme, "file-1", "r1") == result_id(acme, "file-2", "r1")
    False
    """
    named = "\n".join((upstream.base_url.rstrip("/"), results, own_id))
    return blake2b(named.encode("utf-8", "replace"), digest_size=16).hexdigest()


_DATED = re.compile(r"-(?:20\d{2}-\d{2}-\d{2}|20\d{6})$")


def public_name(catalogue: Catalogue, upstream: str, model: str) -> str:
    """Under which public name a model's calls count, found from what its upstream calls it.

    >>> from stillhouse.core.catalogue import Deployment, Route
    >>> fast = Route("fast", (Deployment("openai", "gpt-5-mini"),))
    >>> public_name(Catalogue({}, {"fast": fast}), "openai", "gpt-5-mini-2026-08-07")
    'fast'
    """
    for name in (model, _DATED.sub("", model)):
        for route in catalogue.routes.values():
            if any(d.upstream == upstream and d.model == name for d in route.deployments):
                return route.name
    found = find_route(catalogue, model)
    return found.name if found is not None else model


async def _to_its_end(story: Coroutine[Any, Any, None]) -> None:
    """Tell a story to its end, even where whoever waits for it is cut off."""
    task = asyncio.ensure_future(story)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
