"""Traces across the gateway and its backend with OpenTelemetry, an optional dependency.

W3C Trace Context headers carry a trace's context from the client through the gateway to the backend.
OpenTelemetry is imported only if tracing is on, and nothing of it is configured globally: each app has its
own provider.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpen_common.probes import PROBES
from gpen_common.request_observer import read_route

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

Trace = Callable[[str], AbstractContextManager[Mapping[str, str]]]
"""A context manager around one call of a model, by its name; yields HTTP headers to send along."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class TracingUnavailable(Exception):
    """Tracing is on, but OpenTelemetry is not installed. `str(error)` says what to do."""


@contextmanager
def no_trace(_: str) -> Iterator[Mapping[str, str]]:
    """Trace nothing; a Trace for callers without tracing."""
    yield {}


def create_tracing(service: str) -> "Tracing | None":
    """Return the tracing of the app `service`; None if the environment names no collector for spans.

    OpenTelemetry's own environment variables configure the rest. Raises TracingUnavailable.
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
    def trace_call(self, model: str) -> Iterator[Mapping[str, str]]:
        """Open a span around one call of a backend; yields the headers that continue the trace there."""
        from opentelemetry.trace import SpanKind

        attributes = {"gpen.model": model}
        with self._tracer.start_as_current_span("infer", kind=SpanKind.CLIENT, attributes=attributes):
            headers: dict[str, str] = {}
            self._propagator.inject(headers)
            yield headers

    @contextmanager
    def trace_request(self, scope: Scope) -> Iterator[Callable[[int], None]]:
        """Open a span around one ASGI request; yields a function that records the response's status."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with self._tracer.start_as_current_span(
            scope["method"],
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
        ) as span:

            def record_status(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))

            yield record_status
            route = read_route(scope)
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)

    async def close(self) -> None:
        """Send the remaining spans."""
        await asyncio.to_thread(self._provider.shutdown)


class TracingMiddleware:
    """ASGI middleware that opens a span for each request except probes."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self.app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        with self._tracing.trace_request(scope) as record_status:

            async def send_recorded(message: Message) -> None:
                if message["type"] == "http.response.start":
                    record_status(message["status"])
                await send(message)

            await self.app(scope, receive, send_recorded)


def note(attributes: Mapping[str, str | float]) -> None:
    """Add `attributes` to the current span, if any."""
    # Not imported: tracing is off.
    api = sys.modules.get("opentelemetry.trace")
    if api is not None:
        api.get_current_span().set_attributes(attributes)
