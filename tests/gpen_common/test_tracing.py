"""A trace continues from the gateway to its backend. Without a collector nothing is traced."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from gateway.app import create_app
from gateway.imaging.encoder import encode
from gateway.settings import CacheSettings, FaceSettings, Settings
from gpen_common.tracing import TracingUnavailable, create_tracing

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Stores spans that it gets as OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, object]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        proto = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        body = proto.ExportTraceServiceRequest()
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            raw = gzip.decompress(raw)
        body.ParseFromString(raw)
        for resource in body.resource_spans:
            service = {one.key: one.value.string_value for one in resource.resource.attributes}[
                "service.name"
            ]
            self.server.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


async def enhance(astronaut, tmp_path, monkeypatch) -> httpx.Response:
    """Return the answer of a gateway with an embedded backend, after both have shut down."""
    monkeypatch.setenv("GPEN_BACKEND_ENGINE", "classical")
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path))
    settings = Settings(cache=CacheSettings(cache="off"), faces=FaceSettings(face_finder="haar"))
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60) as client,
    ):
        await client.get("/healthz")
        headers = {"Content-Type": "image/png", "traceparent": f"00-{TRACE}-{PARENT}-01"}
        return await client.post("/v1/enhance", content=encode(astronaut, "png", 95), headers=headers)


async def test_spans_of_both_sides_belong_to_the_callers_trace(collector, astronaut, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    answer = await enhance(astronaut, tmp_path, monkeypatch)
    assert answer.status_code == 200
    named = {(service, span.name): span for service, span in collector.spans if span.trace_id.hex() == TRACE}
    request = named["gpen-gateway", "POST /v1/enhance"]
    call = named["gpen-gateway", "infer"]
    served = named["gpen-backend", "POST /v2/models/{model}/infer"]
    assert request.parent_span_id.hex() == PARENT
    assert call.parent_span_id == request.span_id
    assert served.parent_span_id == call.span_id
    stages = {one.key for one in request.attributes}
    assert {"gpen.engine", "gpen.faces", "gpen.stage.decode_ms", "http.response.status_code"} <= stages
    assert {"gpen.stage.align_ms", "gpen.batch_size"} <= {one.key for one in served.attributes}
    assert not [span for _, span in collector.spans if "healthz" in span.name]


def test_without_a_collector_nothing_is_traced_or_imported(monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert create_tracing("gateway") is None
    # FastAPI itself imports the API, not the SDK.
    loaded = "import sys, gateway.cli; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True).strip() == "[]"


def test_a_missing_opentelemetry_is_an_error_with_advice(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracingUnavailable, match="pip install"):
        create_tracing("gateway")


def test_otel_sdk_disabled_turns_tracing_off(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert create_tracing("gateway") is None
