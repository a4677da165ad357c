"""What can be called here: the list of models, and how many tokens a message has."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Route, Wire
from stillhouse.core.quotas import VirtualKey
from stillhouse.dialects.paths import UPSTREAM_COUNT_TOKENS_PATH
from stillhouse.dialects.peek import peek, with_model
from stillhouse.dialects.prompt import text_asked
from stillhouse.flows.house import House
from stillhouse.gateway.door import Door, Visitor
from stillhouse.gateway.http import Answer, Question, RefusedError
from stillhouse.ledger.names import matches
from stillhouse.routing.catalogue import find_route, names


class Models:
    """The model list of OpenAI and of Anthropic, and Anthropic's count of tokens."""

    def __init__(self, house: Callable[[], House], door: Door) -> None:
        self._house, self._door = house, door

    async def listing(self, asked: Question) -> Answer:
        """GET /v1/models: routes and aliases that the caller's key may call."""
        visitor = self._visitor(asked)
        catalogue = self._house().catalogue
        meant = {name: find_route(catalogue, name) for name in names(catalogue)}
        listed = [name for name, to in meant.items() if to and _may(visitor.key, to.name)]
        if asked.header(b"anthropic-version"):
            rows = [_anthropic(name) for name in listed]
            ends = {"first_id": listed[0], "last_id": listed[-1]} if listed else {}
            return Answer.of({"data": rows, "has_more": False, **ends})
        return Answer.of({"object": "list", "data": [_openai(name) for name in listed]})

    async def one(self, asked: Question) -> Answer:
        """GET /v1/models/NAME."""
        visitor = self._visitor(asked)
        route = find_route(self._house().catalogue, asked.rest)
        if route is None or not _may(visitor.key, route.name):
            raise RefusedError(
                404, "no such model is served here; GET /v1/models lists those that are"
            )
        said = _anthropic if asked.header(b"anthropic-version") else _openai
        return Answer.of(said(asked.rest))

    async def count_tokens(self, asked: Question) -> Answer:
        """POST /v1/messages/count_tokens: asked of the upstream, else estimated; costs nothing."""
        visitor, house = self._visitor(asked), self._house()
        ask = peek(asked.body, Wire.MESSAGES)
        route = find_route(house.catalogue, ask.model)
        if route is None or not _may(visitor.key, route.name):
            raise RefusedError(
                404, f"the model {ask.model!r} is not served here; see GET /v1/models"
            )
        reply = await self._asked_upstream(house, route, asked.body, visitor)
        if reply is not None:
            return reply
        count = house.counter.count(text_asked(asked.body, Wire.MESSAGES))
        counted = Answer.of({"input_tokens": count})
        return counted._replace(headers=((b"x-stillhouse-evidence", b"estimated"),))

    async def _asked_upstream(
        self, house: House, route: Route, body: bytes, visitor: Visitor
    ) -> Answer | None:
        for deployment in route.deployments:
            upstream = house.catalogue.upstreams[deployment.upstream]
            if Wire.MESSAGES not in upstream.wires or upstream.kind != "http":
                continue
            call = UpstreamCall(
                Wire.MESSAGES,
                "POST",
                UPSTREAM_COUNT_TOKENS_PATH,
                deployment.model,
                with_model(body, deployment.model),
                headers=visitor.headers,
                caller_key=visitor.caller_key if upstream.pass_caller_key else "",
            )
            reply = await house.providers[upstream.name].send(call, lambda: None)
            content = await reply.read()
            if reply.status not in (401, 404, 405, 501):
                return Answer(reply.status, content)
        return None

    def _visitor(self, asked: Question) -> Visitor:
        visitor = self._door.enter(asked.headers)
        if visitor is None:
            raise RefusedError(401, "the key is missing, unknown, expired or revoked")
        return visitor


def _may(key: VirtualKey, model: str) -> bool:
    return not key.models or matches(key.models, model)


def _openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "stillhouse"}


def _anthropic(name: str) -> dict[str, Any]:
    created = datetime(1970, 1, 1, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"id": name, "type": "model", "display_name": name, "created_at": created}
