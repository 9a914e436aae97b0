"""What a backend counts of its requests and restorations, and what it is at, for Prometheus.

Every metric and label is told in docs/observability.md. No label takes its value from what a caller sends.
"""

import functools
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from gpen_backend.scheduling.service import Service
from gpen_common.asgi import App, Scope
from gpen_common.observer import Observer

_PREFIX = "gpen_backend"
# A probe takes under a millisecond, a face at 512 px tenths of a second on a CPU, a crowd at 2048 px minutes.
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
# A portrait of 896 px has 2.4 MB, the largest body there may be by default 200 MB.
_BODY_BYTES = (1e4, 1e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7, 5e7, 1e8, 2e8)
_COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
_UNROUTED = "other"


class Metrics:
    """The metrics of one backend. Their registry is its own: several backends in one process do not meet."""

    def __init__(self, version: str) -> None:
        self.registry = own = CollectorRegistry()
        # A gateway that embeds this backend shows its own process under the usual names.
        ProcessCollector(namespace=_PREFIX, registry=own)
        info = Gauge(f"{_PREFIX}_info", "The backend's version, as a label.", ["version"], registry=own)
        info.labels(version).set(1)
        self._requests = Counter(
            f"{_PREFIX}_requests", "Requests answered, by route and HTTP status.", ["route", "status"],
            registry=own,
        )  # fmt: skip
        self._request_seconds = Histogram(
            f"{_PREFIX}_request_seconds", "Seconds from a request's arrival to the end of its answer.",
            ["route"], buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self._body_bytes = Histogram(
            f"{_PREFIX}_body_bytes", "Bytes of bodies received (in) and sent (out).", ["direction"],
            buckets=_BODY_BYTES, registry=own,
        )  # fmt: skip
        self._restorations = Counter(
            f"{_PREFIX}_restorations", "Pictures restored, by model and by what ran it.", ["model", "engine"],
            registry=own,
        )  # fmt: skip
        stage_seconds = Histogram(
            f"{_PREFIX}_stage_seconds", "Seconds of a restoration's stages.", ["stage"],
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        # A restoration has several: to look each one up takes longer than to count it.
        self._stage_seconds = functools.cache(stage_seconds.labels)
        self._faces = Histogram(
            f"{_PREFIX}_faces", "Faces restored in a picture.", buckets=_COUNTS, registry=own
        )
        self._batch_size = Histogram(
            f"{_PREFIX}_batch_size", "Faces that shared a run of the network, for each picture with faces.",
            buckets=_COUNTS[1:], registry=own,
        )  # fmt: skip

    def request(self, route: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Counts one answered request. route: a route's template. received, sent: bytes of the bodies."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)
        for direction, size in (("in", received), ("out", sent)):
            if size:
                self._body_bytes.labels(direction).observe(size)

    def restored(
        self, model: str, engine: str, faces: int, batch_size: int, timings_ms: Mapping[str, float]
    ) -> None:
        """Counts one restoration. model: one that is served here."""
        self._restorations.labels(model, engine).inc()
        self._faces.observe(faces)
        if batch_size:
            self._batch_size.observe(batch_size)
        for stage, milliseconds in timings_ms.items():
            self._stage_seconds(stage).observe(milliseconds / 1000)


class Gauges(Collector):
    """What a running service is at, read when Prometheus asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Reads the state."""
        service = self._service
        yield GaugeMetricFamily(
            f"{_PREFIX}_queue_depth", "Requests taken on and not yet answered.", service.taken
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_queue_limit", "How many there may be; the next gets 429.", service.settings.max_queue
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_faces_waiting", "Faces that wait for their run of the network.", service.faces_waiting
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_faces_waiting_limit", "How many there may be; the next request gets 429.",
            service.settings.max_faces_waiting,
        )  # fmt: skip
        ready = GaugeMetricFamily(
            f"{_PREFIX}_model_ready", "The models served: 1 where ready.", labels=["model", "engine"]
        )
        for name in service.models.names:
            status = service.models.status(name)
            ready.add_metric([name, status.engine], float(status.reason is None))
        yield ready


class Traffic(Observer):
    """Counts each request."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        super().__init__(app)
        self._metrics = metrics

    def answered(self, scope: Scope, status: int, seconds: float, received: int, sent: int) -> None:
        """Counts it by its route's template."""
        route = getattr(scope.get("route"), "path", _UNROUTED)
        self._metrics.request(route, status, seconds, received, sent)


async def exposition(request: Request) -> Response:
    """GET /metrics: everything, in Prometheus's text format 0.0.4."""
    metrics = request.app.state.metrics
    assert isinstance(metrics, Metrics)  # noqa: S101 - for the type checker
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
