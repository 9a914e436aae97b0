"""The report of a request, and the other JSON answers; those of a batch are in `gateway.batch.schemas`."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.faces import Face, Pose
from gateway.linkage.rules import AppliedRule
from gateway.standardise import Portrait
from gateway.standardise.light import Light, LightPlan
from gateway.standardise.quality import Quality
from gpen_client.resilience import BreakerState


class Schema(BaseModel):
    """What all of them have in common: once made they stay as they are."""

    model_config = ConfigDict(frozen=True)


class PoseReport(Schema):
    """Degrees; all zero looks into the camera."""

    yaw: float = Field(description="Positive to the picture's left.")
    pitch: float = Field(description="Positive up. From five landmarks it is a rough estimate.")
    roll: float = Field(description="Positive clockwise as seen.")

    @classmethod
    def of(cls, pose: Pose) -> "PoseReport":
        """The report of `pose`."""
        return cls(yaw=round(pose.yaw, 1), pitch=round(pose.pitch, 1), roll=round(pose.roll, 1))


class FaceReport(Schema):
    """A face, in pixels of the upright input."""

    landmarks5: list[tuple[float, float]] = Field(
        description="Eye, eye, nose tip, mouth corner, mouth corner; each pair image-left first."
    )
    bbox: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1.")
    score: float
    pose: PoseReport | None = Field(description="Null where the finder sees too little of the face to tell.")

    @classmethod
    def of(cls, face: Face) -> "FaceReport":
        """The report of `face`."""
        return cls(
            landmarks5=[(round(float(x), 2), round(float(y), 2)) for x, y in face.landmarks5],
            bbox=tuple(round(v, 2) for v in face.bbox),
            score=round(face.score, 3),
            pose=face.pose and PoseReport.of(face.pose),
        )


class PortraitReport(Schema):
    """Where the portrait lies in the photo."""

    matrix: list[list[float]] = Field(description="2x3: upright input pixels to portrait pixels.")
    short_edge: float = Field(
        description="What the photo's shorter edge measures at the portrait's scale, px."
    )
    size: tuple[int, int] = Field(description="Width and height of the portrait, px.")
    off_centre_px: float | None = Field(
        description="How far the eyes' middle is from its place, because the window ends at the photo's edge."
    )

    @classmethod
    def of(cls, portrait: Portrait) -> "PortraitReport":
        """The report of `portrait`'s geometry."""
        height, width = portrait.pixels.shape[:2]
        return cls(
            matrix=[[round(float(v), 6) for v in row] for row in portrait.matrix],
            short_edge=portrait.short_edge,
            size=(width, height),
            off_centre_px=portrait.off_centre_px,
        )


class LightMeasures(Schema):
    """Lightness around the face, L of LAB scaled to 0..255."""

    mean: float
    spread: float = Field(description="Standard deviation.")
    shadows: float = Field(description="Share that is nearly black, 0 to 1.")
    highlights: float = Field(description="Share that is nearly white, 0 to 1.")

    @classmethod
    def of(cls, light: Light) -> "LightMeasures":
        """The report of `light`."""
        return cls(
            mean=round(light.mean, 1),
            spread=round(light.spread, 1),
            shadows=round(light.shadows, 4),
            highlights=round(light.highlights, 4),
        )


class ExposureReport(Schema):
    """The exposure compensation."""

    direction: str = Field(description="`raised`, `lowered` or `none`.")
    gamma: float = Field(description="Of the tone curve on L, 0.4 to 2.5; 1 changes nothing.")


class ClaheReport(Schema):
    """The local contrast correction."""

    weight: float = Field(description="How much of CLAHE's result was taken, 0 to 1.")
    clip_limit: float


class LightReport(Schema):
    """What the light was, what was done, what it is now."""

    before: LightMeasures
    after: LightMeasures
    exposure: ExposureReport
    clahe: ClaheReport

    @classmethod
    def of(cls, before: Light, after: Light, plan: LightPlan) -> "LightReport":
        """The report of a correction."""
        direction = "none" if plan.gamma == 1 else "raised" if plan.gamma < 1 else "lowered"
        return cls(
            before=LightMeasures.of(before),
            after=LightMeasures.of(after),
            exposure=ExposureReport(direction=direction, gamma=plan.gamma),
            clahe=ClaheReport(weight=plan.clahe_weight, clip_limit=plan.clip_limit),
        )


class QualityReport(Schema):
    """How good the face was before anything was corrected, at the network's own scale."""

    interocular_px: float | None = Field(description="Between the eyes in the photo as it came, px.")
    sharpness: float = Field(description="Variance of the Laplacian of luma.")
    noise_sigma: float = Field(description="Standard deviation of the noise in luma, of 255.")

    @classmethod
    def of(cls, quality: Quality) -> "QualityReport":
        """The report of `quality`."""
        interocular = quality.interocular_px
        return cls(
            interocular_px=None if interocular is None else round(interocular, 1),
            sharpness=round(quality.sharpness, 1),
            noise_sigma=round(quality.noise_sigma, 2),
        )


class RuleReport(Schema):
    """One linked parameter."""

    face: int = Field(description="Which of `faces` it is about.")
    rule: str
    parameter: str
    asked: Any = Field(description="What the caller asked.")
    effective: Any = Field(description="What holds after this rule.")
    because: str

    @classmethod
    def of(cls, rule: AppliedRule, face: int = 0) -> "RuleReport":
        """The report of `rule` for the face at that place."""
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
    def of(cls, face: Face, reason: str = "") -> "LeftAloneReport":
        """The report of `face` and why it was left alone."""
        return cls(**dict(FaceReport.of(face)), reason=reason)


class PreprocessReport(Schema):
    """Everything that standardising found and did."""

    finder: str = Field(description="The face finder: `fan`, `yunet` or `haar`.")
    face: FaceReport | None = Field(description="The best face, which a portrait is centred on.")
    portrait: PortraitReport | None = Field(description="Null for `output=photo`.")
    light: LightReport | None = Field(description="Around the best face. Null for a photo without one.")
    quality: QualityReport | None = Field(description="Of the best face. Null for a photo without one.")
    warnings: list[str]
    timings_ms: dict[str, float] = Field(description="By stage; those of faces at the same time add up.")


class EnhanceReport(PreprocessReport):
    """Everything that was found and done."""

    faces: list[FaceReport] = Field(description="All faces that were treated.")
    left_alone: list[LeftAloneReport] = Field(description="Faces of a photo that were not restored, and why.")
    linkage: list[RuleReport] = Field(description="The rules that changed a parameter, in order.")
    engine: str = Field(
        description="What restored: `torch`, `onnx`, `classical`, or a foreign backend's name."
    )
    model: str


class PreprocessAnswer(Schema):
    """A portrait in JSON."""

    image_base64: str
    media_type: str
    report: PreprocessReport


class EnhanceAnswer(Schema):
    """An enhanced picture in JSON."""

    image_base64: str
    media_type: str
    report: EnhanceReport


class ArticleAnswer(Schema):
    """The answer of the article's `/preprocess`."""

    image_base64: str = Field(description="The portrait as PNG.")


class ModelReport(Schema):
    """A model of the backend."""

    name: str
    ready: bool
    engine: str
    task: str = Field(description="What it is for: `restore`, `colorize` or `inpaint`.")
    size: int | None = Field(description="Side of the network's input, px.")
    default: bool = Field(description="Whether requests that name no model get this one.")
    reason: str | None = Field(None, description="Why it is not ready.")


class ModelsAnswer(Schema):
    """What the backend can run."""

    default: str | None
    models: list[ModelReport]


class HealthAnswer(Schema):
    """The gateway is alive."""

    status: str = "ok"
    version: str


class ReadyAnswer(Schema):
    """The gateway can serve."""

    status: str = "ready"
    finder: str
    engine: str
    model: str
    backend: str = Field(description="`embedded`, or the backend's URL.")
    breaker: BreakerState = Field(
        description="`closed`, or `half-open` while it is tried whether the backend is back."
    )
    notices: list[str] = Field(description="What an operator should know, such as a missing checkpoint.")


def _left_out(schema: dict[str, Any]) -> None:
    """Tells of a field that it is left out where it would be null."""
    del schema["default"]
    schema.update(next(way for way in schema.pop("anyOf") if way != {"type": "null"}))


class WrongParameter(Schema):
    """A parameter and what is wrong with it."""

    parameter: str
    message: str


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = Field(description="A stable slug; docs/errors.md explains each.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do.")
    request_id: str
    errors: list[WrongParameter] | None = Field(
        None, description="The parameters that are wrong, each with why.", json_schema_extra=_left_out
    )
