"""`/v1/enhance`: the result of one request, from the cache, from an identical request in flight, or new."""

from dataclasses import replace
from functools import partial

from gateway.cache import Cache, CacheEntry, cache_key
from gateway.faces import FaceFinder
from gateway.params import NOT_IN_RESULT, EnhanceParams
from gateway.pipeline.in_flight import InFlight
from gateway.pipeline.photo_enhancer import PhotoEnhancer
from gateway.pipeline.picture_request import PictureRequest
from gateway.pipeline.portrait_enhancer import PortraitEnhancer
from gateway.pipeline.result import Result
from gateway.schemas.reports import EnhanceReport
from gateway.service.admission import Admission
from gateway.service.metrics import Metrics
from gateway.upstream.backend import Backend
from gateway.upstream.model_choice import Models
from gpen_client.client import GpenClient
from gpen_common.tracing import note


class Enhancer:
    """Enhances pictures. One instance serves all requests."""

    def __init__(
        self,
        portraits: PortraitEnhancer,
        photos: PhotoEnhancer,
        finder: FaceFinder,
        client: GpenClient,
        models: Models,
        cache: Cache,
        admission: Admission,
        metrics: Metrics,
    ) -> None:
        self._portraits = portraits
        self._photos = photos
        self._finder = finder
        self._client = client
        self._models = models
        self._cache = cache
        self._admission = admission
        self._metrics = metrics
        self.in_flight: InFlight[Result[EnhanceReport]] = InFlight()

    async def choose_model(self, asked: PictureRequest[EnhanceParams]) -> None:
        """Choose the backend's model. Raises UnknownModel, NotReady and BackendAway."""
        with asked.timings.stage("model"):
            asked.model = await self._models.choose(asked.params.model, asked.params.task)

    def compute_key(self, asked: PictureRequest[EnhanceParams]) -> None:
        """Compute the key of the result, 64 hex digits. The model must be chosen."""
        with asked.timings.stage("key"):
            asked.key = self._key(asked)

    async def look_up(self, asked: PictureRequest[EnhanceParams]) -> Result[EnhanceReport] | None:
        """Return the result in the cache, or None."""
        with asked.timings.stage("cache"):
            entry = await self._cache.get(asked.key)
        result = None if entry is None else _read_entry(entry)
        return None if result is None else result.with_timings(asked.timings.finish())

    async def make(self, asked: PictureRequest[EnhanceParams]) -> Result[EnhanceReport]:
        """Return the result of an identical request in flight, or a new one. Raises GatewayError."""
        result = await self.in_flight.join(asked.key, partial(self._make, asked), asked.work, asked.timings)
        return result.with_timings(asked.timings.finish())

    def _key(self, asked: PictureRequest[EnhanceParams]) -> str:
        model = asked.chosen_model
        depends_on = {
            "params": asked.params.model_dump(mode="json", exclude=NOT_IN_RESULT),
            "accepted": asked.accepted,
            "model": [model.name, model.engine, model.size],
            "finder": self._finder.name,
        }
        return cache_key("enhanced", asked.picture.sha256, depends_on)

    async def _make(self, asked: PictureRequest[EnhanceParams]) -> Result[EnhanceReport]:
        async with asked.worker(self._admission) as deadline:
            backend = Backend(self._client, asked.chosen_model, asked.request_id, deadline)
            enhancer = self._photos if asked.params.output == "photo" else self._portraits
            made = await enhancer.enhance(asked, backend)
            if self._cache.on:
                # The list of models may be a minute old: a backend that has lost its checkpoint since then
                # restores with another engine than the key names.
                if made.report.engine == asked.chosen_model.engine:
                    with asked.timings.stage("store"):
                        await self._cache.put(asked.key, _write_entry(made))
                made = replace(made, cache="miss")
        self._count(asked, made)
        return made

    def _count(self, asked: PictureRequest[EnhanceParams], made: Result[EnhanceReport]) -> None:
        report, timings_ms = made.report, asked.timings.finish()
        self._metrics.count_enhanced(
            asked.params.output, report.engine, report.model, len(report.faces), len(report.left_alone)
        )
        self._metrics.observe_stages(timings_ms)
        stages = {f"gpen.stage.{name}_ms": value for name, value in timings_ms.items()}
        note({"gpen.engine": report.engine, "gpen.model": report.model, "gpen.faces": len(report.faces),
              **stages})  # fmt: skip


def _write_entry(result: Result[EnhanceReport]) -> CacheEntry:
    head = {"format": result.output_format, "report": result.report.model_dump(mode="json")}
    return CacheEntry(head, result.image)


def _read_entry(entry: CacheEntry) -> Result[EnhanceReport] | None:
    """Read a cached result; None for an entry of another version, which may lack a field."""
    try:
        report = EnhanceReport.model_validate(entry.head["report"])
        return Result(bytes(entry.body), entry.head["format"], report, "hit")
    except (KeyError, TypeError, ValueError):
        return None
