"""The story of an answer that a student gives: journalled, rendered as the teacher's would be."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple

from stillhouse.core.calls import Ended, Fate, Headers, Started
from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.learning import AnswerShape
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Attempt, AttemptKind, Completion, Evidence, Usage
from stillhouse.dialects.decision_reading import odds_of
from stillhouse.dialects.decisions import inquiry, render_answers
from stillhouse.dialects.render import render_body, render_stream, usage_body
from stillhouse.flows.booking import price_of
from stillhouse.flows.consulting import Matter, Ruling
from stillhouse.flows.house import Asked, Caller, House
from stillhouse.ledger.charging import charge, nothing_bought

HOST = "student"
"""Where students answer: a host of its own in the books, without a price."""

_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_DECISIONS = (Wire.DECISIONS, Wire.SYSTEMONE)
_LOGPROBS = re.compile(
    rb'"(?:top_)?logprobs"\s*:\s*(?:true|[1-9])|"message\.output_text\.logprobs"'
)
_ELSEWHERE = re.compile(rb'"(?:previous_response_id|conversation)"\s*:\s*["{]')
_LONG_CHARACTERS = 200
_REMEMBERED = 4096


class Written(NamedTuple):
    """A student's answer in the caller's wire format: one piece, or the events of a stream."""

    pieces: list[bytes]
    usage: Usage


def write(house: House, asked: Asked, ruling: Ruling) -> Written:
    """Write the student's answer in the shape that the teacher gives it.

    The counts are estimates of what the teacher would have used. Raises CallerError where the
    caller wants what no student can give: then the teacher is asked.
    """
    matter, said = ruling.matter, ruling.said
    assert said is not None
    charter = matter.serving.charter
    literal = charter.answers[said.prediction.label]
    _check_wanted(asked, matter, literal)
    usage = _usage(house, matter, literal)
    if asked.ask.wire in _DECISIONS:
        return Written([_decided(asked, ruling, usage)], usage)
    answer = Completion(text=literal, finish="stop")
    if charter.shape is AnswerShape.TOOL:
        answer = Completion(tool=literal, tool_arguments="{}", finish="tool_calls")
    return Written(_rendered(asked, ruling, answer, usage), usage)


def _check_wanted(asked: Asked, matter: Matter, literal: str) -> None:
    """Raise CallerError where the caller wants more than one answer in the teacher's words."""
    ask, body = asked.ask, asked.body
    if ask.choices != 1:
        raise CallerError(f"{ask.choices} answers are wanted")
    if b"logprobs" in body and _LOGPROBS.search(body):
        raise CallerError("log probabilities are wanted")
    if ask.wire is Wire.RESPONSES and _ELSEWHERE.search(body):
        raise CallerError("the conversation is kept elsewhere")
    tools = matter.request.tools
    if matter.serving.charter.shape is AnswerShape.TOOL and literal not in tools:
        raise CallerError("the tool is not on offer")


def _usage(house: House, matter: Matter, literal: str) -> Usage:
    """What the teacher would have counted, about."""
    count, known = house.counter.count, matter.counted
    tokens = 0
    for message in matter.request.messages:
        if len(message.text) < _LONG_CHARACTERS:
            tokens += count(message.text)
            continue
        text = message.text.encode("utf-8", "surrogatepass")
        mark = blake2b(text, digest_size=16).digest()
        if mark not in known:
            if len(known) >= _REMEMBERED:
                known.clear()
            known[mark] = count(message.text)
        tokens += known[mark]
    return Usage(input_tokens=tokens, output_tokens=max(1, count(literal)))


def _decided(asked: Asked, ruling: Ruling, usage: Usage) -> bytes:
    """The answer to a decision request: the student's probabilities of the question's options."""
    assert ruling.said is not None
    question = inquiry(asked.body)
    if len(question.questions) != 1:
        raise CallerError("several questions are asked at once")
    odds = odds_of(question.questions[0], ruling.matter.serving.charter.answers, ruling.said)
    counts = usage_body(Wire.SYSTEMONE if question.keyed else Wire.DECISIONS, usage)
    return render_answers(question, [odds], model=asked.ask.model, usage=counts, note=_note(ruling))


def _rendered(asked: Asked, ruling: Ruling, answer: Completion, usage: Usage) -> list[bytes]:
    ask, created_s = asked.ask, asked.at_us // 10**6
    if ask.stream:
        told = usage if ask.wants_usage or ask.wire is not Wire.CHAT else None
        return render_stream(
            ask.wire, answer, answer_id=asked.exchange_id, model=ask.model, usage=told,
            created_s=created_s, note=_note(ruling),
        )  # fmt: skip
    body = render_body(
        ask.wire, answer, answer_id=asked.exchange_id, model=ask.model, usage=usage,
        created_s=created_s, note=_note(ruling),
    )  # fmt: skip
    return [body]


def _note(ruling: Ruling) -> dict[str, str]:
    note = {"answered_by": "student"}
    if ruling.decision is not None:
        note["certificate"] = ruling.matter.serving.certificate_id
    else:
        note["uncertified"] = ruling.consultation.reason
    return note


def headers_of(asked: Asked, ruling: Ruling) -> Headers:
    """Who answered, under which certificate: on every answer of a student."""
    headers: Headers = [
        _EVENTS if asked.ask.stream else _JSON,
        (b"x-stillhouse-exchange", asked.exchange_id.encode()),
        (b"x-stillhouse-answered-by", b"student"),
    ]
    if ruling.decision is not None:
        headers.append((b"x-stillhouse-certificate", _plain(ruling.matter.serving.certificate_id)))
    else:
        headers.append((b"x-stillhouse-uncertified", _plain(ruling.consultation.reason)))
    return headers


def _plain(text: str) -> bytes:
    """A text that a header can hold.

    >>> _plain("größe\\r\\nx")
    b'gr??e??x'
    """
    return "".join(sign if " " <= sign <= "~" else "?" for sign in text).encode("ascii")


async def give_answer(
    house: House, asked: Asked, caller: Caller, ruling: Ruling, written: Written, place: int = 0
) -> Ended:
    """Journal the student's answer and give it; StoreError where it cannot be journalled.

    `place` counts the calls that the request has cost already: a student that bridges an outage
    comes after those that failed.
    """
    started = _started(house, asked, ruling, place)
    attempt = started.attempt
    begun = house.keeper.start(started)
    if begun is not None:
        try:
            await begun
        except StoreError as unsure:  # it may be on disk: closed, and given to nobody
            withdrawn = Ended(
                asked.exchange_id, attempt._replace(ok=False), nothing_bought(attempt),
                Fate.WITHDRAWN, error=str(unsure), last=not place, upstream=HOST,
            )  # fmt: skip
            await house.keeper.close(withdrawn)
            raise
    avoided, basis = 0, "the teacher could not be had"
    if not place:
        avoided, basis = avoided_by(house, asked, ruling.matter, written.usage)
    ended = Ended(
        asked.exchange_id,
        attempt,
        nothing_bought(attempt),
        Fate.OK,
        200,
        answer=house.keep_body(asked.route, b"".join(written.pieces)),
        streamed=asked.ask.stream,
        avoided_pico=avoided,
        basis=basis,
        upstream=HOST,
    )
    await house.keeper.close(ended)
    await _give(asked, caller, headers_of(asked, ruling), written.pieces)
    return ended


def _started(house: House, asked: Asked, ruling: Ruling, place: int) -> Started:
    attempt = Attempt(
        f"{asked.exchange_id}-s" if place else asked.exchange_id,
        ruling.matter.serving.certificate_id,
        house.now_us() if place else asked.at_us,
        HOST,
        AttemptKind.STUDENT,
        Usage(),
        ruling.seconds * 1000,
        evidence=Evidence.DERIVED,
    )
    return Started(
        asked.exchange_id,
        attempt,
        asked.ask.wire,
        HOST,
        asked.tags,
        asked.key_id,
        asked="" if place else house.keep_body(asked.route, asked.body),
        asked_bytes=len(asked.body),
        consultation=ruling.consultation,
    )


async def _give(asked: Asked, caller: Caller, headers: Headers, pieces: list[bytes]) -> None:
    if asked.ask.stream:
        await caller.begin(200, headers)
        for piece in pieces[:-1]:
            await caller.piece(piece)
        await caller.end(pieces[-1])
    else:
        headers.append((b"content-length", b"%d" % len(pieces[0])))
        await caller.whole(200, headers, pieces[0])


def avoided_by(house: House, asked: Asked, matter: Matter, usage: Usage) -> tuple[int, str]:
    """What the teacher would have charged for the answer, and how that is known; 0 if unpriced.

    What it charges for the task's other answers, on average: it knows what the teacher finds in its
    cache. Before any was seen, the estimated tokens at the full price.
    """
    if matter.cost_pico:
        return matter.cost_pico, f"what other answers of {matter.found.task} cost on average"
    for deployment in asked.route.deployments[:1]:
        upstream = house.catalogue.upstreams[deployment.upstream]
        attempt = Attempt(
            "", deployment.model, asked.at_us, upstream.host, usage=usage,
            service_tier=asked.ask.service_tier, region=upstream.region,
            evidence=Evidence.ESTIMATED,
        )  # fmt: skip
        price = price_of(house, attempt)
        if price is not None:
            bills = [one.billed for one in charge(attempt, price)]
            pico = sum(bill.pico for bill in bills if isinstance(bill, Paid))
            return pico, f"estimated tokens at the price of {deployment.model} at {upstream.host}"
    return 0, "the teacher has no price"
