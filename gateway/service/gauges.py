"""What a gateway is at now, read when Prometheus asks and at no other time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.service.admission import Admission
from gateway.upstream.models import Models
from gpen_client.client import GpenClient
from gpen_client.resilience import BreakerState


class Gauges(Collector):
    """The state of a running gateway, as metrics. finder: the name of its face finder."""

    def __init__(self, admission: Admission, client: GpenClient, models: Models, finder: str) -> None:
        self._admission = admission
        self._client = client
        self._models = models
        self._finder = finder

    def collect(self) -> Iterator[Metric]:
        """Reads the state."""
        yield from self._queue()
        yield from self._upstream()
        yield _info("gateway_face_finder_info", "Which face finder looks.", {"finder": self._finder})

    def _queue(self) -> Iterator[Metric]:
        now = self._admission
        for name, told, value in (
            ("tickets", "Requests taken in and not yet done with.", now.waiting),
            ("tickets_limit", "How many there may be; the next gets 429.", now.limit),
            ("workers", "Requests, or files of batches, that may be worked on at once.", now.workers),
            ("workers_busy", "How many are worked on.", now.busy),
            ("queue_depth", "How many wait for a worker.", now.queued),
        ):
            yield GaugeMetricFamily(f"gateway_{name}", told, value)

    def _upstream(self) -> Iterator[Metric]:
        breaker = GaugeMetricFamily(
            "gateway_breaker_state", "1 for the state the backend's breaker is in.", labels=["state"]
        )
        for state in get_args(BreakerState):
            breaker.add_metric([state], float(self._client.breaker_state == state))
        yield breaker
        tally = self._client.tally
        yield CounterMetricFamily("gateway_backend_retries", "Restorations sent again.", tally.retries)
        attempts = CounterMetricFamily(
            "gateway_backend_attempts", "Attempts to have something restored, by how they ended.",
            labels=["outcome"],
        )  # fmt: skip
        for outcome, count in tally.outcomes.items():
            attempts.add_metric([outcome], count)
        yield attempts
        models = GaugeMetricFamily(
            "gateway_model_ready", "The backend's models as it last told them: 1 where ready.",
            labels=["model", "engine"],
        )  # fmt: skip
        for model in self._models.known:
            models.add_metric([model.name, model.engine], float(model.ready))
        yield models


@contextmanager
def shown(registry: CollectorRegistry, gauges: Gauges) -> Iterator[None]:
    """`gauges` are part of `registry` until the block ends."""
    registry.register(gauges)
    try:
        yield
    finally:
        registry.unregister(gauges)


def _info(name: str, told: str, labels: dict[str, str]) -> Metric:
    info = GaugeMetricFamily(name, told, labels=list(labels))
    info.add_metric(list(labels.values()), 1)
    return info
