"""Traces across the gateway and its backend, by OpenTelemetry, where it is installed and asked for.

The context of a trace travels as W3C Trace Context headers, on the wire between the two as anywhere else.
Only who asks for traces imports OpenTelemetry, and nothing of it is configured globally: each app has a
provider of its own.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

Trace = Callable[[str], AbstractContextManager[Mapping[str, str]]]
"""What a call of a model is wrapped in: gives the headers that it travels with."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_UNROUTED = "other"
# Asked every few seconds, and nobody's request.
_PROBES = ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")


class TracingUnavailable(Exception):
    """Traces are asked for, and OpenTelemetry is not installed. `str(error)` says what to do."""


@contextmanager
def untraced(_: str) -> Iterator[Mapping[str, str]]:
    """The Trace of whoever wants none."""
    yield {}


def tracing(service: str) -> "Tracing | None":
    """What traces the app `service`, or None where the environment names no collector to send spans to.

    Everything else is OpenTelemetry's own environment variables. Raises TracingUnavailable.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(os.environ.get, _ENDPOINTS)):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise TracingUnavailable(
            f"{_ENDPOINTS[0]} is set, but OpenTelemetry is not installed: pip install 'gpen-gateway[otel]'"
        ) from error
    return Tracing(service, OTLPSpanExporter())


class Tracing:
    """The spans of one app."""

    def __init__(self, service: str, exporter: "SpanExporter") -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME") or service
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(service)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def call(self, model: str) -> Iterator[Mapping[str, str]]:
        """A span around one call of a backend, and the headers that continue it there."""
        from opentelemetry.trace import SpanKind

        attributes = {"gpen.model": model}
        with self._tracer.start_as_current_span("infer", kind=SpanKind.CLIENT, attributes=attributes):
            headers: dict[str, str] = {}
            self._propagator.inject(headers)
            yield headers

    @contextmanager
    def request(self, scope: MutableMapping[str, Any]) -> Iterator[Callable[[int], None]]:
        """A span around the answer to one ASGI request, and what tells it the status."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with self._tracer.start_as_current_span(
            scope["method"],
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
        ) as span:

            def answered(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))

            yield answered
            route = getattr(scope.get("route"), "path", _UNROUTED)
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)

    async def close(self) -> None:
        """Sends what was not sent yet."""
        await asyncio.to_thread(self._provider.shutdown)


class Traced:
    """ASGI middleware: a span for each request but those of probes."""

    def __init__(self, app: Any, tracing: Tracing) -> None:  # noqa: ANN401 - an ASGI app of any framework
        self.app = app
        self._tracing = tracing

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self.app(scope, receive, send)
            return
        with self._tracing.request(scope) as answered:

            async def send_noted(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    answered(message["status"])
                await send(message)

            await self.app(scope, receive, send_noted)


def note(attributes: Mapping[str, str | float]) -> None:
    """Adds `attributes` to the span that is open here, if any."""
    # Not imported means that nobody traces.
    api = sys.modules.get("opentelemetry.trace")
    if api is not None:
        api.get_current_span().set_attributes(attributes)
