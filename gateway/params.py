"""What callers may ask for. Scales run from 0 to 100, as users of GPEN's web interface know them."""

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

_PERCENT: TypeAdapter[float] = TypeAdapter(Percent)


def _percent_or_auto(value: object) -> object:
    # A plain union would blame both of its members for every wrong number.
    if value == "auto":
        return value
    try:
        return _PERCENT.validate_python(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise PydanticKnownError(wrong["type"], wrong.get("ctx")) from error  # type: ignore[arg-type]


Strength: TypeAlias = Annotated[
    float | Literal["auto"],
    BeforeValidator(_percent_or_auto),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0, "maximum": 100}, {"type": "string", "enum": ["auto"]}]}
    ),
]
"""A percentage, or to be chosen from the face's quality."""

Framing = Literal["article", "face"]
ClaheMode = Literal["auto", "always", "off"]
ExposureMode = Literal["auto", "off"]
NoFacePolicy = Literal["centre", "reject"]
YawPolicy = Literal["warn", "reject", "off"]


class PreprocessParams(BaseModel):
    """How a photo is standardised and encoded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    framing: Framing = Field(
        "article",
        description="`article`: the 896x896 window around the eyes at short edge 1024. `face`: roll removed "
        "and the eyes at fixed places, so that every portrait has the same geometry.",
    )
    clahe: ClaheMode = Field(
        "auto",
        description="Local contrast (CLAHE on L of LAB). `auto`: as much as the light needs; `always`: clip "
        "limit 2.0 on 8x8 tiles; `off`: none.",
    )
    exposure: ExposureMode = Field(
        "auto",
        description="Exposure compensation: the face's mean lightness is pulled most of the way to one that "
        "all portraits share, by a bounded tone curve.",
    )
    no_face: NoFacePolicy = Field(
        "centre",
        description="Without a face: `centre` crops the middle and adjusts it, but restores nothing; "
        "`reject` answers 422.",
    )
    yaw: YawPolicy = Field(
        "warn",
        description="A head turned past 25°: `warn` tells and softens `strength`; `reject` answers 422; "
        "`off` does neither.",
    )
    format: OutputFormat | None = Field(
        None, description="Encoding of the result. By default what `Accept` asks for, else the input's own."
    )
    quality: int = Field(95, ge=1, le=100, description="Quality of jpeg and webp.")
    timeout_s: float | None = Field(
        None, gt=0, le=3600, description="Seconds this request may take, at most GATEWAY_TIMEOUT_S."
    )


class EnhanceParams(PreprocessParams):
    """Everything that `/v1/enhance` takes beside the picture."""

    strength: Strength = Field(
        70,
        validate_default=True,
        description="Blend of GPEN's face over the input. `auto`: 25 for a large, sharp, clean face, up to "
        "90 for a small, soft or noisy one, each face by itself; the report tells.",
    )
    mode: Mode = Field(
        "natural",
        description="How the blend treats skin and texture: `natural` keeps the input's tone, `strong` takes "
        "nearly all of the network's face, `detail` its fine detail over the input's forms.",
    )
    denoise: Percent = Field(0, description="Strength of noise removal; 0 leaves the picture alone.")
    sharpen: Percent = Field(0, description="Strength of sharpening; 0 leaves the picture alone.")
    brightness: Percent = Field(0, description="Strength of brightening; 0 leaves the picture alone.")
    contrast: Percent = Field(0, description="Strength of added contrast; 0 leaves the picture alone.")
    skin_protect: bool = Field(True, description="Keep the hue of the input's skin.")
    detail_enhance: bool = Field(False, description="Boost local detail.")
    output: Literal["portrait", "photo"] = Field(
        "portrait",
        description="`portrait`: the standardised 896x896 portrait. `photo`: the whole photo at its own "
        "geometry and in its own light, with every face restored.",
    )
    upscale: int = Field(1, ge=1, le=4, description="How much larger than the input a `photo` is returned.")
    keep_metadata: Literal["safe", "all"] = Field(
        "safe", description="What of EXIF a `photo` keeps: `safe` drops the place where it was taken."
    )
    faces: Literal["all", "best"] = Field(
        "all", description="Which faces in the portrait are restored. It is centred on the best one."
    )
    task: Task = Field(
        "restore",
        description="`restore` makes faces sharp; `colorize` colours grey ones and keeps their lightness; "
        "`inpaint` fills in damaged ones. The last two need a checkpoint of their own.",
    )
    model: ModelName | None = Field(
        None,
        description="The checkpoint; its native size is the inference size. By default gpen-bfr-512, or "
        "the one for the task.",
    )
    linkage: bool = Field(
        True, description="Adjust the parameters to what standardising did; the report tells how."
    )
