"""Exposure compensation: the lightness that a face should have, its gamma, and the tone curve.

For lightness x in [0, 1] the curve is ((x + a)^g - a^g) / ((1 + a)^g - a^g). Like a plain gamma it keeps
black and white, but its slope at black is bounded, so that it does not amplify noise in deep shadows into
blotches. Chroma changes with lightness as it does under more or less light: light times c multiplies L + 16,
a and b of CIE LAB by the cube root of c. Otherwise brightened faces would look pale and darkened ones garish.
"""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from gpen_common.types import Pixels

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

# `a` above. At the smallest gamma the slope at black is 5; that of a plain gamma is infinite.
_TOE = 0.02
# Entries of the lookup tables, finer than 8 bits can show.
_STEPS = 4096
# Rows converted to float at a time, which bounds the memory for large windows.
_ROWS = 256
# Bisection steps of the gamma, to an error of under 0.001.
_HALVINGS = 12


def compute_exposure_goal(mean: float) -> float:
    """Return the mean L, of 255, to which a face of mean L `mean` is moved."""
    return EXPOSURE_TARGET + EXPOSURE_KEEP * (mean - EXPOSURE_TARGET)


def find_gamma(values: MatLike, goal: float) -> float:
    """Find the gamma that moves the mean of L `values` (N,) to `goal`; 1 if the change is invisible."""
    if abs(float(values.mean()) - goal) < _VISIBLE_CHANGE:
        return 1.0
    return solve_gamma(np.asarray(values, np.uint8), goal, GAMMA_RANGE)


def solve_gamma(lightness: NDArray[np.uint8], goal: float, bounds: tuple[float, float]) -> float:
    """Find the gamma in `bounds` that moves the mean of `lightness` (N,) nearest to `goal`, both of 255."""
    shares = np.bincount(lightness, minlength=256) / max(lightness.size, 1)
    levels = np.arange(256) / 255
    low, high = np.log(bounds[0]), np.log(bounds[1])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # A larger gamma is darker.
        if float(apply_curve(levels, float(np.exp(middle))) @ shares) * 255 > goal:
            low = middle
        else:
            high = middle
    return round(float(np.exp((low + high) / 2)), 3)


def apply_curve(lightness: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Apply the tone curve of `gamma` to `lightness`, any shape, 0 to 1."""
    floor = _TOE**gamma
    return np.asarray(((lightness + _TOE) ** gamma - floor) / ((1 + _TOE) ** gamma - floor), np.float64)


def retone(pixels: Pixels, local: NDArray[np.float32] | None, gamma: float) -> Pixels:
    """Add `local` (H, W), of 255, to the L of `pixels` (H, W, 3), then apply the curve of `gamma`.

    Computes in float: correcting whole levels of L would leave gaps between them, which count as noise.
    """
    steps = np.linspace(0, 1, _STEPS)
    toned = apply_curve(steps, gamma)
    table = (100 * toned).astype(np.float32)
    chroma = ((100 * toned + 16) / (100 * steps + 16)).astype(np.float32)
    out = np.empty_like(pixels)
    for top in range(0, len(pixels), _ROWS):
        rows = slice(top, top + _ROWS)
        unit = np.multiply(pixels[rows], np.float32(1 / 255), dtype=np.float32)
        lab = np.asarray(cv2.cvtColor(unit, cv2.COLOR_RGB2LAB), np.float32)
        step = lab[..., 0] * np.float32((_STEPS - 1) / 100)
        if local is not None:
            step += local[rows] * np.float32((_STEPS - 1) / 255)
        index = np.rint(np.clip(step, 0, _STEPS - 1)).astype(np.intp)
        lab[..., 0] = np.take(table, index)
        lab[..., 1:] *= np.take(chroma, index)[..., np.newaxis]
        rgb = np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1)
        out[rows] = cv2.convertScaleAbs(rgb, alpha=255)
    return out
