"""OpenTelemetry spans and metrics of every request, by the GenAI conventions of 1.41.1.

Made after the fact and behind the request's back: the hot path only puts a request's Done on a
list. Never a prompt, an answer or a secret: a Done holds none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stillhouse.core.calls import Done, Ended, Fate
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import ConfigError
from stillhouse.core.money import PICO
from stillhouse.core.traffic import AttemptKind
from stillhouse.gateway.backlog import Backlog

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan

SCHEMA = "https://opentelemetry.io/schemas/1.41.1"
_SCOPE = "stillhouse"

_OPERATIONS = {Wire.EMBEDDINGS: "embeddings", Wire.DECISIONS: "decide", Wire.SYSTEMONE: "decide"}
_PROVIDERS = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "x-ai": "x_ai",
    "xai": "x_ai",
}
_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_TOKENS = [4**n for n in range(14)]

Value = str | int | float | bool
Attributes = dict[str, Value]


class Tracing:
    """A Watch that sends each request as a span, with a child for each call upstream, over OTLP.

    `endpoint` is the collector's base URL (`http://collector:4318`), `headers` go with every
    export. Of the requests without a decision of their caller a `sample` is traced, by their id,
    which is their trace id as well; a caller's own `traceparent` decides for itself. The metrics
    count every request. Raises ConfigError without the extra `otel`.
    """

    def __init__(
        self,
        endpoint: str,
        upstreams: Mapping[str, Upstream],
        headers: Mapping[str, str] | None = None,
        service: str = "stillhouse",
        sample: float = 1.0,
        every_seconds: float = 1.0,
        metrics_every_seconds: float = 60.0,
    ) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as missing:
            raise ConfigError(
                f"tracing to {endpoint} needs a package that is missing ({missing.name}); "
                "install stillhouse[otel], or leave tracing.otlp_endpoint out"
            ) from missing

        class Ids(RandomIdGenerator):
            """Gives a request without a trace its exchange id for one."""

            trace_id = 0

            def generate_trace_id(self) -> int:
                return self.trace_id

        class Collecting(SpanProcessor):
            """Keeps ended spans until the batch is sent."""

            spans: list[ReadableSpan]

            def on_end(self, span: ReadableSpan) -> None:
                self.spans.append(span)

        base, resource = endpoint.rstrip("/"), Resource.create({"service.name": service})
        told = dict(headers or {})
        self._servers = {name: _server(upstream) for name, upstream in upstreams.items()}
        self._ids, self._collected = Ids(), Collecting()
        self._collected.spans = []
        self._exporter = OTLPSpanExporter(endpoint=f"{base}/v1/traces", headers=told, timeout=5)
        self._spans = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)),
            resource=resource,
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._spans.add_span_processor(self._collected)
        self._tracer = self._spans.get_tracer(_SCOPE, schema_url=SCHEMA)
        self._context = TraceContextTextMapPropagator()
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=f"{base}/v1/metrics", headers=told, timeout=5),
            export_interval_millis=metrics_every_seconds * 1000,
        )
        self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        meter = self._meters.get_meter(_SCOPE, schema_url=SCHEMA)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time to receive the first chunk.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._backlog: Backlog[Done] = Backlog(self._send, "stillhouse-tracing", every_seconds)

    @property
    def lost(self) -> int:
        """How many requests were not traced because the collector was too slow or away."""
        return self._backlog.dropped + self._backlog.failed

    def done(self, done: Done) -> None:
        """Take note of a request that has ended."""
        self._backlog.put(done)

    def close(self) -> None:
        """Send what waits; gives up on a collector that does not answer after a few seconds."""
        self._backlog.close()
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._spans.shutdown()
        self._meters.shutdown(timeout_millis=5000)

    def _send(self, batch: list[Done]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        for done in batch:
            self._trace(done)
        spans, self._collected.spans = self._collected.spans, []
        if spans and self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            self._backlog.failed += len(batch)

    def _trace(self, done: Done) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        self._ids.trace_id = int(done.exchange_id, 16)
        began_ns = done.at_us * 1000
        span = self._tracer.start_span(
            f"stillhouse {done.wire}",
            self._parent(done),
            SpanKind.SERVER,
            _of_request(done),
            start_time=began_ns,
        )
        within = set_span_in_context(span)
        for entry in done.attempts:
            if entry.attempt.kind is not AttemptKind.CACHE:
                self._trace_call(done, entry, within)
        if done.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(began_ns + int(done.seconds * 1e9))

    def _trace_call(self, done: Done, entry: Ended, within: Context) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        attempt = entry.attempt
        shared = self._of_call(done, entry)
        self._measure(done, entry, shared)
        began_ns = (attempt.at_us or done.at_us) * 1000
        span = self._tracer.start_span(
            f"{shared['gen_ai.operation.name']} {done.model}",
            within,
            SpanKind.CLIENT,
            {**shared, **_of_usage(done, entry)},
            start_time=began_ns,
        )
        if entry.fate is not Fate.OK:
            span.set_status(Status(StatusCode.ERROR))
        span.end(began_ns + int((attempt.latency_ms or 0.0) * 1e6))

    def _measure(self, done: Done, entry: Ended, shared: Attributes) -> None:
        attempt, usage = entry.attempt, entry.attempt.usage
        if attempt.latency_ms is not None:
            self._duration.record(attempt.latency_ms / 1000, shared)
        if done.stream and entry.first_byte_ms is not None:
            self._first_chunk.record(entry.first_byte_ms / 1000, shared)
        if usage is not None and entry.fate is Fate.OK:
            for kind, count in (
                ("input", usage.total_input_tokens),
                ("output", usage.total_output_tokens),
            ):
                self._tokens.record(count, {**shared, "gen_ai.token.type": kind})

    def _parent(self, done: Done) -> Context | None:
        from opentelemetry.context import Context

        if not done.traceparent:
            return Context()
        return self._context.extract({"traceparent": done.traceparent}, Context())

    def _of_call(self, done: Done, entry: Ended) -> Attributes:
        """What spans and metrics of a call upstream have in common."""
        attempt = entry.attempt
        host = attempt.host or entry.upstream
        told: Attributes = {
            "gen_ai.operation.name": _OPERATIONS.get(done.wire, "chat"),
            "gen_ai.provider.name": _PROVIDERS.get(host, host) or "unknown",
            "gen_ai.request.model": done.model,
        }
        if entry.fate is Fate.OK:
            told["gen_ai.response.model"] = attempt.model
        else:
            status = entry.fate is Fate.STATUS
            told["error.type"] = str(entry.status) if status else str(entry.fate)
        address, port = self._servers.get(entry.upstream, ("", 0))
        if address:
            told |= {"server.address": address, "server.port": port}
        return told


def _of_request(done: Done) -> Attributes:
    tags = done.tags
    told: Attributes = {
        "http.request.method": "POST",
        "http.response.status_code": done.status,
        "gen_ai.request.model": done.model,
        "stillhouse.exchange_id": done.exchange_id,
        "stillhouse.overhead_seconds": done.overhead_seconds,
    }
    if done.cost_pico is not None:
        told["stillhouse.cost_usd"] = done.cost_pico / PICO
    if done.cached:
        told["stillhouse.cached"] = True
    if done.status >= 500:
        told["error.type"] = str(done.status)
    said = {
        "key_id": done.key_id,
        "task": tags.task,
        "team": tags.team,
        "customer": tags.customer,
        "feature": tags.feature,
        "refused_by": done.refused_by,
    }
    return told | {f"stillhouse.{name}": value for name, value in said.items() if value}


def _of_usage(done: Done, entry: Ended) -> Attributes:
    usage = entry.attempt.usage
    told: Attributes = {
        "stillhouse.attempt_id": entry.attempt.attempt_id,
        "stillhouse.attempt_kind": str(entry.attempt.kind),
        "stillhouse.evidence": str(entry.attempt.evidence),
    }
    if done.stream:
        told["gen_ai.request.stream"] = True
        if entry.first_byte_ms is not None:
            told["gen_ai.response.time_to_first_chunk"] = entry.first_byte_ms / 1000
    if entry.status:
        told["http.response.status_code"] = entry.status
    if usage is None:
        return told
    told["gen_ai.usage.input_tokens"] = usage.total_input_tokens
    told["gen_ai.usage.output_tokens"] = usage.total_output_tokens
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    parts = {
        "cache_read.input_tokens": usage.cache_read_tokens + usage.cache_audio_read_tokens,
        "cache_creation.input_tokens": written,
        "reasoning.output_tokens": usage.reasoning_tokens,
    }
    return told | {f"gen_ai.usage.{name}": count for name, count in parts.items() if count}


def _server(upstream: Upstream) -> tuple[str, int]:
    """Host and port of an upstream's base URL; empty for one that is not called by HTTP."""
    parts = urlsplit(upstream.base_url)
    return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
