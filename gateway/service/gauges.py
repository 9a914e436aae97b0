"""Gauges of a running gateway, collected when Prometheus scrapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.service.admission import Admission
from gateway.upstream.model_choice import Models
from gpen_client.client import GpenClient
from gpen_client.resilience import BreakerState


class Gauges(Collector):
    """Collects queue, backend and models. finder: the name of the face finder."""

    def __init__(self, admission: Admission, client: GpenClient, models: Models, finder: str) -> None:
        self._admission = admission
        self._client = client
        self._models = models
        self._finder = finder

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        yield from self._queue()
        yield from self._upstream()
        yield _info("gateway_face_finder_info", "Active face finder.", {"finder": self._finder})

    def _queue(self) -> Iterator[Metric]:
        now = self._admission
        for name, text, value in (
            ("tickets", "Requests that wait for a worker or have one.", now.taken),
            ("tickets_limit", "Limit of gateway_tickets; further requests get 429.", now.limit),
            ("workers", "Limit of requests, or files of batches, in progress at once.", now.workers),
            ("workers_busy", "Requests, or files of batches, in progress.", now.busy),
            ("queue_depth", "Requests, or files of batches, waiting for a worker.", now.queued),
        ):
            yield GaugeMetricFamily(f"gateway_{name}", text, value)

    def _upstream(self) -> Iterator[Metric]:
        breaker = GaugeMetricFamily(
            "gateway_breaker_state",
            "1 for the current state of the backend's circuit breaker.",
            labels=["state"],
        )
        for state in get_args(BreakerState):
            breaker.add_metric([state], float(self._client.breaker_state == state))
        yield breaker
        tally = self._client.tally
        yield CounterMetricFamily("gateway_backend_retries", "Retried calls to the backend.", tally.retries)
        attempts = CounterMetricFamily(
            "gateway_backend_attempts", "Calls to the backend, by outcome.",
            labels=["outcome"],
        )  # fmt: skip
        for outcome, count in tally.outcomes.items():
            attempts.add_metric([outcome], count)
        yield attempts
        models = GaugeMetricFamily(
            "gateway_model_ready", "The backend's models as last listed: 1 where ready.",
            labels=["model", "engine"],
        )  # fmt: skip
        for model in self._models.known:
            models.add_metric([model.name, model.engine], float(model.ready))
        yield models


@contextmanager
def register(registry: CollectorRegistry, gauges: Gauges) -> Iterator[None]:
    """Collect `gauges` with `registry` until the block ends."""
    registry.register(gauges)
    try:
        yield
    finally:
        registry.unregister(gauges)


def _info(name: str, text: str, labels: dict[str, str]) -> Metric:
    info = GaugeMetricFamily(name, text, labels=list(labels))
    info.add_metric(list(labels.values()), 1)
    return info
