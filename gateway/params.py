"""Parameters of the picture routes. Percentages run from 0 to 100, as in GPEN's web interface."""

from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticKnownError

from gateway.imaging.encoder import OutputFormat
from gpen_common.model_names import ModelName
from gpen_common.types import Mode, Task

Percent: TypeAlias = Annotated[float, Field(ge=0, le=100)]

MAX_FIELDS = 64
"""Maximum number of fields in a form: more than twice the number of parameters."""

NOT_IN_RESULT = {"timeout_s"}
"""Parameters that limit the time of a request but do not change its result."""

_PERCENT: TypeAdapter[float] = TypeAdapter(Percent)


def _validate_strength(value: object) -> object:
    # A plain union would report an error for each of its members.
    if value == "auto":
        return value
    try:
        return _PERCENT.validate_python(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise PydanticKnownError(wrong["type"], wrong.get("ctx")) from error  # type: ignore[arg-type]


Strength: TypeAlias = Annotated[
    float | Literal["auto"],
    BeforeValidator(_validate_strength),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0, "maximum": 100}, {"type": "string", "enum": ["auto"]}]}
    ),
]
"""A percentage, or `auto` to derive it from the quality of each face."""

Framing = Literal["article", "face"]
ClaheMode = Literal["auto", "always", "off"]
ExposureMode = Literal["auto", "off"]
NoFacePolicy = Literal["centre", "reject"]
YawPolicy = Literal["warn", "reject", "off"]


class PreprocessParams(BaseModel):
    """Parameters of standardisation and encoding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    framing: Framing = Field(
        "article",
        description="Geometry of the portrait. `article`: a window of 896x896 around the eyes, cut from "
        "the photo scaled to a short edge of 1024. `face`: the head upright and the eyes at fixed "
        "positions, so that all portraits have the same geometry.",
    )
    clahe: ClaheMode = Field(
        "auto",
        description="Local contrast enhancement (CLAHE on L of LAB). `auto`: as much as the light of the "
        "face needs. `always`: clip limit 2.0 on 8x8 tiles. `off`: none.",
    )
    exposure: ExposureMode = Field(
        "auto",
        description="Exposure compensation. `auto`: a bounded tone curve moves the mean lightness of the "
        "face most of the way to a common target. `off`: none.",
    )
    no_face: NoFacePolicy = Field(
        "centre",
        description="Handling of pictures without a face. `centre`: crop the centre and adjust it; nothing "
        "is restored. `reject`: return 422.",
    )
    yaw: YawPolicy = Field(
        "warn",
        description="Handling of heads turned by more than 25°. `warn`: add a warning and reduce "
        "`strength`. `reject`: return 422. `off`: none.",
    )
    format: OutputFormat | None = Field(
        None, description="Encoding of the result. Default: from `Accept`, else the encoding of the input."
    )
    quality: int = Field(95, ge=1, le=100, description="Quality of jpeg and webp encoding.")
    timeout_s: float | None = Field(
        None, gt=0, le=3600, description="Timeout of the request in seconds, up to `GATEWAY_TIMEOUT_S`."
    )

    def limit_timeout(self, limit_s: float) -> float:
        """Return the timeout of the request in seconds: `timeout_s`, at most and by default `limit_s`."""
        return min(self.timeout_s or limit_s, limit_s)


class EnhanceParams(PreprocessParams):
    """Parameters of `/v1/enhance`."""

    strength: Strength = Field(
        70,
        validate_default=True,
        description="Blend of the restored face over the input. `auto`: from 25 for a large, sharp, clean "
        "face to 90 for a small, soft or noisy one, for each face separately; the report has the value.",
    )
    mode: Mode = Field(
        "natural",
        description="How the restored face is blended. `natural`: keeps the tone of the input. `strong`: "
        "uses nearly all of the restored face. `detail`: adds its fine detail to the shapes of the input.",
    )
    denoise: Percent = Field(0, description="Strength of noise reduction. 0: none.")
    sharpen: Percent = Field(0, description="Strength of sharpening. 0: none.")
    brightness: Percent = Field(0, description="Strength of brightening. 0: none.")
    contrast: Percent = Field(0, description="Strength of the contrast increase. 0: none.")
    skin_protect: bool = Field(True, description="Keep the skin hue of the input.")
    detail_enhance: bool = Field(False, description="Enhance local detail.")
    output: Literal["portrait", "photo"] = Field(
        "portrait",
        description="Picture to return. `portrait`: the standardised portrait, 896x896. `photo`: the whole "
        "photo with its own geometry and light, and every face restored.",
    )
    upscale: int = Field(1, ge=1, le=4, description="Scale factor of the result for `output=photo`.")
    keep_metadata: Literal["safe", "all"] = Field(
        "safe",
        description="EXIF metadata in the result for `output=photo`. `safe`: without the location. `all`: "
        "everything.",
    )
    faces: Literal["all", "best"] = Field(
        "all",
        description="Faces to restore: `all`, or only the `best` one, on which the portrait is centred.",
    )
    task: Task = Field(
        "restore",
        description="`restore`: sharpen faces. `colorize`: add colour to greyscale faces and keep their "
        "lightness. `inpaint`: fill in damaged faces. `colorize` and `inpaint` need their own checkpoints.",
    )
    model: ModelName | None = Field(
        None,
        description="Model to use; its native size is the inference size. Default: the gateway's default "
        "model, or the model of the task.",
    )
    linkage: bool = Field(
        True,
        description="Adjust parameters to what standardisation already did; the report lists each change.",
    )
