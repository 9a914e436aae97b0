"""What is told of a request: from what was done to the schemas of the answer."""

from collections.abc import Iterable

from gateway.faces import Face
from gateway.imaging.photo import Photo
from gateway.linkage.rules import AppliedRule
from gateway.pipeline.whole_photo import WholePhoto
from gateway.schemas.reports import (
    EnhanceReport,
    FaceReport,
    LeftAloneReport,
    LightReport,
    PortraitReport,
    PreprocessReport,
    QualityReport,
    RuleReport,
)
from gateway.standardise import Portrait
from gpen_common.types import ModelInfo

_CLASSICAL = (
    "engine: the backend has no GPEN checkpoint; the classical engine denoised and sharpened the faces, but "
    "did not restore them"
)


def preprocess_report(portrait: Portrait, finder: str, timings_ms: dict[str, float]) -> PreprocessReport:
    """The report of a standardised portrait."""
    return PreprocessReport(
        finder=finder,
        face=portrait.face and FaceReport.of(portrait.face),
        portrait=PortraitReport.of(portrait),
        light=LightReport.of(portrait.light_before, portrait.light_after, portrait.light_plan),
        quality=QualityReport.of(portrait.quality),
        warnings=list(portrait.warnings),
        timings_ms=timings_ms,
    )


def portrait_report(
    portrait: Portrait,
    finder: str,
    rules: Iterable[AppliedRule],
    engine: str,
    model: str,
    timings_ms: dict[str, float],
) -> EnhanceReport:
    """The report of a portrait that `model` enhanced."""
    standardised = preprocess_report(portrait, finder, timings_ms)
    return EnhanceReport(
        **{**dict(standardised), "warnings": standardised.warnings + _engine_warnings(engine)},
        faces=_faces(portrait.faces),
        left_alone=[],
        linkage=[RuleReport.of(rule) for rule in rules],
        engine=engine,
        model=model,
    )


def whole_report(
    whole: WholePhoto, photo: Photo, finder: str, model: ModelInfo, timings_ms: dict[str, float]
) -> EnhanceReport:
    """The report of an enhanced whole photo. Light and quality are those of its best face."""
    best = whole.windows[0] if whole.windows else None
    engine = whole.restored[0].engine if whole.restored else model.engine
    return EnhanceReport(
        finder=finder,
        face=best and FaceReport.of(best.face),
        faces=_faces(window.face for window in whole.windows),
        left_alone=[LeftAloneReport.of(one.face, one.reason) for one in whole.left_alone],
        portrait=None,
        light=best and LightReport.of(best.light_before, best.light_after, best.light_plan),
        quality=best and QualityReport.of(best.quality),
        linkage=[RuleReport.of(rule, face) for face, rules in enumerate(whole.rules) for rule in rules],
        engine=engine,
        model=whole.restored[0].model if whole.restored else model.name,
        warnings=[*photo.warnings, *whole.warnings, *_engine_warnings(engine)],
        timings_ms=timings_ms,
    )


def _faces(faces: Iterable[Face]) -> list[FaceReport]:
    return [FaceReport.of(face) for face in faces]


def _engine_warnings(engine: str) -> list[str]:
    return [_CLASSICAL] if engine == "classical" else []
