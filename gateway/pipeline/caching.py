"""Enhancing, remembered: the same bytes and parameters on the same model give the same answer."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.cache import Body, Cache, Entry, Later, Picture, SingleFlight, cache_key
from gateway.errors import DeadlinePassed
from gateway.imaging.photo import OutputFormat
from gateway.params import EnhanceParams, PreprocessParams
from gateway.pipeline.enhancer import Enhancer, Slot
from gateway.pipeline.result import Enhanced, Preprocessed
from gateway.schemas.reports import EnhanceReport
from gateway.timings import Timings
from gpen_common.types import ModelInfo

# Parameters that decide how long a request may take, not what comes out.
_NO_MATTER = {"timeout_s"}


class CachedEnhancer:
    """An Enhancer whose results are kept, and whose identical concurrent requests are one."""

    def __init__(self, enhancer: Enhancer, cache: Cache) -> None:
        self._enhancer = enhancer
        self._cache = cache
        self._flights: SingleFlight[Enhanced] = SingleFlight()

    async def preprocess(
        self, data: bytes, params: PreprocessParams, accepted: OutputFormat | None = None
    ) -> Preprocessed:
        """As `Enhancer.preprocess`, which keeps its portraits itself."""
        return await self._enhancer.preprocess(Picture(data), params, accepted)

    async def enhance(
        self,
        data: bytes,
        params: EnhanceParams,
        request_id: str,
        deadline: float,
        accepted: OutputFormat | None = None,
    ) -> Enhanced:
        """As `Enhancer.enhance`; the result tells its `etag`, and whether it was kept from before."""
        timings = Timings()
        picture = Picture(data)
        model = await self._enhancer.choose_model(params, deadline)
        key = await self._key(picture, params, model, accepted)
        if not self._cache.on:
            made = await self._enhancer.enhance(picture, params, model, request_id, deadline, accepted)
            return replace(made, etag=key[:32])
        asked_first = False

        async def make() -> Enhanced:
            nonlocal asked_first
            asked_first = True
            found, slot = await self._look_up(key, picture, params)
            if found and (kept := _kept(*found, timings)):
                return kept
            made = await self._enhancer.enhance(picture, params, model, request_id, deadline, accepted, slot)
            await self._cache.put(key, _to_keep(made))
            return replace(made, cache="miss")

        while True:
            try:
                return replace(await self._flights.run(key, make), etag=key[:32])
            except DeadlinePassed:
                # Else it was somebody else's deadline.
                if asked_first:
                    raise

    async def _look_up(
        self, key: str, picture: Picture, params: EnhanceParams
    ) -> tuple[Entry | None, Slot | None]:
        """What is kept under `key`, else the portrait's slot: to look for both takes as long as for one.

        No slot where there is a result, and for a whole photo, which needs no portrait.
        """
        if params.output == "photo":
            return await self._cache.get(key), None
        portrait_key = await self._enhancer.portrait_key(picture, params)
        found_key, found = await self._cache.first((key, portrait_key)) or (portrait_key, None)
        return (found, None) if found_key == key else (None, Slot(portrait_key, found))

    async def _key(
        self, picture: Picture, params: EnhanceParams, model: ModelInfo, accepted: OutputFormat | None
    ) -> str:
        depends_on = {
            "params": params.model_dump(mode="json", exclude=_NO_MATTER),
            "accepted": accepted,
            "model": [model.name, model.engine, model.size],
            "finder": self._enhancer.finder_name,
        }
        return cache_key("enhanced", await picture.sha256(), depends_on)


def _to_keep(enhanced: Enhanced) -> Entry:
    def head() -> dict[str, Any]:
        return {"format": enhanced.output_format, "report": enhanced.tell().model_dump(mode="json")}

    return Entry(Later(head), enhanced.image)


def _kept(head: Mapping[str, Any], image: Body, timings: Timings) -> Enhanced | None:
    """What `_to_keep` kept; None for what another version of it did."""
    try:
        report = EnhanceReport.model_validate({**head["report"], "timings_ms": timings.with_total()})
        return Enhanced.told(bytes(image), head["format"], report, cache="hit")
    except (KeyError, TypeError, ValueError):
        return None
