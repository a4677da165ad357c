"""An upstream that keeps files and runs batches, as OpenAI and as Anthropic have them.

On a real socket. A batch is done as soon as it is made. A request whose text is `fail` is refused,
one whose text is `expire` runs out of time.

    python -m stillhouse.testing.batching --port 9902
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from itertools import count
from typing import Any, NamedTuple

import orjson

from stillhouse.core.catalogue import Wire
from stillhouse.dialects.faults import error_body
from stillhouse.testing.answering import CREATED_S, answered

NDJSON = "application/x-ndjson"
_PIECE_BYTES = 1_000


class Given(NamedTuple):
    """An answer: `cut_after` so many bytes of its body the connection is closed."""

    status: int
    body: bytes
    kind: str = "application/json"
    cut_after: int | None = None


class Asked(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class BatchUpstream:
    """Listens on a loopback port; `asked` are the requests in the order of their arrival.

    `cut_after` cuts the next content off after so many bytes.
    """

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    cut_after: int | None = None
    _contents: dict[str, bytes] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens, without the `/v1` that its paths begin with."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> BatchUpstream:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def keep(self, content: bytes, purpose: str, name: str = "file.jsonl") -> str:
        """Keep a file; its id."""
        file_id = f"file-{next(self._numbers)}"
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": CREATED_S,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self._contents[file_id] = content
        return file_id

    def answer(self, asked: Asked) -> Given:
        """What is said to a request."""
        self.asked.append(asked)
        for (method, path), act in _ROUTES.items():
            found = re.fullmatch(path, asked.path)
            if found and (asked.method == method or (method, asked.method) == ("GET", "HEAD")):
                try:
                    return act(self, asked, *found.groups())
                except (KeyError, ValueError) as wrong:
                    return _failed(asked, 404, f"there is no {wrong}")
        return _failed(asked, 404, f"{asked.method} {asked.path} is nothing that is served")

    # OpenAI's.

    def upload(self, asked: Asked) -> Given:
        """POST /v1/files."""
        parts = _form(asked)
        content, name = parts["file"]
        file_id = self.keep(content, parts["purpose"][0].decode(), name)
        return _json(self.files[file_id])

    def list_files(self, asked: Asked) -> Given:
        """GET /v1/files."""
        return _json({"object": "list", "data": [*self.files.values()], "has_more": False})

    def file(self, asked: Asked, file_id: str) -> Given:
        """GET /v1/files/ID."""
        return _json(self.files[file_id])

    def content(self, asked: Asked, file_id: str) -> Given:
        """GET /v1/files/ID/content."""
        return Given(200, self._contents[file_id], NDJSON, self._cut())

    def delete_file(self, asked: Asked, file_id: str) -> Given:
        """DELETE /v1/files/ID."""
        del self.files[file_id], self._contents[file_id]
        return _json({"id": file_id, "object": "file", "deleted": True})

    def make_batch(self, asked: Asked) -> Given:
        """POST /v1/batches: done at once, good lines in one file, bad ones in another."""
        said = orjson.loads(asked.body)
        good, bad = b"", b""
        for line in self._contents[said["input_file_id"]].splitlines():
            row = _openai_line(orjson.loads(line), len(self.batches))
            if (row["response"] or {}).get("status_code") == 200:
                good += orjson.dumps(row) + b"\n"
            else:
                bad += orjson.dumps(row) + b"\n"
        batch_id = f"batch_{next(self._numbers)}"
        self.batches[batch_id] = {
            "id": batch_id,
            "object": "batch",
            "endpoint": said["endpoint"],
            "input_file_id": said["input_file_id"],
            "completion_window": said["completion_window"],
            "status": "completed",
            "output_file_id": self.keep(good, "batch_output", "output.jsonl") if good else None,
            "error_file_id": self.keep(bad, "batch_output", "errors.jsonl") if bad else None,
            "created_at": CREATED_S,
        }
        return _json(self.batches[batch_id])

    def list_batches(self, asked: Asked) -> Given:
        """GET /v1/batches."""
        rows = [batch for batch in self.batches.values() if "object" in batch]
        return _json({"object": "list", "data": rows, "has_more": False})

    def batch(self, asked: Asked, batch_id: str) -> Given:
        """GET of one batch, of either vendor."""
        return _json(self.batches[batch_id])

    def cancel(self, asked: Asked, batch_id: str) -> Given:
        """POST to cancel a batch, of either vendor."""
        batch = self.batches[batch_id]
        state = "status" if "object" in batch else "processing_status"
        batch[state] = "cancelling" if "object" in batch else "canceling"
        return _json(batch)

    # Anthropic's.

    def make_messages(self, asked: Asked) -> Given:
        """POST /v1/messages/batches."""
        lines = [_anthropic_line(row) for row in orjson.loads(asked.body)["requests"]]
        batch_id = f"msgbatch_{next(self._numbers)}"
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        for line in lines:
            counts[line["result"]["type"]] += 1
        self._contents[batch_id] = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        self.batches[batch_id] = {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "ended",
            "request_counts": counts,
            "created_at": "2026-11-01T00:00:00Z",
            "expires_at": "2026-11-02T00:00:00Z",
            "ended_at": "2026-11-01T00:10:00Z",
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"https://vendor.invalid/v1/messages/batches/{batch_id}/results",
        }
        return _json(self.batches[batch_id])

    def list_messages(self, asked: Asked) -> Given:
        """GET /v1/messages/batches."""
        rows = [batch for batch in self.batches.values() if batch.get("type")]
        ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {}
        return _json({"data": rows, "has_more": False, **ends})

    def delete_messages(self, asked: Asked, batch_id: str) -> Given:
        """DELETE /v1/messages/batches/ID."""
        del self.batches[batch_id], self._contents[batch_id]
        return _json({"id": batch_id, "type": "message_batch_deleted"})

    def results(self, asked: Asked, batch_id: str) -> Given:
        """GET /v1/messages/batches/ID/results."""
        return Given(200, self._contents[batch_id], "application/binary", self._cut())

    # The wire.

    def _cut(self) -> int | None:
        cut, self.cut_after = self.cut_after, None
        return cut

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._serving.discard(task)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *fields = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in fields)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path, _, query = target.partition("?")
        given = self.answer(Asked(method, path, query, headers, body))
        writer.write(
            f"HTTP/1.1 {given.status} Said\r\ncontent-type: {given.kind}\r\n"
            f"request-id: req_1\r\ncontent-length: {len(given.body)}\r\n\r\n".encode()
        )
        end = len(given.body) if given.cut_after is None else given.cut_after
        end = 0 if method == "HEAD" else end
        for piece in _pieces(given.body, end):
            writer.write(piece)
            await writer.drain()
        return given.cut_after is None


_ROUTES: Mapping[tuple[str, str], Callable[..., Given]] = {
    ("POST", "/v1/files"): BatchUpstream.upload,
    ("GET", "/v1/files"): BatchUpstream.list_files,
    ("GET", "/v1/files/([^/]+)"): BatchUpstream.file,
    ("DELETE", "/v1/files/([^/]+)"): BatchUpstream.delete_file,
    ("GET", "/v1/files/([^/]+)/content"): BatchUpstream.content,
    ("POST", "/v1/batches"): BatchUpstream.make_batch,
    ("GET", "/v1/batches"): BatchUpstream.list_batches,
    ("GET", "/v1/batches/([^/]+)"): BatchUpstream.batch,
    ("POST", "/v1/batches/([^/]+)/cancel"): BatchUpstream.cancel,
    ("POST", "/v1/messages/batches"): BatchUpstream.make_messages,
    ("GET", "/v1/messages/batches"): BatchUpstream.list_messages,
    ("GET", "/v1/messages/batches/([^/]+)"): BatchUpstream.batch,
    ("DELETE", "/v1/messages/batches/([^/]+)"): BatchUpstream.delete_messages,
    ("POST", "/v1/messages/batches/([^/]+)/cancel"): BatchUpstream.cancel,
    ("GET", "/v1/messages/batches/([^/]+)/results"): BatchUpstream.results,
}


def _openai_line(asked: dict[str, Any], batch: int) -> dict[str, Any]:
    custom_id, body = asked["custom_id"], asked["body"]
    line = {"id": f"batch_req_{batch}_{custom_id}", "custom_id": custom_id, "error": None}
    text = _text(body)
    if text == "expire":
        error = {"code": "batch_expired", "message": "This request could not be executed in time."}
        return {**line, "response": None, "error": error}
    if text == "fail":
        failed = orjson.loads(error_body(Wire.CHAT, 400, "", "This request fails on demand."))
        return {**line, "response": {"status_code": 400, "request_id": "r", "body": failed}}
    wire = {"/v1/responses": Wire.RESPONSES, "/v1/embeddings": Wire.EMBEDDINGS}.get(
        asked["url"], Wire.CHAT
    )
    good = answered(wire, body, orjson.dumps(body), batch, True)
    response = {"status_code": 200, "request_id": "r", "body": orjson.loads(good.parts[0])}
    return {**line, "response": response}


def _anthropic_line(asked: dict[str, Any]) -> dict[str, Any]:
    params = asked["params"]
    text = _text(params)
    if text == "expire":
        result: dict[str, Any] = {"type": "expired"}
    elif text == "fail":
        failed = error_body(Wire.MESSAGES, 400, "", "This request fails on demand.")
        result = {"type": "errored", "error": orjson.loads(failed)}
    else:
        good = answered(Wire.MESSAGES, params, orjson.dumps(params), 1, True)
        message = orjson.loads(good.parts[0])
        message["usage"]["service_tier"] = "batch"
        result = {"type": "succeeded", "message": message}
    return {"custom_id": asked["custom_id"], "result": result}


def _text(body: dict[str, Any]) -> str:
    turns = body.get("messages") or [{}]
    return str(turns[-1].get("content", ""))


def _json(shown: object) -> Given:
    return Given(200, orjson.dumps(shown))


def _failed(asked: Asked, status: int, message: str) -> Given:
    wire = Wire.MESSAGES if asked.path.startswith("/v1/messages") else Wire.CHAT
    return Given(status, error_body(wire, status, "", message))


def _form(asked: Asked) -> dict[str, tuple[bytes, str]]:
    """The parts of a multipart form: content and file name."""
    head = f"content-type: {asked.headers['content-type']}\r\n\r\n".encode()
    form = message_from_bytes(head + asked.body)
    found = {}
    for part in form.walk():
        name = part.get_param("name", header="content-disposition")
        if name:
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            found[str(name)] = (content, part.get_filename() or "")
    return found


def _pieces(body: bytes, end: int) -> Iterator[bytes]:
    for start in range(0, end, _PIECE_BYTES):
        yield body[start : min(start + _PIECE_BYTES, end)]


async def _serve(port: int) -> None:
    async with BatchUpstream(port) as upstream:
        sys.stdout.write(f"batch upstream on {upstream.url}/v1\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main(words: list[str] | None = None) -> None:
    """Run until interrupted."""
    asks = argparse.ArgumentParser(prog="python -m stillhouse.testing.batching")
    asks.add_argument("--port", type=int, default=9902, help="loopback port; 0 for any")
    said = asks.parse_args(words)
    try:
        asyncio.run(_serve(said.port))
    except KeyboardInterrupt:
        sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main()
