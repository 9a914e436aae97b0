"""Prometheus metrics of a backend: requests, restorations, queue and models.

docs/observability.md describes every metric and label. No label's value comes from the client.
"""

import functools
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from gpen_backend.scheduling.restoration_service import Service
from gpen_common.request_observer import FinishedRequest, read_route

_PREFIX = "gpen_backend"
# A probe takes less than 1 ms, a face of 512 px tenths of a second on a CPU, many faces of 2048 px minutes.
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
# A portrait of 896 px has 2.4 MB; the default limit is 200 MB.
_BODY_BYTES = (1e4, 1e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7, 5e7, 1e8, 2e8)
_COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class Metrics:
    """The metrics of one backend, in a registry of its own, so that a process may hold several backends."""

    def __init__(self, version: str) -> None:
        self.registry = own = CollectorRegistry()
        # The prefix avoids the names of the process metrics of a gateway that embeds this backend.
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
            f"{_PREFIX}_restorations", "Pictures restored, by model and engine.", ["model", "engine"],
            registry=own,
        )  # fmt: skip
        stage_seconds = Histogram(
            f"{_PREFIX}_stage_seconds", "Seconds of a restoration's stages.", ["stage"],
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        # Each restoration has several stages, and looking up a child takes longer than counting.
        self._stage_seconds = functools.cache(stage_seconds.labels)
        self._faces = Histogram(
            f"{_PREFIX}_faces", "Faces restored in a picture.", buckets=_COUNTS, registry=own
        )
        self._batch_size = Histogram(
            f"{_PREFIX}_batch_size", "Faces that shared a run of the network, for each picture with faces.",
            buckets=_COUNTS[1:], registry=own,
        )  # fmt: skip

    def count_request(self, request: FinishedRequest) -> None:
        """Count one finished request by the template of its route."""
        route = read_route(request.scope)
        self._requests.labels(route, str(request.status)).inc()
        self._request_seconds.labels(route).observe(request.seconds)
        for direction, size in (("in", request.received), ("out", request.sent)):
            if size:
                self._body_bytes.labels(direction).observe(size)

    def count_restoration(
        self, model: str, engine: str, faces: int, batch_size: int, timings_ms: Mapping[str, float]
    ) -> None:
        """Count one restoration. model: one that this backend serves."""
        self._restorations.labels(model, engine).inc()
        self._faces.observe(faces)
        if batch_size:
            self._batch_size.observe(batch_size)
        for stage, milliseconds in timings_ms.items():
            self._stage_seconds(stage).observe(milliseconds / 1000)


class Gauges(Collector):
    """The state of a running service, read on each scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Read the state."""
        service = self._service
        yield GaugeMetricFamily(
            f"{_PREFIX}_queue_depth", "Requests admitted and not yet answered.", service.admitted
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_queue_limit",
            "Limit of queue_depth; further requests get 429.",
            service.settings.max_queue,
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_faces_waiting", "Faces that wait for their run of the network.", service.faces_waiting
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_faces_waiting_limit", "Limit of faces_waiting; further requests get 429.",
            service.settings.max_faces_waiting,
        )  # fmt: skip
        ready = GaugeMetricFamily(
            f"{_PREFIX}_model_ready", "The models served: 1 where ready.", labels=["model", "engine"]
        )
        for name in service.models.names:
            status = service.models.status(name)
            ready.add_metric([name, status.engine], float(status.reason is None))
        yield ready


async def expose_metrics(request: Request) -> Response:
    """GET /metrics: all metrics in Prometheus's text format 0.0.4."""
    metrics = request.app.state.metrics
    assert isinstance(metrics, Metrics)  # noqa: S101 - for the type checker
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
