"""Prometheus metrics of a gateway: requests, pictures, stages, cache.

docs/observability.md describes every metric and label. No label takes its value from what a client sends.
"""

import functools
from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from gateway import __version__
from gpen_common.request_observer import FinishedRequest

# A probe takes under a millisecond, a portrait tenths of a second to seconds, a crowd on a CPU minutes.
_REQUEST_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
# From a colour conversion to a network of 2048 px on a CPU.
_STAGE_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
# From an answer without a picture to the largest upload by default.
_BODY_BYTES = (1e3, 1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 2e7, 5e7, 2e8)
_FACES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
# A backend names its own stages, engines and models: bound the number of label values.
_MOST_NAMES = 32
_OTHER = "other"


class Names:
    """Label values: the first `most` keep their names, further ones become `other`."""

    def __init__(self, most: int = _MOST_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """Return `name`, or `other` where there are too many."""
        if name not in self._known and len(self._known) >= self._most:
            return _OTHER
        self._known.add(name)
        return name


class Metrics:
    """The metrics of one gateway, in a registry of its own: several gateways can share a process."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        info = Gauge("gateway_info", "The gateway's version, as a label.", ["version"], registry=own)
        info.labels(__version__).set(1)
        self._requests = Counter(
            "gateway_requests",
            "Requests answered, by route and HTTP status.",
            ["route", "status"],
            registry=own,
        )
        self._request_seconds = Histogram(
            "gateway_request_seconds", "Seconds from a request's arrival to the end of its answer.",
            ["route"], buckets=_REQUEST_SECONDS, registry=own,
        )  # fmt: skip
        self._body_bytes = Histogram(
            "gateway_body_bytes", "Bytes of bodies received (in) and sent (out).", ["direction"],
            buckets=_BODY_BYTES, registry=own,
        )  # fmt: skip
        self._pictures = Counter(
            "gateway_pictures", "Pictures made, not read from the cache.", ["output", "engine", "model"],
            registry=own,
        )  # fmt: skip
        stage_seconds = Histogram(
            "gateway_stage_seconds", "Seconds of a picture's stages; those of gpen_ are parts of others.",
            ["stage"], buckets=_STAGE_SECONDS, registry=own,
        )  # fmt: skip
        # A picture has a dozen stages; looking up a label takes longer than counting.
        self._stage_seconds = functools.cache(stage_seconds.labels)
        self._faces = Histogram(
            "gateway_faces", "Faces of a picture: restored, or left alone.", ["outcome"],
            buckets=_FACES, registry=own,
        )  # fmt: skip
        self._cache_reads = Counter(
            "gateway_cache_reads", "Reads of a tier of the cache: hit, miss or damaged, which is a hit too.",
            ["tier", "outcome"], registry=own,
        )  # fmt: skip
        self._cache_writes = Counter(
            "gateway_cache_writes", "Entries written to a tier of the cache.", ["tier"], registry=own
        )
        self._stages, self._engines, self._models = Names(), Names(), Names()

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format 0.0.4."""
        return generate_latest(self.registry)

    def count_request(self, request: FinishedRequest, routes: Collection[str]) -> None:
        """Count one finished request. routes: the paths that are labels; all others count as `other`."""
        path: str = request.scope["path"]
        route = path if path in routes else _OTHER
        self._requests.labels(route, str(request.status)).inc()
        self._request_seconds.labels(route).observe(request.seconds)
        for direction, size in (("in", request.received), ("out", request.sent)):
            if size:
                self._body_bytes.labels(direction).observe(size)

    def count_enhanced(self, output: str, engine: str, model: str, faces: int, left_alone: int) -> None:
        """Count one enhanced picture. output: `portrait` or `photo`. faces, left_alone: numbers of faces."""
        self._pictures.labels(output, self._engines(engine), self._models(model)).inc()
        self._faces.labels("restored").observe(faces)
        self._faces.labels("left_alone").observe(left_alone)

    def count_preprocessed(self) -> None:
        """Count one standardised portrait."""
        self._pictures.labels("preprocess", "", "").inc()

    def observe_stages(self, stages_ms: Mapping[str, float]) -> None:
        """Count the duration of each stage of one picture, milliseconds."""
        for stage, milliseconds in stages_ms.items():
            self._stage_seconds(self._stages(stage)).observe(milliseconds / 1000)

    def count_cache_event(self, tier: str, event: str) -> None:
        """Count one read of a tier of the cache (`hit`, `miss`, `damaged`) or one write (`written`)."""
        if event == "written":
            self._cache_writes.labels(tier).inc()
        else:
            self._cache_reads.labels(tier, event).inc()
