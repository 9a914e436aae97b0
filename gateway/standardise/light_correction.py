"""Correct the light of a portrait: local contrast by CLAHE, then exposure by a tone curve."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.params import ClaheMode, ExposureMode
from gateway.standardise.clahe import apply_clahe, find_change, plan_clahe
from gateway.standardise.exposure import compute_exposure_goal, find_gamma, retone
from gateway.standardise.light import Light, LightPlan, measure_light
from gpen_common.types import Pixels


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
    local = apply_clahe(lightness, plan)
    if exposure == "auto":
        plan = replace(plan, gamma=find_gamma(local[region], compute_exposure_goal(before.mean)))
    if not plan.changes:
        return portrait, before, before, plan
    if clahe == "always" and plan.gamma == 1.0:
        # The article's recipe, in 8 bits.
        lab[..., 0] = local
        corrected = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
    else:
        corrected = retone(portrait, find_change(lightness, local, clahe), plan.gamma)
    # Some colours clip at the target lightness, so measure the result.
    x, y, width, height = cv2.boundingRect(region.astype(np.uint8))
    seen = slice(y, y + height), slice(x, x + width)
    after = measure_light(cv2.cvtColor(corrected[seen], cv2.COLOR_RGB2LAB)[..., 0], region[seen])
    return corrected, before, after, plan
