"""Reports: what the gateway found in a picture and did to it."""

from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from gateway.faces import Face
from gateway.linkage.rules import AppliedRule
from gateway.schemas.schema import Hundredths, Schema, Share, Tenths, Thousandths
from gateway.standardise import Portrait
from gateway.standardise.light import Light, LightPlan


def _list_points(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


class PoseReport(Schema):
    """The direction of a head, degrees. All zero: it faces the camera."""

    yaw: Tenths = Field(description="Positive to the picture's left.")
    pitch: Tenths = Field(description="Positive up. A rough estimate where there are five landmarks.")
    roll: Tenths = Field(description="Positive clockwise as seen.")


class FaceReport(Schema):
    """A face, in pixels of the upright input."""

    landmarks5: Annotated[list[tuple[Hundredths, Hundredths]], BeforeValidator(_list_points)] = Field(
        description="Eye, eye, nose tip, mouth corner, mouth corner; each pair image-left first."
    )
    bbox: tuple[Hundredths, Hundredths, Hundredths, Hundredths] = Field(description="x0, y0, x1, y1.")
    score: Thousandths
    pose: PoseReport | None = Field(description="Null where the face finder cannot estimate it.")


class PortraitReport(Schema):
    """Where the portrait lies in the photo."""

    matrix: list[list[float]] = Field(description="2x3: upright input pixels to portrait pixels.")
    short_edge: float = Field(description="Length of the photo's shorter edge at the portrait's scale, px.")
    size: tuple[int, int] = Field(description="Width and height of the portrait, px.")
    off_centre_px: float | None = Field(
        description="Distance in px between the midpoint of the eyes and its intended position; above 0 if "
        "the photo's edge stopped the window."
    )

    @classmethod
    def of(cls, portrait: Portrait) -> "PortraitReport":
        """Return the report of `portrait`'s geometry."""
        height, width = portrait.pixels.shape[:2]
        return cls(
            matrix=[[round(float(v), 6) for v in row] for row in portrait.matrix],
            short_edge=portrait.short_edge,
            size=(width, height),
            off_centre_px=portrait.off_centre_px,
        )


class LightMeasures(Schema):
    """Lightness around the face, L of LAB scaled to 0..255."""

    mean: Tenths
    spread: Tenths = Field(description="Standard deviation.")
    shadows: Share = Field(description="Share of nearly black pixels, 0 to 1.")
    highlights: Share = Field(description="Share of nearly white pixels, 0 to 1.")


class ExposureReport(Schema):
    """The exposure compensation."""

    direction: str = Field(description="`raised`, `lowered` or `none`.")
    gamma: float = Field(description="Gamma of the tone curve on L, 0.4 to 2.5; 1 changes nothing.")


class ClaheReport(Schema):
    """The local contrast correction."""

    weight: float = Field(description="Share of CLAHE's result in the portrait, 0 to 1.")
    clip_limit: float


class LightReport(Schema):
    """The light before the correction, the correction, and the light after it."""

    before: LightMeasures
    after: LightMeasures
    exposure: ExposureReport
    clahe: ClaheReport

    @classmethod
    def of(cls, before: Light, after: Light, plan: LightPlan) -> "LightReport":
        """Return the report of a correction."""
        direction = "none" if plan.gamma == 1 else "raised" if plan.gamma < 1 else "lowered"
        return cls(
            before=LightMeasures.model_validate(before),
            after=LightMeasures.model_validate(after),
            exposure=ExposureReport(direction=direction, gamma=plan.gamma),
            clahe=ClaheReport(weight=plan.clahe_weight, clip_limit=plan.clip_limit),
        )


class QualityReport(Schema):
    """Quality of the face before any correction, at the network's own scale."""

    interocular_px: Tenths | None = Field(description="Distance between the eyes in the uploaded photo, px.")
    sharpness: Tenths = Field(description="Variance of the Laplacian of luma.")
    noise_sigma: Hundredths = Field(description="Standard deviation of the noise in luma, of 255.")


class RuleReport(Schema):
    """A parameter that linkage changed."""

    face: int = Field(description="Index of its face in `faces`.")
    rule: str
    parameter: str
    asked: Any = Field(description="The value that the caller asked for.")
    effective: Any = Field(description="The value after this rule.")
    because: str

    @classmethod
    def of(cls, rule: AppliedRule, face: int = 0) -> "RuleReport":
        """Return the report of `rule` for the face with this index."""
        return cls(
            face=face,
            rule=rule.rule,
            parameter=rule.parameter,
            asked=rule.asked,
            effective=rule.effective,
            because=rule.because,
        )


class LeftAloneReport(FaceReport):
    """A face that was not restored."""

    reason: str

    @classmethod
    def of(cls, face: Face, reason: str) -> "LeftAloneReport":
        """Return the report of `face` and the reason why it was left alone."""
        return cls(**dict(FaceReport.model_validate(face)), reason=reason)


class PreprocessReport(Schema):
    """Everything that standardising found and did."""

    finder: str = Field(description="The face finder: `fan`, `yunet` or `haar`.")
    face: FaceReport | None = Field(description="The best face. A portrait is centred on it.")
    portrait: PortraitReport | None = Field(description="Null for `output=photo`.")
    light: LightReport | None = Field(description="Light around the best face. Null if there is no face.")
    quality: QualityReport | None = Field(description="Quality of the best face. Null if there is no face.")
    warnings: list[str]
    timings_ms: dict[str, float] = Field(
        description="Milliseconds by stage, and `total` from the complete upload to the encoded picture. "
        "Stages that begin with `gpen_` are parts of `backend` or `adjust`, summed over faces. The others "
        "add up to `total`."
    )


class EnhanceReport(PreprocessReport):
    """Everything that the gateway found and did."""

    faces: list[FaceReport] = Field(description="All faces that were treated.")
    left_alone: list[LeftAloneReport] = Field(description="Faces of a photo that were not restored, and why.")
    linkage: list[RuleReport] = Field(description="The rules that changed a parameter, in order.")
    engine: str = Field(
        description="Engine that restored the faces: `torch`, `onnx`, `classical`, or another backend's."
    )
    model: str
