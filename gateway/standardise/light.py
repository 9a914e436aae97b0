"""The light of a portrait: what it is, what it needs, and the correction.

L is the lightness of LAB scaled to 0..255, as OpenCV has it for 8 bits.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from gateway.params import ClaheMode, ExposureMode
from gateway.standardise.tone import retone, solve_gamma
from gpen_common.types import Pixels, Points

CLAHE_CLIP_LIMIT = 2.0
"""The article's clip limit; also the most that `auto` uses."""

CLAHE_TILES = 8
"""The article's tiles, each way."""

# A tile with hardly more pixels than there are levels has no histogram to speak of: OpenCV's CLAHE then makes
# flat grey white. Pictures under 256 px, which a portrait never is, get fewer tiles of this side.
_LEAST_TILE = 32

EXPOSURE_TARGET = 145.0
"""Mean L that exposure compensation pulls faces towards.

The middle of what real portraits have (their median is 149): so the fewest are moved far, either way.
"""

EXPOSURE_KEEP = 0.2
"""The share of its distance from the target that a face keeps.

All of it taken away would make dark and light skin the same. The order stays: the darker of two faces stays
the darker one. Chosen with `gpen-gateway evaluate`, see docs/evaluation.md.
"""

GAMMA_RANGE = (0.4, 2.5)
"""No face is moved by more than these, however dark or bright it is: what is black holds nothing to lift."""

# Less than this, of 255, nobody sees.
_WORTH_MOVING = 1.0

# `auto` gives CLAHE its full weight to faces with a spread of L under the first, and none from the second on.
_FLAT_SPREAD, _ENOUGH_SPREAD = 15.0, 45.0
# Blur, px, of what `auto` adds: CLAHE steepens noise and rounding as it does detail, by 1.9 in the median
# portrait. Blurred, it adds local contrast and leaves noise as it was (1.0).
_CHANGE_BLUR = 1.5
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
    """A correction of L. clahe_weight: 0 to 1, how much of CLAHE's result is taken. clip_limit: CLAHE's.
    gamma: of the tone curve that follows; below 1 raises, 1 changes nothing."""

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


def exposure_goal(mean: float) -> float:
    """The mean L, of 255, that a face of `mean` is to have."""
    return EXPOSURE_TARGET + EXPOSURE_KEEP * (mean - EXPOSURE_TARGET)


def plan_clahe(before: Light, noise_sigma: float, clahe: ClaheMode) -> LightPlan:
    """The CLAHE that light `before` with noise of `noise_sigma` (of 255) needs, as far as is asked."""
    match clahe:
        case "off":
            return LightPlan()
        case "always":
            return LightPlan(clahe_weight=1.0)
        case "auto":
            need = (_ENOUGH_SPREAD - before.spread) / (_ENOUGH_SPREAD - _FLAT_SPREAD)
            weight = round(float(np.clip(need, 0, 1)), 2)
            calm = 1 - 0.5 * min(noise_sigma / _NOISY_SIGMA, 1.0)
            return LightPlan(clahe_weight=weight, clip_limit=round(CLAHE_CLIP_LIMIT * calm, 2))


def correct_light(
    portrait: Pixels, region: NDArray[np.bool_], noise_sigma: float, exposure: ExposureMode, clahe: ClaheMode
) -> tuple[Pixels, Light, Light, LightPlan]:
    """`portrait` (H, W, 3) with its light corrected: pixels, light before and after in `region`, the plan.

    CLAHE comes first, the exposure is then set on its result: what CLAHE moved is accounted for. A portrait
    that needs nothing comes back untouched, bit by bit.
    """
    lab = cv2.cvtColor(portrait, cv2.COLOR_RGB2LAB)
    lightness = np.ascontiguousarray(lab[..., 0])
    before = measure_light(lightness, region)
    plan = plan_clahe(before, noise_sigma, clahe)
    local = _with_clahe(lightness, plan)
    if exposure == "auto":
        plan = replace(plan, gamma=_gamma(local[region], exposure_goal(before.mean)))
    if not plan.changes:
        return portrait, before, before, plan
    if clahe == "always" and plan.gamma == 1.0:
        # As the article has it, in 8 bits.
        lab[..., 0] = local
        corrected = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
    else:
        corrected = retone(portrait, _change(lightness, local, clahe), plan.gamma)
    # Not every colour exists in every lightness: what came out is measured, not what was aimed at.
    x, y, width, height = cv2.boundingRect(region.astype(np.uint8))
    seen = slice(y, y + height), slice(x, x + width)
    after = measure_light(cv2.cvtColor(corrected[seen], cv2.COLOR_RGB2LAB)[..., 0], region[seen])
    return corrected, before, after, plan


def _gamma(values: MatLike, goal: float) -> float:
    """The bounded gamma that takes L `values` (N,) to the mean `goal`; 1 where they are there already."""
    if abs(float(values.mean()) - goal) < _WORTH_MOVING:
        return 1.0
    return solve_gamma(np.asarray(values, np.uint8), goal, GAMMA_RANGE)


def _with_clahe(lightness: MatLike, plan: LightPlan) -> MatLike:
    if plan.clahe_weight == 0:
        return lightness
    across, down = (min(max(side // _LEAST_TILE, 1), CLAHE_TILES) for side in lightness.shape[::-1])
    local = cv2.createCLAHE(plan.clip_limit, (across, down)).apply(lightness)
    return cv2.addWeighted(local, plan.clahe_weight, lightness, 1 - plan.clahe_weight, 0)


def _change(lightness: MatLike, local: MatLike, clahe: ClaheMode) -> NDArray[np.float32] | None:
    """What CLAHE adds to L, (H, W), of 255, or None. For `auto` without its finest detail: that is noise."""
    if local is lightness:
        return None
    change = cv2.subtract(local, lightness, dtype=cv2.CV_32F)
    if clahe == "auto":
        change = cv2.GaussianBlur(change, (0, 0), _CHANGE_BLUR)
    return np.asarray(change, np.float32)
