"""The request, step by step: decode, standardise, link, restore, encode."""

from dataclasses import dataclass

from gateway.errors import backend_errors
from gateway.faces import Face, FaceFinder
from gateway.linkage import AppliedRule, link
from gateway.models import Models
from gateway.params import EnhanceParams, PreprocessParams
from gateway.photo import OutputFormat, Photo, PixelLimits, decode, encode
from gateway.schemas import (
    EnhanceReport,
    FaceReport,
    LightReport,
    PortraitReport,
    PreprocessReport,
    QualityReport,
    RuleReport,
)
from gateway.service.threads import PixelThreads
from gateway.standardise import Portrait, standardise
from gateway.timings import Timings
from gpen_client.client import GpenClient
from gpen_client.types import Pixels, Restored

_CLASSICAL_WARNING = (
    "engine: the backend has no GPEN checkpoint; the classical engine denoised and sharpened the faces, but "
    "did not restore them"
)


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """An encoded portrait. output_format: what `image` is encoded as."""

    image: bytes
    output_format: OutputFormat
    report: PreprocessReport


@dataclass(frozen=True, slots=True)
class Enhanced:
    """An encoded result. output_format: what `image` is encoded as."""

    image: bytes
    output_format: OutputFormat
    report: EnhanceReport


class Enhancer:
    """Turns uploaded bytes into enhanced bytes. One instance serves all requests and keeps nothing of any."""

    def __init__(
        self,
        finder: FaceFinder,
        client: GpenClient,
        models: Models,
        threads: PixelThreads,
        limits: PixelLimits,
        timeout_s: float,
    ) -> None:
        self._finder = finder
        self._client = client
        self._models = models
        self._threads = threads
        self._limits = limits
        self._timeout_s = timeout_s

    async def preprocess(
        self, data: bytes, params: PreprocessParams, accepted: OutputFormat | None = None
    ) -> Preprocessed:
        """The standardised portrait of the picture in `data`. accepted: the encoding the caller prefers."""
        timings = Timings()
        photo, portrait = await self._threads.run(self._standardise, data, params, timings)
        output_format = params.format or accepted or _own_format(photo)
        image = await self._encode(portrait.pixels, output_format, params.quality, timings)
        return Preprocessed(image, output_format, self._preprocess_report(portrait, timings))

    async def enhance(
        self, data: bytes, params: EnhanceParams, request_id: str, accepted: OutputFormat | None = None
    ) -> Enhanced:
        """The enhanced portrait of the picture in `data`. accepted: the encoding the caller prefers."""
        timings = Timings()
        model = await self._models.choose(params.model)
        photo, portrait = await self._threads.run(self._standardise, data, params, timings)
        effective, rules = link(params, portrait, model)
        treated = portrait.faces if params.faces == "all" else portrait.faces[:1]
        with timings.stage("backend"), backend_errors():
            restored = await self._client.restore(
                portrait.pixels,
                portrait.landmarks[: len(treated)] if treated else None,
                effective,
                model=model.name,
                timeout_s=self._timeout_s,
                request_id=request_id,
            )
        output_format = params.format or accepted or _own_format(photo)
        image = await self._encode(restored.pixels, output_format, params.quality, timings)
        return Enhanced(
            image, output_format, self._enhance_report(portrait, treated, rules, restored, timings)
        )

    def _standardise(self, data: bytes, params: PreprocessParams, timings: Timings) -> tuple[Photo, Portrait]:
        with timings.stage("decode"):
            photo = decode(data, self._limits)
        return photo, standardise(photo, params, self._finder, timings)

    async def _encode(
        self, pixels: Pixels, output_format: OutputFormat, quality: int, timings: Timings
    ) -> bytes:
        with timings.stage("encode"):
            return await self._threads.run(encode, pixels, output_format, quality)

    def _preprocess_report(self, portrait: Portrait, timings: Timings) -> PreprocessReport:
        return PreprocessReport(
            finder=self._finder.name,
            face=portrait.face and FaceReport.of(portrait.face),
            portrait=PortraitReport.of(portrait),
            light=LightReport.of(portrait.light_before, portrait.light_after, portrait.light_plan),
            quality=QualityReport.of(portrait.quality),
            warnings=list(portrait.warnings),
            timings_ms=timings.with_total(),
        )

    def _enhance_report(
        self,
        portrait: Portrait,
        treated: tuple[Face, ...],
        rules: tuple[AppliedRule, ...],
        restored: Restored,
        timings: Timings,
    ) -> EnhanceReport:
        for stage, milliseconds in restored.timings_ms.items():
            timings.add(f"gpen_{stage}", milliseconds)
        report = self._preprocess_report(portrait, timings)
        warnings = report.warnings + ([_CLASSICAL_WARNING] if restored.engine == "classical" else [])
        return EnhanceReport(
            **{**dict(report), "warnings": warnings},
            faces=[FaceReport.of(face) for face in treated],
            linkage=[RuleReport.of(rule) for rule in rules],
            engine=restored.engine,
            model=restored.model,
        )


def _own_format(photo: Photo) -> OutputFormat:
    """The encoding of the input where it is one of ours, else png, which loses nothing."""
    match photo.format:
        case "JPEG":
            return "jpeg"
        case "WEBP":
            return "webp"
        case _:
            return "png"
