"""Measure and correct the light of a portrait: local contrast by CLAHE, exposure by a tone curve.

L is the lightness of CIE LAB scaled to 0 to 255, OpenCV's range for 8 bits.
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
"""Clip limit of CLAHE, and its maximum for `auto`. Source: the article."""

CLAHE_TILES = 8
"""Number of CLAHE tiles along each side. Source: the article."""

# Minimum side of a tile, px. In a tile with few more pixels than levels the histogram is meaningless, and
# OpenCV's CLAHE turns flat grey white. Images under 256 px (windows, never portraits) get fewer tiles.
_LEAST_TILE = 32

EXPOSURE_TARGET = 145.0
"""Mean L towards which exposure compensation moves a face.

Near the median of real portraits, 149, so that few faces are moved far.
"""

EXPOSURE_KEEP = 0.2
"""Share of its distance from the target that a face keeps.

With 0, dark and light skin would look the same; above 0, the darker of two faces stays the darker one.
Chosen with `gpen-gateway evaluate`, see docs/evaluation.md.
"""

GAMMA_RANGE = (0.4, 2.5)
"""Range of the gamma, a bound for very dark and very bright faces, which hold little detail."""

# Smallest visible change of mean L, of 255.
_VISIBLE_CHANGE = 1.0

# `auto` gives CLAHE full weight up to the first spread of L and none from the second on.
_FLAT_SPREAD, _ENOUGH_SPREAD = 15.0, 45.0
# Blur of the change that `auto` makes, px. CLAHE amplifies noise and rounding as much as detail: by 1.9 in
# the median portrait. With the blur it adds local contrast but no noise (1.0).
_CHANGE_BLUR = 1.5
# Noise of this sigma or more halves the clip limit, because CLAHE amplifies noise.
_NOISY_SIGMA = 6.0

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


def compute_exposure_goal(mean: float) -> float:
    """Return the mean L, of 255, to which a face of mean L `mean` is moved."""
    return EXPOSURE_TARGET + EXPOSURE_KEEP * (mean - EXPOSURE_TARGET)


def plan_clahe(before: Light, noise_sigma: float, clahe: ClaheMode) -> LightPlan:
    """Choose the CLAHE for light `before` and noise of `noise_sigma` (of 255) in mode `clahe`."""
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
    """Correct the light of `portrait` (H, W, 3).

    Returns the pixels, the light in `region` before and after, and the plan. Exposure is corrected on the
    result of CLAHE, which changes the mean. A portrait that needs no correction is returned unchanged.
    """
    lab = cv2.cvtColor(portrait, cv2.COLOR_RGB2LAB)
    lightness = np.ascontiguousarray(lab[..., 0])
    before = measure_light(lightness, region)
    plan = plan_clahe(before, noise_sigma, clahe)
    local = _apply_clahe(lightness, plan)
    if exposure == "auto":
        plan = replace(plan, gamma=_find_gamma(local[region], compute_exposure_goal(before.mean)))
    if not plan.changes:
        return portrait, before, before, plan
    if clahe == "always" and plan.gamma == 1.0:
        # The article's recipe, in 8 bits.
        lab[..., 0] = local
        corrected = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
    else:
        corrected = retone(portrait, _find_change(lightness, local, clahe), plan.gamma)
    # Some colours clip at the target lightness, so measure the result.
    x, y, width, height = cv2.boundingRect(region.astype(np.uint8))
    seen = slice(y, y + height), slice(x, x + width)
    after = measure_light(cv2.cvtColor(corrected[seen], cv2.COLOR_RGB2LAB)[..., 0], region[seen])
    return corrected, before, after, plan


def _find_gamma(values: MatLike, goal: float) -> float:
    """Find the gamma that moves the mean of L `values` (N,) to `goal`; 1 if the change is invisible."""
    if abs(float(values.mean()) - goal) < _VISIBLE_CHANGE:
        return 1.0
    return solve_gamma(np.asarray(values, np.uint8), goal, GAMMA_RANGE)


def _apply_clahe(lightness: MatLike, plan: LightPlan) -> MatLike:
    if plan.clahe_weight == 0:
        return lightness
    across, down = (min(max(side // _LEAST_TILE, 1), CLAHE_TILES) for side in lightness.shape[::-1])
    local = cv2.createCLAHE(plan.clip_limit, (across, down)).apply(lightness)
    return cv2.addWeighted(local, plan.clahe_weight, lightness, 1 - plan.clahe_weight, 0)


def _find_change(lightness: MatLike, local: MatLike, clahe: ClaheMode) -> NDArray[np.float32] | None:
    """Return the change of L by CLAHE, (H, W), of 255, or None. `auto` blurs it, to leave noise out."""
    if local is lightness:
        return None
    change = cv2.subtract(local, lightness, dtype=cv2.CV_32F)
    if clahe == "auto":
        change = cv2.GaussianBlur(change, (0, 0), _CHANGE_BLUR)
    return np.asarray(change, np.float32)
