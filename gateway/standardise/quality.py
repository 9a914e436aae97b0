"""How good the face of a photo is, before anything is corrected."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from cv2.typing import MatLike

from gpen_common.geometry import DegenerateLandmarks, scale_of, similarity, warp
from gpen_common.types import Pixels, Points

# The network sees an interocular distance of 107 px on its 512 px template. Judged at that scale, a small
# face counts as the soft picture that it is once enlarged.
_SIDE = 256
_EYES = np.array([(74.5, 90.0), (181.5, 90.0)], np.float32)
# Without a face: the middle of the photo, this many px at most.
_MIDDLE_SIDE = 512


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of a face, or of the photo's middle where there is no face.

    interocular_px: distance between the eyes in the photo as it came; None without a face. sharpness:
    variance of the luma's Laplacian at the network's scale; soft faces lie under 15, crisp ones above 100.
    noise_sigma: standard deviation of the noise in luma, of 255, at the photo's own scale or the network's,
    whichever is smaller.
    """

    interocular_px: float | None
    sharpness: float
    noise_sigma: float


def measure_quality(pixels: Pixels, landmarks5: Points | None) -> Quality:
    """The quality of a photo `pixels` (H, W, 3) around the face `landmarks5` (5, 2), photo px."""
    if landmarks5 is None:
        luma = _luma(_middle(pixels))
        return Quality(None, _sharpness(luma), noise_sigma(luma))
    interocular = float(np.hypot(*(landmarks5[1] - landmarks5[0])))
    try:
        to_network = similarity(landmarks5[:2], _EYES)
    except DegenerateLandmarks:
        return replace(measure_quality(pixels, None), interocular_px=interocular)
    seen = _luma(warp(pixels, to_network, (_SIDE, _SIDE), cv2.BORDER_REPLICATE))
    # Enlarging spreads noise until it looks like form: it is measured before that.
    native = seen if scale_of(to_network) <= 1 else _luma(_around(pixels, landmarks5, interocular))
    return Quality(interocular, _sharpness(seen), noise_sigma(native))


def noise_sigma(luma: MatLike) -> float:
    """Standard deviation of the noise in `luma` (H, W) float32, of 255.

    Source: Immerkær 1996, "Fast Noise Variance Estimation", with the median in place of the mean, so that
    eyelashes and hair do not count as noise.
    """
    if min(luma.shape[:2]) < 3:
        return 0.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(luma, cv2.CV_32F, kernel))
    # The kernel's norm is 6; the median of a half-normal distribution is 0.6745 sigma.
    return float(np.median(response)) / (6 * 0.6745)


def _sharpness(luma: MatLike) -> float:
    return float(cv2.Laplacian(luma, cv2.CV_32F).var())


def _luma(pixels: Pixels) -> MatLike:
    # In float, for the rounding of 8 bits hides noise under half a level.
    return cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2GRAY)


def _around(pixels: Pixels, landmarks5: Points, interocular: float) -> Pixels:
    """The square of about a head's size around a face, as it is in the photo."""
    x, y = landmarks5.mean(0)
    reach = max(1.2 * interocular, 4.0)
    x0, y0 = max(int(x - reach), 0), max(int(y - reach), 0)
    part = pixels[y0 : max(int(y + reach), y0 + 1), x0 : max(int(x + reach), x0 + 1)]
    return part if part.size else pixels


def _middle(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    x0, y0 = max((width - _MIDDLE_SIDE) // 2, 0), max((height - _MIDDLE_SIDE) // 2, 0)
    return pixels[y0 : y0 + _MIDDLE_SIDE, x0 : x0 + _MIDDLE_SIDE]
