"""Every path that is no call of a model: health, metrics, models, token counts, the admin API."""

from __future__ import annotations

from collections.abc import Mapping

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError, ConfigError, ProviderError, StoreError
from stillhouse.dialects.faults import error_body
from stillhouse.dialects.paths import SERVED
from stillhouse.gateway.app import NO_KEY, Limits, TooLargeError, read_body, report
from stillhouse.gateway.caller import Receive, Scope, Send
from stillhouse.gateway.door import Door, MisdirectedError
from stillhouse.gateway.http import Answer, Handler, Question, RefusedError, Table

OUR_FAULT = "the endpoint failed on this request; its log says where"
_WITHOUT_BODY = ("GET", "HEAD", "DELETE")
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (TooLargeError, 413),
    (MisdirectedError, 421),
    (CallerError, 400),
    (ConfigError, 500),
    (StoreError, 503),
    (ProviderError, 502),
)


class Other:
    """Serves the paths beside the model calls, and says what is wrong with any further one."""

    def __init__(self, rows: Mapping[tuple[str, str], Handler], limits: Limits, door: Door) -> None:
        self._table, self._limits, self._door = Table(rows), limits, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        headers, client = scope["headers"], scope.get("client")
        wire = _spoken(path, headers)
        handler, rest, methods = self._table.find(method, path)
        if path in SERVED:
            methods = ("POST",)
        if handler is None:
            await _unknown(wire, method, path, methods).send(send)
            return
        try:
            body = b""
            if method not in _WITHOUT_BODY:
                if self._door.enter(headers) is None:  # before a byte of the body is kept
                    raise RefusedError(401, NO_KEY)
                body = await read_body(receive, dict(headers), self._limits)
            question = Question(
                method,
                path,
                scope.get("query_string", b""),
                headers,
                body,
                client[0] if client else "",
                rest,
            )
            answer = await handler(question)
        except RefusedError as refused:
            answer = failure(wire, refused.status, str(refused))._replace(headers=refused.headers)
        except TimeoutError:
            answer = failure(wire, 408, "the request's body took too long to arrive")
        except ConnectionError:
            return
        except (CallerError, ConfigError, StoreError, ProviderError) as failed:
            status = next(status for kind, status in _STATUS if isinstance(failed, kind))
            answer = failure(wire, status, str(failed))
        except Exception as fault:  # ours: said without a word of what was asked or answered
            report("", fault)
            answer = failure(wire, 500, OUR_FAULT)
        if method == "HEAD":
            answer = answer._replace(body=b"")
        await answer.send(send)


def _spoken(path: str, headers: list[tuple[bytes, bytes]]) -> Wire:
    """Whose envelope a caller reads: Anthropic's where it speaks so, else OpenAI's as most do."""
    if path.startswith("/v1/messages") or any(name == b"anthropic-version" for name, _ in headers):
        return Wire.MESSAGES
    return Wire.CHAT


def failure(wire: Wire, status: int, sentence: str) -> Answer:
    """A failure in one sentence."""
    return Answer(status, error_body(wire, status, "", sentence))


def _unknown(wire: Wire, method: str, path: str, methods: tuple[str, ...]) -> Answer:
    if methods:
        sentence = f"{method} is not served at this path; use {' or '.join(methods)}"
        answer = failure(wire, 405, sentence)
        return answer._replace(headers=((b"allow", ", ".join(methods).encode()),))
    shown = path if path.isprintable() and len(path) < 200 else "(this path)"
    return failure(wire, 404, f"nothing is served at {shown}; GET /openapi.json lists the paths")
