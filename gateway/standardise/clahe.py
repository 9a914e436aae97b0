"""CLAHE, local contrast, on the L of a portrait."""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from gateway.params import ClaheMode
from gateway.standardise.light import CLAHE_CLIP_LIMIT, Light, LightPlan

CLAHE_TILES = 8
"""Number of CLAHE tiles along each side. Source: the article."""

# Minimum side of a tile, px. In a tile with few more pixels than levels the histogram is meaningless, and
# OpenCV's CLAHE turns flat grey white. Images under 256 px (windows, never portraits) get fewer tiles.
_LEAST_TILE = 32

# `auto` gives CLAHE full weight up to the first spread of L and none from the second on.
_FLAT_SPREAD, _ENOUGH_SPREAD = 15.0, 45.0
# Blur of the change that `auto` makes, px. CLAHE amplifies noise and rounding as much as detail: by 1.9 in
# the median portrait. With the blur it adds local contrast but no noise (1.0).
_CHANGE_BLUR = 1.5
# Noise of this sigma or more halves the clip limit, because CLAHE amplifies noise.
_NOISY_SIGMA = 6.0


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


def apply_clahe(lightness: MatLike, plan: LightPlan) -> MatLike:
    """Return L after the CLAHE of `plan`, blended with `lightness` (H, W) uint8 by its weight."""
    if plan.clahe_weight == 0:
        return lightness
    across, down = (min(max(side // _LEAST_TILE, 1), CLAHE_TILES) for side in lightness.shape[::-1])
    local = cv2.createCLAHE(plan.clip_limit, (across, down)).apply(lightness)
    return cv2.addWeighted(local, plan.clahe_weight, lightness, 1 - plan.clahe_weight, 0)


def find_change(lightness: MatLike, local: MatLike, clahe: ClaheMode) -> NDArray[np.float32] | None:
    """Return the change of L by CLAHE, (H, W), of 255, or None. `auto` blurs it, to leave noise out."""
    if local is lightness:
        return None
    change = cv2.subtract(local, lightness, dtype=cv2.CV_32F)
    if clahe == "auto":
        change = cv2.GaussianBlur(change, (0, 0), _CHANGE_BLUR)
    return np.asarray(change, np.float32)
