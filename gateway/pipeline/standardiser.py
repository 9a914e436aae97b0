"""The standardised portrait of a request: decode, find faces, standardise; or the one in the cache."""

from typing import NamedTuple

from gateway.cache import Cache, CacheEntry, cache_key
from gateway.faces import FaceFinder
from gateway.imaging.decoder import Photo, PixelLimits, decode
from gateway.imaging.encoder import OutputFormat
from gateway.pipeline.picture_request import Params, PictureRequest
from gateway.pipeline.result import CacheState
from gateway.standardise import Portrait, standardise
from gateway.standardise.framing import SHORT_EDGE
from gateway.standardise.portrait_bytes import from_stored, to_bytes, to_head
from gpen_common.threads import Threads

# The parameters that standardising reads.
_READ_BY_STANDARDISING = {"framing", "clahe", "exposure", "no_face", "yaw"}


class UploadPortrait(NamedTuple):
    """A portrait. own_format: the encoding of the upload where it is one of ours, else png."""

    portrait: Portrait
    own_format: OutputFormat
    cache: CacheState


class Standardiser:
    """Makes portraits on `threads`, and keeps them in `cache` for requests with other GPEN parameters."""

    def __init__(self, finder: FaceFinder, threads: Threads, limits: PixelLimits, cache: Cache) -> None:
        self._finder = finder
        self._threads = threads
        self._limits = limits
        self._cache = cache

    def key(self, asked: PictureRequest[Params]) -> str:
        """Return the cache key of the portrait."""
        params = asked.params.model_dump(mode="json", include=_READ_BY_STANDARDISING)
        return cache_key("portrait", asked.picture.sha256, {"params": params, "finder": self._finder.name})

    async def look_up(self, asked: PictureRequest[Params]) -> UploadPortrait | None:
        """Return the portrait in the cache, or None."""
        if not self._cache.on:
            return None
        with asked.timings.stage("cache"):
            entry = await self._cache.get(self.key(asked))
        return None if entry is None else _read_entry(entry)

    async def make(self, asked: PictureRequest[Params]) -> UploadPortrait:
        """Return the new portrait. Raises NoFace and HeadTurned by `asked.params`, and what `decode`
        raises."""
        with asked.timings.remainder("queue"):
            made = await self._threads.run(self._standardise, asked)
        if self._cache.on:
            with asked.timings.stage("store"):
                await self._cache.put(self.key(asked), _write_entry(made))
        return made

    def _standardise(self, asked: PictureRequest[Params]) -> UploadPortrait:
        # Framing `face` places the eyes exactly, for which every pixel counts; the article's window needs no
        # more pixels than its short edge has.
        short_edge = SHORT_EDGE if asked.params.framing == "article" else None
        with asked.timings.stage("decode"):
            photo = decode(asked.picture.data, self._limits, short_edge)
        portrait = standardise(photo, asked.params, self._finder, asked.timings)
        return UploadPortrait(portrait, own_format(photo), "miss" if self._cache.on else "off")


def own_format(photo: Photo) -> OutputFormat:
    """Return the encoding of the upload where it is one of ours, else png, which is lossless."""
    match photo.format:
        # Phones append further pictures to their JPEGs, which Pillow calls MPO.
        case "JPEG" | "MPO":
            return "jpeg"
        case "WEBP":
            return "webp"
        case _:
            return "png"


def _write_entry(made: UploadPortrait) -> CacheEntry:
    return CacheEntry({**to_head(made.portrait), "own_format": made.own_format}, to_bytes(made.portrait))


def _read_entry(entry: CacheEntry) -> UploadPortrait | None:
    """Read a cached portrait; None for an entry of another version, which may lack a field."""
    try:
        return UploadPortrait(from_stored(entry.head, entry.body), entry.head["own_format"], "hit")
    except (KeyError, TypeError, ValueError):
        return None
