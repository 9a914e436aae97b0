"""Enhancing and the cache's tiers, counted."""

from collections.abc import Sequence
from typing import TypeVar

from gateway.cache import Cache, Picture, Store
from gateway.faces import FaceFinder
from gateway.imaging.photo import OutputFormat, PixelLimits
from gateway.params import EnhanceParams, PreprocessParams
from gateway.pipeline.enhancer import Enhancer, Slot
from gateway.pipeline.result import Enhanced, Preprocessed
from gateway.service.metrics import Metrics
from gateway.upstream.models import Models
from gpen_client.client import GpenClient
from gpen_common.threads import Threads
from gpen_common.tracing import note
from gpen_common.types import ModelInfo

V = TypeVar("V")


class MeasuredEnhancer(Enhancer):
    """An Enhancer that counts what it makes."""

    def __init__(
        self,
        metrics: Metrics,
        finder: FaceFinder,
        client: GpenClient,
        models: Models,
        threads: Threads,
        limits: PixelLimits,
        cache: Cache,
    ) -> None:
        super().__init__(finder, client, models, threads, limits, cache)
        self._metrics = metrics

    async def preprocess(
        self, picture: Picture, params: PreprocessParams, accepted: OutputFormat | None = None
    ) -> Preprocessed:
        """As `Enhancer.preprocess`."""
        made = await super().preprocess(picture, params, accepted)
        self._metrics.preprocessed()
        self._metrics.timed(made.report.timings_ms)
        return made

    async def enhance(
        self,
        picture: Picture,
        params: EnhanceParams,
        model: ModelInfo,
        request_id: str,
        deadline: float,
        accepted: OutputFormat | None = None,
        slot: Slot | None = None,
    ) -> Enhanced:
        """As `Enhancer.enhance`."""
        made = await super().enhance(picture, params, model, request_id, deadline, accepted, slot)
        self._metrics.enhanced(params.output, made.engine, made.model, made.faces, made.left_alone)
        self._metrics.timed(made.timings_ms)
        stages = {f"gpen.stage.{name}_ms": value for name, value in made.timings_ms.items()}
        note({"gpen.engine": made.engine, "gpen.model": made.model, "gpen.faces": made.faces, **stages})
        return made


class MeasuredStore(Store[V]):
    """A medium of the cache whose hits and misses are counted."""

    def __init__(self, store: Store[V], metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    @property
    def name(self) -> str:
        """The tier's name."""
        return self._store.name

    async def first(self, keys: Sequence[str]) -> tuple[str, V] | None:
        """The first of `keys` under which something is kept, and that."""
        found = await self._store.first(keys)
        for _ in keys[: keys.index(found[0])] if found else keys:
            self._metrics.cache_read(self.name, "miss")
        if found:
            self._metrics.cache_read(self.name, "hit")
        return found

    async def put(self, key: str, entry: V) -> None:
        """Keeps `entry` under `key`."""
        await self._store.put(key, entry)
        self._metrics.cache_written(self.name)

    async def drop(self, key: str) -> None:
        """Removes what is kept under `key`, which only damage makes necessary."""
        self._metrics.cache_read(self.name, "damaged")
        await self._store.drop(key)

    async def close(self) -> None:
        """Lets go of the medium."""
        await self._store.close()
