"""Answers by a script, faults included, so that the endpoint can be tried without any upstream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

from stillhouse.core.calls import Fate, Headers, UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import CallerError, UpstreamError
from stillhouse.core.ports import Reply
from stillhouse.core.traffic import Completion, Request, Usage
from stillhouse.providers.canned import EVENTS, JSON, CannedReply, models, refusal, streams, told
from stillhouse.providers.script import BUILT_IN, FAULTS, Rule

ReadRequest = Callable[[bytes, Wire], Request]


class ScriptedProvider:
    """Follows the first rule that fits; the same calls in the same order get the same answers.

    `read_request` parses a body, for the text of the last user. Usage is a quarter of the
    characters, rounded up. Embeddings and decisions are answered by 404.
    """

    def __init__(
        self, upstream: Upstream, read_request: ReadRequest, rules: Sequence[Rule] = BUILT_IN
    ) -> None:
        self._upstream = upstream
        self._read_request = read_request
        self._rules = tuple(rules)
        self._used = [0] * len(self._rules)
        self._ids = itertools.count(1)

    async def send(
        self, call: UpstreamCall, sending: Callable[[], Awaitable[None] | None]
    ) -> Reply:
        """Answer, or fail, as the script says."""
        rule = self._rule(call)
        fate = FAULTS[rule.fault] if rule is not None and rule.fault else Fate.OK
        if not fate.sent:
            if fate is Fate.CONNECT_TIMEOUT:
                await asyncio.sleep(self._upstream.timeouts.connect_seconds)
            raise self._failure(fate)
        waited = sending()
        if waited is not None:
            await waited
        if rule is None:
            return refusal(call.wire, 404, "no_rule", "no rule of the script fits this call")
        if rule.first_byte_seconds:
            await asyncio.sleep(rule.first_byte_seconds)
        if fate is Fate.FIRST_BYTE_TIMEOUT:
            await asyncio.sleep(self._upstream.timeouts.first_byte_seconds)
        if fate in (Fate.FIRST_BYTE_TIMEOUT, Fate.DROPPED):
            raise self._failure(fate)
        if rule.status != 200:
            more = [(b"retry-after", rule.retry_after.encode())] if rule.retry_after else []
            return refusal(call.wire, rule.status, "scripted", rule.message, *more)
        return self._answer(call, rule, fate)

    async def close(self) -> None:
        """Nothing is held."""

    def _rule(self, call: UpstreamCall) -> Rule | None:
        for place, rule in enumerate(self._rules):
            if (not rule.times or self._used[place] < rule.times) and rule.fits(call):
                self._used[place] += 1
                return rule
        return None

    def _answer(self, call: UpstreamCall, rule: Rule, fate: Fate) -> Reply:
        if call.method == "GET" and call.path == "/models":
            return CannedReply(200, [JSON], [models(self._upstream.models)])
        if call.wire not in (Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES) or call.method != "POST":
            return refusal(call.wire, 404, "not_scripted", "a script answers conversations alone")
        try:
            parts = self._parts(call, rule)
        except CallerError as unreadable:
            return refusal(call.wire, 400, "unreadable", str(unreadable))
        headers: Headers = [EVENTS if streams(call) else JSON]
        if fate is not Fate.OK or rule.cut:
            parts = parts[: len(parts) // 2] or [parts[0][: len(parts[0]) // 2]]
        pause = rule.chunk_seconds
        if fate is Fate.TOTAL_TIMEOUT:
            pause = max(pause, self._upstream.timeouts.total_seconds / len(parts))
        error = None if fate is Fate.OK else self._failure(fate)
        return CannedReply(200, headers, parts, pause_seconds=pause, error=error)

    def _parts(self, call: UpstreamCall, rule: Rule) -> list[bytes]:
        text = rule.answer
        if "{}" in text:
            turns = self._read_request(call.body, call.wire).messages
            said = [turn.text for turn in turns if turn.role == "user"] or [""]
            text = text.replace("{}", said[-1])
        answer = Completion(text=text, finish="stop")
        if rule.tool:
            answer = Completion("", rule.tool, rule.tool_arguments, "tool_calls")
        usage = Usage(
            input_tokens=_tokens(len(call.body)),
            output_tokens=_tokens(len(answer.text + answer.tool_arguments)),
        )
        return told(
            call, answer, f"scripted-{next(self._ids)}", call.model, usage if rule.usage else None
        )

    def _failure(self, fate: Fate) -> UpstreamError:
        return UpstreamError(
            fate, f"upstream {self._upstream.name} fails as its script says: {fate.value}"
        )


def _tokens(characters: int) -> int:
    """A quarter of the characters, rounded up."""
    return -(-characters // 4)
