"""An enhanced photo before it is encoded: pixels, and what was done to each face."""

from dataclasses import dataclass

from gateway.faces import Face
from gateway.linkage.rules import AppliedRule
from gateway.standardise.face_window import FaceWindow
from gpen_common.types import Pixels, Restored


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A face that is not restored, and the reason."""

    face: Face
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class EnhancedPhoto:
    """An enhanced photo.

    pixels: (H, W, 3) uint8 RGB, the photo's size times the upscale. windows: the restored ones, best face
    first. rules: linked parameters of each window. restored: the backend's answers.
    """

    pixels: Pixels
    windows: tuple[FaceWindow, ...]
    left_alone: tuple[LeftAlone, ...]
    rules: tuple[tuple[AppliedRule, ...], ...]
    restored: tuple[Restored, ...]
    warnings: tuple[str, ...]
