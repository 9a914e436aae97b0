"""Build the reports in responses from the pipeline's results. The timings are added at the end."""

from collections.abc import Iterable

from gateway.faces import Face
from gateway.imaging.decoder import Photo
from gateway.linkage.rules import AppliedRule
from gateway.pipeline.enhanced_photo import EnhancedPhoto
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
from gpen_common.types import ModelInfo, Restored

_CLASSICAL = (
    "engine: the backend has no GPEN checkpoint; the classical engine denoised and sharpened the faces, but "
    "did not restore them"
)


def report_preprocessed(portrait: Portrait, finder: str) -> PreprocessReport:
    """Return the report of a standardised portrait. finder: the face finder's name."""
    return PreprocessReport(**_describe_standardising(portrait, finder), warnings=list(portrait.warnings))


def report_portrait(
    portrait: Portrait, finder: str, rules: Iterable[AppliedRule], restored: Restored
) -> EnhanceReport:
    """Return the report of an enhanced portrait."""
    return EnhanceReport(
        **_describe_standardising(portrait, finder),
        faces=_faces(portrait.faces),
        left_alone=[],
        linkage=[RuleReport.of(rule) for rule in rules],
        engine=restored.engine,
        model=restored.model,
        warnings=[*portrait.warnings, *_engine_warnings(restored.engine)],
    )


def report_photo(enhanced: EnhancedPhoto, photo: Photo, finder: str, model: ModelInfo) -> EnhanceReport:
    """Return the report of an enhanced photo. Light and quality are those of its best face."""
    best = enhanced.windows[0] if enhanced.windows else None
    engine = enhanced.restored[0].engine if enhanced.restored else model.engine
    return EnhanceReport(
        finder=finder,
        face=best and FaceReport.model_validate(best.face),
        faces=_faces(window.face for window in enhanced.windows),
        left_alone=[LeftAloneReport.of(left.face, left.reason) for left in enhanced.left_alone],
        portrait=None,
        light=best and LightReport.of(best.light_before, best.light_after, best.light_plan),
        quality=best and QualityReport.model_validate(best.quality),
        linkage=[RuleReport.of(rule, face) for face, rules in enumerate(enhanced.rules) for rule in rules],
        engine=engine,
        model=enhanced.restored[0].model if enhanced.restored else model.name,
        warnings=[*photo.warnings, *enhanced.warnings, *_engine_warnings(engine)],
        timings_ms={},
    )


def _describe_standardising(portrait: Portrait, finder: str) -> dict[str, object]:
    return {
        "finder": finder,
        "face": portrait.face and FaceReport.model_validate(portrait.face),
        "portrait": PortraitReport.of(portrait),
        "light": LightReport.of(portrait.light_before, portrait.light_after, portrait.light_plan),
        "quality": QualityReport.model_validate(portrait.quality),
        "timings_ms": {},
    }


def _faces(faces: Iterable[Face]) -> list[FaceReport]:
    return [FaceReport.model_validate(face) for face in faces]


def _engine_warnings(engine: str) -> list[str]:
    return [_CLASSICAL] if engine == "classical" else []
