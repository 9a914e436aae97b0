"""The light of a portrait: what is measured, where, and the plan of its correction.

L is the lightness of CIE LAB scaled to 0 to 255, OpenCV's range for 8 bits.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from gpen_common.types import Points

CLAHE_CLIP_LIMIT = 2.0
"""Clip limit of CLAHE, and its maximum for `auto`. Source: the article."""

_SHADOW, _HIGHLIGHT = 5, 250


@dataclass(frozen=True, slots=True)
class Light:
    """Statistics of L around a face.

    mean, spread: mean and standard deviation, of 255. shadows, highlights: shares, 0 to 1, of nearly black
    (L up to 5) and nearly white (from 250) pixels.
    """

    mean: float
    spread: float
    shadows: float
    highlights: float


@dataclass(frozen=True, slots=True)
class LightPlan:
    """A correction of L.

    clahe_weight: weight of CLAHE's result, 0 to 1. clip_limit: of CLAHE. gamma: of the tone curve that
    follows; below 1 brightens, 1 changes nothing.
    """

    gamma: float = 1.0
    clahe_weight: float = 0.0
    clip_limit: float = CLAHE_CLIP_LIMIT

    @property
    def changes(self) -> bool:
        """Whether the plan changes any pixel."""
        return self.gamma != 1.0 or self.clahe_weight > 0


def find_face_region(side: tuple[int, int], landmarks5: Points | None) -> NDArray[np.bool_]:
    """Return a mask, (height, width) bool, of the pixels that light is measured on.

    An ellipse from brows to chin and cheek to cheek; the whole image without a face. side: (width, height),
    px. landmarks5: (5, 2), px.
    """
    width, height = side
    if landmarks5 is None:
        return np.ones((height, width), bool)
    eyes, mouth = landmarks5[:2].mean(0), landmarks5[3:].mean(0)
    down = mouth - eyes
    across = float(np.hypot(*(landmarks5[1] - landmarks5[0])))
    centre = eyes + 0.45 * down
    mask = np.zeros((height, width), np.uint8)
    angle = float(np.degrees(np.arctan2(down[1], down[0]))) - 90
    axes = (0.85 * across, 1.15 * max(float(np.hypot(*down)), 0.5 * across))
    box = (centre.tolist(), (2 * axes[0], 2 * axes[1]), angle)
    cv2.ellipse(mask, box, 255, cv2.FILLED)
    inside = mask > 0
    return inside if inside.any() else np.ones((height, width), bool)


def measure_light(lightness: MatLike, region: NDArray[np.bool_]) -> Light:
    """Measure the light of `lightness` (H, W) uint8 in `region` (H, W) bool."""
    values = lightness[region]
    return Light(
        mean=float(values.mean()),
        spread=float(values.std()),
        shadows=float((values <= _SHADOW).mean()),
        highlights=float((values >= _HIGHLIGHT).mean()),
    )
