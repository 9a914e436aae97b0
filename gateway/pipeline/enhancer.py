"""The request, step by step: decode, standardise, link, restore, encode."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from gateway.cache import Body, Cache, Entry, Later, Picture, cache_key
from gateway.errors import DeadlinePassed, InvalidParameters
from gateway.faces import FaceFinder
from gateway.imaging.original import LONGEST_WEBP, encode_photo
from gateway.imaging.photo import OutputFormat, Photo, PixelLimits, decode, encode
from gateway.linkage.rules import link
from gateway.params import EnhanceParams, PreprocessParams
from gateway.pipeline.report import portrait_report, preprocess_report, whole_report
from gateway.pipeline.result import CacheState, Enhanced, Preprocessed
from gateway.pipeline.whole_photo import enhance_whole
from gateway.standardise import Portrait, standardise
from gateway.standardise.geometry import SHORT_EDGE
from gateway.standardise.stored import from_stored, to_bytes, to_head
from gateway.timings import Timings
from gateway.upstream.backend import Backend
from gateway.upstream.models import Models
from gpen_client.client import GpenClient
from gpen_common.threads import Threads
from gpen_common.types import ModelInfo

# A backend refuses more in one request by default: those of a crowd that are best to see are restored.
_MOST_FACES = 64
# Of all parameters, those that standardising looks at.
_DECIDE_PORTRAIT = {"framing", "clahe", "exposure", "no_face", "yaw"}


class Slot(NamedTuple):
    """Where the cache keeps a portrait, and what was found there."""

    key: str
    found: Entry | None


class Enhancer:
    """Turns uploaded bytes into enhanced bytes. One instance serves all requests and keeps nothing of any."""

    def __init__(
        self,
        finder: FaceFinder,
        client: GpenClient,
        models: Models,
        threads: Threads,
        limits: PixelLimits,
        cache: Cache,
    ) -> None:
        self._cache = cache
        self._finder = finder
        self._client = client
        self._models = models
        self._threads = threads
        self._limits = limits

    @property
    def finder_name(self) -> str:
        """Which face finder looks."""
        return self._finder.name

    async def preprocess(
        self, picture: Picture, params: PreprocessParams, accepted: OutputFormat | None = None
    ) -> Preprocessed:
        """The standardised portrait of `picture`. accepted: the encoding the caller prefers."""
        timings = Timings()
        async with self._portrait(picture, params, timings) as (portrait, own_format, state):
            output_format = params.format or accepted or own_format
            with timings.stage("encode"):
                image = await self._threads.run(encode, portrait.pixels, output_format, params.quality)
            report = preprocess_report(portrait, self._finder.name, timings.with_total())
            return Preprocessed(image, output_format, report, state)

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
        """The enhanced `picture`, as a portrait or as the whole photo that it is.

        model: what `choose_model` chose. deadline: on time.monotonic's clock, seconds; the backend is told.
        accepted: the encoding the caller prefers. slot: the portrait's, where somebody has looked already.
        Raises GatewayError.
        """
        timings = Timings()
        backend = Backend(self._client, model, request_id, deadline)
        if params.output == "photo":
            return await self._enhance_photo(picture.data, params, backend, timings, accepted)
        return await self._enhance_portrait(picture, params, backend, timings, accepted, slot)

    async def portrait_key(self, picture: Picture, params: PreprocessParams) -> str:
        """The key of the portrait of `picture` in the cache."""
        wanted = params.model_dump(mode="json", include=_DECIDE_PORTRAIT)
        depends_on = {"params": wanted, "finder": self._finder.name}
        return cache_key("portrait", await picture.sha256(), depends_on)

    async def _enhance_portrait(
        self,
        picture: Picture,
        params: EnhanceParams,
        backend: Backend,
        timings: Timings,
        accepted: OutputFormat | None,
        slot: Slot | None,
    ) -> Enhanced:
        async with self._portrait(picture, params, timings, slot) as (standardised, own_format, _):
            best = standardised.faces[:1] if params.faces == "best" else standardised.faces
            portrait = _fewer_faces(replace(standardised, faces=best))
            effective, rules = link(params.model_copy(update={"upscale": 1}), portrait, backend.model)
            with timings.stage("backend"):
                landmarks = portrait.landmarks if portrait.faces else None
                restored = await backend.restore(portrait.pixels, landmarks, effective)
            output_format = params.format or accepted or own_format
            with timings.stage("encode"):
                image = await self._threads.run(encode, restored.pixels, output_format, params.quality)
            timings.add_all("gpen", restored.timings_ms)
            timings_ms = timings.with_total()
            engine, model = restored.engine, restored.model
            return Enhanced(
                image=image,
                output_format=output_format,
                engine=engine,
                model=model,
                faces=len(portrait.faces),
                left_alone=0,
                timings_ms=timings_ms,
                tell=functools.cache(
                    lambda: portrait_report(portrait, self._finder.name, rules, engine, model, timings_ms)
                ),
            )

    async def _enhance_photo(
        self,
        data: bytes,
        params: EnhanceParams,
        backend: Backend,
        timings: Timings,
        accepted: OutputFormat | None,
    ) -> Enhanced:
        photo = await self._threads.run(self._decode, data, timings)
        output_format = params.format or accepted or _own_format(photo)
        self._check_output(photo, params.upscale, output_format)
        whole = await enhance_whole(photo, params, self._finder, backend, self._threads, timings)
        with timings.stage("encode"):
            image = await self._threads.run(
                encode_photo,
                whole.pixels,
                photo.pixels,
                photo.original,
                output_format,
                params.quality,
                keep_gps=params.keep_metadata == "all",
            )
        for restored in whole.restored:
            timings.add_all("gpen", restored.timings_ms)
        report = whole_report(whole, photo, self._finder.name, backend.model, timings.with_total())
        return Enhanced.told(image, output_format, report)

    async def choose_model(self, params: EnhanceParams, deadline: float) -> ModelInfo:
        """The model that answers `params`. Raises UnknownModel, NotReady, BackendAway and its kin."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._models.choose(params.model, params.task)
        except TimeoutError as error:
            raise DeadlinePassed("the backend did not tell its models in time; try again later") from error

    @asynccontextmanager
    async def _portrait(
        self,
        picture: Picture,
        params: PreprocessParams,
        timings: Timings,
        slot: Slot | None = None,
    ) -> AsyncIterator[tuple[Portrait, OutputFormat, CacheState]]:
        """The standardised portrait, the input's own encoding, and whether it was kept from before.

        A new one is kept when the block ends, however it does.
        """
        if not self._cache.on:
            yield (*await self._threads.run(self._standardise, picture.data, params, timings), "off")
            return
        with timings.stage("cache"):
            if slot is None:
                key = await self.portrait_key(picture, params)
                slot = Slot(key, await self._cache.get(key))
        key, found = slot
        if found is not None and (kept := _kept(*found)):
            yield (*kept, "hit")
            return
        portrait, own_format = await self._threads.run(self._standardise, picture.data, params, timings)
        try:
            yield portrait, own_format, "miss"
        finally:
            # Not before: it would be written to the disk when the answer needs the processors.
            await self._cache.put(key, _to_keep(portrait, own_format))

    def _standardise(
        self, data: bytes, params: PreprocessParams, timings: Timings
    ) -> tuple[Portrait, OutputFormat]:
        # The eyes' exact places are worth all pixels; the article's window needs no more than its short edge.
        photo = self._decode(data, timings, SHORT_EDGE if params.framing == "article" else None)
        return standardise(photo, params, self._finder, timings), _own_format(photo)

    def _decode(self, data: bytes, timings: Timings, short_edge: int | None = None) -> Photo:
        with timings.stage("decode"):
            return decode(data, self._limits, short_edge)

    def _check_output(self, photo: Photo, upscale: int, output_format: OutputFormat) -> None:
        """Raises InvalidParameters for a result larger than is allowed, or than can be written."""
        width, height = photo.width * upscale, photo.height * upscale
        if width * height > self._limits.max_pixels or max(width, height) > self._limits.max_side:
            raise InvalidParameters(
                f"upscale: {upscale} would make {width}x{height} of {photo.width}x{photo.height}, more than "
                f"the {self._limits.max_pixels:,} pixels, or {self._limits.max_side:,} along one side, that "
                "are allowed"
            )
        if output_format == "webp" and max(width, height) > LONGEST_WEBP:
            raise InvalidParameters(
                f"format: no webp has more than {LONGEST_WEBP:,} pixels along one side, and the result has "
                f"{width}x{height}; ask for png or jpeg"
            )


def _to_keep(portrait: Portrait, own_format: OutputFormat) -> Entry:
    return Entry(Later(lambda: {**to_head(portrait), "own_format": own_format}), to_bytes(portrait))


def _kept(head: Mapping[str, Any], pixels: Body) -> tuple[Portrait, OutputFormat] | None:
    """A portrait that was kept; None for one of another version of this gateway, which may lack something."""
    try:
        return from_stored(head, pixels), head["own_format"]
    except (KeyError, TypeError, ValueError):
        return None


def _fewer_faces(portrait: Portrait) -> Portrait:
    """`portrait` with no more faces than a backend takes at once, and a warning where it had more."""
    if len(portrait.faces) <= _MOST_FACES:
        return portrait
    warning = f"faces: of {len(portrait.faces)} faces in the portrait the best {_MOST_FACES} were restored"
    return replace(portrait, faces=portrait.faces[:_MOST_FACES], warnings=(*portrait.warnings, warning))


def _own_format(photo: Photo) -> OutputFormat:
    """The encoding of the input where it is one of ours, else png, which loses nothing."""
    match photo.format:
        # Phones append further pictures to their JPEGs: Pillow calls that MPO.
        case "JPEG" | "MPO":
            return "jpeg"
        case "WEBP":
            return "webp"
        case _:
            return "png"
