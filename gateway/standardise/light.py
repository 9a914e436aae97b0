"""The light of a portrait: what it is, what it needs, and the correction.

L is the lightness of LAB scaled to 0..255, as OpenCV has it for 8 bits.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from gateway.params import ClaheMode, ExposureMode
from gpen_client.types import Pixels, Points

CLAHE_CLIP_LIMIT = 2.0
"""The article's clip limit; also the most that `auto` uses."""

CLAHE_TILES = (8, 8)
"""The article's tiles."""

# `auto` leaves mean L between these alone: real, well lit faces of dark and of light skin lie there, and a
# face is never moved further than to the nearer end.
_BAND = (105.0, 165.0)
# A gamma beyond these would lift noise, or flatten lights, more than it helps.
_GAMMA_RANGE = (0.5, 2.0)

# `auto` gives CLAHE its full weight to faces with a spread of L under the first, and none from the second on.
_FLAT_SPREAD, _ENOUGH_SPREAD = 15.0, 38.0
# Noise of this sigma and more halves the clip limit, for CLAHE lifts noise like detail.
_NOISY_SIGMA = 6.0

_SHADOW, _HIGHLIGHT = 5, 250


@dataclass(frozen=True, slots=True)
class Light:
    """Measures of L around a face. mean, spread: of 255; spread is the standard deviation. shadows,
    highlights: the shares, 0 to 1, that are nearly black and nearly white."""

    mean: float
    spread: float
    shadows: float
    highlights: float


@dataclass(frozen=True, slots=True)
class LightPlan:
    """A correction of L. gamma: the exponent on L / 255; below 1 raises. clahe_weight: 0 to 1, how much of
    CLAHE's result is taken. clip_limit: CLAHE's."""

    gamma: float = 1.0
    clahe_weight: float = 0.0
    clip_limit: float = CLAHE_CLIP_LIMIT

    @property
    def changes(self) -> bool:
        """Whether anything is to be done at all."""
        return self.gamma != 1.0 or self.clahe_weight > 0


def face_region(side: tuple[int, int], landmarks5: Points | None) -> NDArray[np.bool_]:
    """The pixels that light is measured on: (height, width) bool.

    An ellipse from brows to chin and cheek to cheek; the whole picture without a face.
    side: (width, height), px. landmarks5: (5, 2) in its px.
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
    """The light of `lightness` (H, W) uint8 in `region`."""
    values = lightness[region]
    return Light(
        mean=float(values.mean()),
        spread=float(values.std()),
        shadows=float((values <= _SHADOW).mean()),
        highlights=float((values >= _HIGHLIGHT).mean()),
    )


def plan_light(before: Light, noise_sigma: float, exposure: ExposureMode, clahe: ClaheMode) -> LightPlan:
    """The correction that light `before` with noise of `noise_sigma` (of 255) needs, as far as is asked."""
    gamma = 1.0 if exposure == "off" else _gamma(before.mean)
    match clahe:
        case "off":
            return LightPlan(gamma)
        case "always":
            return LightPlan(gamma, 1.0, CLAHE_CLIP_LIMIT)
        case "auto":
            need = (_ENOUGH_SPREAD - before.spread) / (_ENOUGH_SPREAD - _FLAT_SPREAD)
            weight = round(float(np.clip(need, 0, 1)), 2)
            calm = 1 - 0.5 * min(noise_sigma / _NOISY_SIGMA, 1.0)
            return LightPlan(gamma, weight, round(CLAHE_CLIP_LIMIT * calm, 2))


def correct_light(
    portrait: Pixels, region: NDArray[np.bool_], noise_sigma: float, exposure: ExposureMode, clahe: ClaheMode
) -> tuple[Pixels, Light, Light, LightPlan]:
    """`portrait` (H, W, 3) with its light corrected: pixels, light before and after in `region`, the plan.

    A portrait that needs nothing comes back untouched, bit by bit.
    """
    lab = cv2.cvtColor(portrait, cv2.COLOR_RGB2LAB)
    before = measure_light(lab[..., 0], region)
    plan = plan_light(before, noise_sigma, exposure, clahe)
    if not plan.changes:
        return portrait, before, before, plan
    lab[..., 0] = _corrected(np.ascontiguousarray(lab[..., 0]), plan)
    corrected = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
    # Not every colour exists in every lightness: what came out is measured, not what was aimed at.
    after = measure_light(cv2.cvtColor(corrected, cv2.COLOR_RGB2LAB)[..., 0], region)
    return corrected, before, after, plan


def _gamma(mean: float) -> float:
    """The bounded exponent that takes mean L to the nearer end of the band."""
    low, high = _BAND
    target = float(np.clip(mean, low, high))
    if target == mean:
        return 1.0
    mean = min(max(mean, 1.0), 254.0)
    return round(float(np.clip(np.log(target / 255) / np.log(mean / 255), *_GAMMA_RANGE)), 3)


def _corrected(lightness: MatLike, plan: LightPlan) -> MatLike:
    if plan.gamma != 1.0:
        ramp = np.linspace(0, 1, 256) ** plan.gamma
        lightness = cv2.LUT(lightness, np.round(ramp * 255).astype(np.uint8))
    if plan.clahe_weight > 0:
        local = cv2.createCLAHE(plan.clip_limit, CLAHE_TILES).apply(lightness)
        lightness = cv2.addWeighted(local, plan.clahe_weight, lightness, 1 - plan.clahe_weight, 0)
    return lightness
