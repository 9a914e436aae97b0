"""Types of requests to a GPEN backend and of its answers.

Pictures are RGB uint8 (H, W, 3); points are (x, y) pixels with the centre of the first pixel at (0, 0).
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Pixels: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, sRGB."""

Points: TypeAlias = NDArray[np.float32]
"""(N, 2) float32, (x, y) pixels. Five of them are `landmarks5`: eye, eye, nose tip, mouth corner,
mouth corner, each pair image-left first."""

Matrix: TypeAlias = NDArray[np.float64]
"""(2, 3) float64, an affine map of (x, y) pixels."""

Mode = Literal["natural", "strong", "detail"]
"""How a restored face is blended over the input."""

Task = Literal["restore", "colorize", "inpaint"]
"""What the network does: sharpen faces, colour grey ones, fill in damaged ones."""


class RestoreParams(BaseModel):
    """The parameters of one restoration, after linkage. Scales run from 0 to 100."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(70, ge=0, le=100, description="Blend of the restored face over the input.")
    mode: Mode = "natural"
    denoise: float = Field(0, ge=0, le=100)
    sharpen: float = Field(0, ge=0, le=100)
    brightness: float = Field(0, ge=0, le=100)
    contrast: float = Field(0, ge=0, le=100)
    skin_protect: bool = Field(True, description="Keep the hue of the input's skin.")
    detail_enhance: bool = False
    auto_align: bool = Field(True, description="Let the backend find and align faces itself, if it can.")
    task: Task = "restore"
    upscale: int = Field(1, ge=1, le=4, description="Factor by which the answer is larger than the input.")
    inference_size: int | None = Field(None, ge=16, le=4096, description="Side of the network's input, px.")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model as its backend describes it.

    name: as in the path of its routes. ready: it can answer now. engine: `torch`, `onnx`, `classical`, or a
    foreign backend's platform. size: side of the network's input in px, None if unknown. default: the backend
    uses it for requests that name no model. task: what it does. reason: why it is not ready, None if unknown.
    """

    name: str
    ready: bool
    engine: str
    size: int | None = None
    default: bool = False
    task: str = "restore"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """A backend's answer.

    pixels: as large as the picture sent, times `upscale`. engine, model: those that ran. faces: number of
    faces restored. batch_size: faces in the network's run. timings_ms: milliseconds by stage.
    """

    pixels: Pixels
    engine: str
    model: str
    faces: int
    batch_size: int
    timings_ms: dict[str, float] = field(default_factory=dict)
