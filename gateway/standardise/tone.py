"""The tone curve of exposure compensation, and the gamma that a face needs.

For lightness x in [0, 1] the curve is ((x + a)^g - a^g) / ((1 + a)^g - a^g). Like a plain gamma it keeps
black and white, but its slope at black is bounded, so that it does not amplify noise in deep shadows into
blotches. Chroma changes with lightness as it does under more or less light: light times c multiplies L + 16,
a and b of CIE LAB by the cube root of c. Otherwise brightened faces would look pale and darkened ones garish.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_common.types import Pixels

# `a` above. At the smallest gamma the slope at black is 5; that of a plain gamma is infinite.
_TOE = 0.02
# Entries of the lookup tables, finer than 8 bits can show.
_STEPS = 4096
# Rows converted to float at a time, which bounds the memory for large windows.
_ROWS = 256
# Bisection steps of the gamma, to an error of under 0.001.
_HALVINGS = 12


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
