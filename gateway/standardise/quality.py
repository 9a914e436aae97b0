"""Measure the quality of a face in the uncorrected photo: size, sharpness and noise."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from cv2.typing import MatLike

from gpen_common.geometry import DegenerateLandmarks, scale_of, similarity, warp
from gpen_common.types import Pixels, Points

# Faces are measured at the network's scale, 107 px between the eyes on its 512 px template, so that a small
# face counts as soft as it looks when enlarged.
_SIDE = 256
_EYES = np.array([(74.5, 90.0), (181.5, 90.0)], np.float32)
# Without a face, at most this many px at the photo's centre are measured.
_CENTRE_SIDE = 512


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of a face, or of the photo's centre if there is no face.

    interocular_px: distance between the eyes in the photo; None without a face. sharpness: variance of the
    Laplacian of luma at the network's scale; under 15 is soft, above 100 is crisp. noise_sigma: standard
    deviation of the noise in luma, of 255, at the photo's scale or the network's, whichever is smaller.
    """

    interocular_px: float | None
    sharpness: float
    noise_sigma: float


def measure_quality(pixels: Pixels, landmarks5: Points | None) -> Quality:
    """Measure the photo `pixels` (H, W, 3) around the face at `landmarks5` (5, 2), photo px."""
    if landmarks5 is None:
        luma = _to_luma(_cut_centre(pixels))
        return Quality(None, _measure_sharpness(luma), estimate_noise(luma))
    interocular = float(np.hypot(*(landmarks5[1] - landmarks5[0])))
    try:
        to_network = similarity(landmarks5[:2], _EYES)
    except DegenerateLandmarks:
        return replace(measure_quality(pixels, None), interocular_px=interocular)
    at_network = _to_luma(warp(pixels, to_network, (_SIDE, _SIDE), cv2.BORDER_REPLICATE))
    # Enlarging smooths noise into texture, so measure it before.
    native = (
        at_network if scale_of(to_network) <= 1 else _to_luma(_cut_around(pixels, landmarks5, interocular))
    )
    return Quality(interocular, _measure_sharpness(at_network), estimate_noise(native))


def estimate_noise(luma: MatLike) -> float:
    """Estimate the standard deviation of the noise in `luma` (H, W) float32, of 255.

    Source: Immerkær 1996, "Fast Noise Variance Estimation", with the median in place of the mean, so that
    eyelashes and hair do not count as noise.
    """
    if min(luma.shape[:2]) < 3:
        return 0.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(luma, cv2.CV_32F, kernel))
    # The kernel's norm is 6; the median of a half-normal distribution is 0.6745 sigma.
    return float(np.median(response)) / (6 * 0.6745)


def _measure_sharpness(luma: MatLike) -> float:
    return float(cv2.Laplacian(luma, cv2.CV_32F).var())


def _to_luma(pixels: Pixels) -> MatLike:
    # In float: 8 bits would round noise of under half a level away.
    return cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2GRAY)


def _cut_around(pixels: Pixels, landmarks5: Points, interocular: float) -> Pixels:
    """Cut a square of about a head's size around a face."""
    x, y = landmarks5.mean(0)
    reach = max(1.2 * interocular, 4.0)
    x0, y0 = max(int(x - reach), 0), max(int(y - reach), 0)
    part = pixels[y0 : max(int(y + reach), y0 + 1), x0 : max(int(x + reach), x0 + 1)]
    return part if part.size else pixels


def _cut_centre(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    x0, y0 = max((width - _CENTRE_SIDE) // 2, 0), max((height - _CENTRE_SIDE) // 2, 0)
    return pixels[y0 : y0 + _CENTRE_SIDE, x0 : x0 + _CENTRE_SIDE]
