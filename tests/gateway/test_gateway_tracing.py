from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stillhouse.core.calls import Done, Ended, Fate
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.traffic import Attempt, AttemptKind, Tags, Usage
from stillhouse.gateway.tracing import Tracing

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ID = "019ee7c2a00012345678901234567890"
PARENT = "0af7651916cd43dd8448eb211c80319c"
PROMPT, SECRET = "what the caller said", "sk-live-0123456789abcdef"
UPSTREAMS = {"acme-eu": Upstream("acme-eu", base_url="https://eu.acme.example/v1", host="openai")}


class Collector:
    """A tiny OTLP/HTTP receiver on loopback that keeps what it was sent."""

    def __init__(self, status: int = 200) -> None:
        received: list[tuple[str, dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append((self.path, dict(self.headers), body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> list[dict[str, Any]]:
        """Every span received, with its attributes as a dict."""
        found = []
        for path, _, body in self.received:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            found.append(
                                {
                                    "name": span.name,
                                    "trace": span.trace_id.hex(),
                                    "id": span.span_id.hex(),
                                    "parent": span.parent_span_id.hex(),
                                    "kind": span.kind,
                                    "error": span.status.code == 2,
                                    "from": span.start_time_unix_nano,
                                    "to": span.end_time_unix_nano,
                                    "schema": scope.schema_url,
                                    "said": _plain(span.attributes),
                                    "service": _plain(resource.resource.attributes)["service.name"],
                                }
                            )
        return found

    def metrics(self) -> dict[str, list[Any]]:
        """The last data points received of every metric."""
        found: dict[str, list[Any]] = {}
        for path, _, body in self.received:
            if path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        for metric in scope.metrics:
                            found[metric.name] = [
                                (_plain(point.attributes), point.count, point.sum)
                                for point in metric.histogram.data_points
                            ]
        return found


def _plain(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def ended(fate: Fate = Fate.OK, status: int = 200, place: int = 0) -> Ended:
    usage = Usage(
        *(10, 5, 3, 2),
        output_tokens=7,
        reasoning_tokens=4,
    )
    attempt = Attempt(
        f"{ID}-{place}" if place else ID,
        "m-2026",
        at_us=1_000_000 + place * 50_000,
        host="openai",
        kind=AttemptKind.RETRY if place else AttemptKind.TEACHER,
        usage=usage if fate is Fate.OK else None,
        latency_ms=40.0,
    )
    return Ended(
        *(ID, attempt, (), fate, status, 20.0),
        answer=PROMPT,
        error=f"{PROMPT} {SECRET}",
        upstream="acme-eu",
    )


def done(**more: Any) -> Done:
    told: dict[str, Any] = {
        "exchange_id": ID,
        "at_us": 1_000_000,
        "wire": Wire.CHAT,
        "model": "m",
        "key_id": "key-1",
        "tags": Tags(team="core"),
        "status": 200,
        "stream": False,
        "attempts": (ended(),),
        "cost_pico": 25 * 10**11,
        "seconds": 0.1,
        "overhead_seconds": 0.0001,
    }
    return Done(**(told | more))


def sent(collector: Collector, *records: Done, **more: Any) -> Tracing:
    """Trace these requests, and be done with it."""
    tracing = Tracing(collector.url, UPSTREAMS, every_seconds=60.0, **more)
    for record in records:
        tracing.done(record)
    tracing.close()
    return tracing


def test_a_request_is_a_span_with_one_child_for_each_call_upstream(collector: Collector) -> None:
    failed = ended(Fate.STATUS, 503)
    assert sent(collector, done(attempts=(failed, ended(place=1)))).lost == 0
    first, second, whole = collector.spans()
    assert whole["name"] == "stillhouse chat"
    assert whole["kind"] == 2
    assert (whole["from"], whole["to"]) == (1_000_000_000, 1_100_000_000)
    assert whole["trace"] == ID
    assert whole["parent"] == ""
    assert whole["service"] == "stillhouse"
    assert not whole["error"]
    assert whole["said"]["stillhouse.cost_usd"] == 2.5
    assert whole["said"]["stillhouse.team"] == "core"
    for child in (first, second):
        assert (child["name"], child["kind"]) == ("chat m", 3)
        assert (child["trace"], child["parent"]) == (ID, whole["id"])
        assert child["schema"] == "https://opentelemetry.io/schemas/1.41.1"
    assert first["error"]
    assert first["said"]["error.type"] == "503"
    assert "gen_ai.usage.input_tokens" not in first["said"]
    assert (second["from"], second["to"]) == (1_050_000_000, 1_090_000_000)


def test_a_call_upstream_is_described_by_the_conventions(collector: Collector) -> None:
    sent(collector, done(stream=True))
    assert collector.spans()[0]["said"] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "m-2026",
        "gen_ai.response.time_to_first_chunk": 0.02,
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 11,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.cache_creation.input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 4,
        "http.response.status_code": 200,
        "server.address": "eu.acme.example",
        "server.port": 443,
        "stillhouse.attempt_id": ID,
        "stillhouse.attempt_kind": "teacher",
        "stillhouse.evidence": "reported",
    }


def test_a_fault_without_a_status_is_named_by_its_fate(collector: Collector) -> None:
    sent(collector, done(status=502, attempts=(ended(Fate.CONNECT_TIMEOUT, 0),)))
    call, whole = collector.spans()
    assert call["said"]["error.type"] == "connect_timeout"
    assert call["error"]
    assert whole["error"]


def test_the_callers_trace_goes_on_and_its_decision_counts(collector: Collector) -> None:
    sent(
        collector,
        done(traceparent=f"00-{PARENT}-b7ad6b7169203331-01"),
        done(traceparent=f"00-{PARENT}-b7ad6b7169203331-00"),
        done(traceparent="no such thing"),
        sample=1.0,
    )
    wholes = [span for span in collector.spans() if span["kind"] == 2]
    assert [(span["trace"], span["parent"]) for span in wholes] == [
        (PARENT, "b7ad6b7169203331"),
        (ID, ""),
    ]


def test_nothing_is_sampled_unless_the_caller_wants_it_and_metrics_count_all(
    collector: Collector,
) -> None:
    asked = done(traceparent=f"00-{PARENT}-b7ad6b7169203331-01")
    sent(collector, done(), done(), asked, sample=0.0)
    assert {span["trace"] for span in collector.spans()} == {PARENT}
    (duration,) = collector.metrics()["gen_ai.client.operation.duration"]
    assert duration[1] == 3


def test_metrics_follow_the_conventions(collector: Collector) -> None:
    sent(collector, done(), done(stream=True), done(attempts=(ended(Fate.STATUS, 429),)))
    shared = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "server.address": "eu.acme.example",
        "server.port": 443,
    }
    answered = {**shared, "gen_ai.response.model": "m-2026"}
    metrics = collector.metrics()
    good, bad = metrics["gen_ai.client.operation.duration"]
    assert good == (answered, 2, pytest.approx(0.08))
    assert bad == ({**shared, "error.type": "429"}, 1, pytest.approx(0.04))
    tokens = {
        said.pop("gen_ai.token.type"): (said, count, total)
        for said, count, total in metrics["gen_ai.client.token.usage"]
    }
    assert tokens == {"input": (answered, 2, 40), "output": (answered, 2, 22)}
    assert metrics["gen_ai.client.operation.time_to_first_chunk"] == [
        (answered, 1, pytest.approx(0.02))
    ]


def test_a_cached_answer_is_no_call_upstream(collector: Collector) -> None:
    hit = Ended(ID, Attempt(ID, "m", kind=AttemptKind.CACHE), (), Fate.OK, 200)
    sent(collector, done(attempts=(hit,), cached=True))
    (whole,) = collector.spans()
    assert whole["said"]["stillhouse.cached"] is True


def test_no_prompt_no_answer_and_no_secret_is_sent(collector: Collector) -> None:
    sent(collector, done(attempts=(ended(Fate.GARBAGE), ended(place=1))), headers={"x-token": "t"})
    assert {path for path, _, _ in collector.received} == {"/v1/traces", "/v1/metrics"}
    for _, headers, body in collector.received:
        assert headers["x-token"] == "t"
        assert PROMPT.encode() not in body
        assert SECRET.encode() not in body


def test_a_collector_that_refuses_costs_spans_and_nothing_else() -> None:
    refusing = Collector(status=400)
    tracing = sent(refusing, done(), done())
    assert tracing.lost == 2
    refusing.close()
