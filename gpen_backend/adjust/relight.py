"""Changes the lightness of a picture without shifting hues or clipping."""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.adjust.noise import Picture

Shades = TypeVar("Shades", NDArray[np.uint8], NDArray[np.float32])

# A channel that was not clipped before is not clipped after, which would lose detail and hue.
_LOWEST, _HIGHEST = 1, 254


def luma(picture: Picture) -> NDArray[np.float32]:
    """Perceived lightness of an RGB picture, (H, W) float32 in [0, 255]. Source: ITU-R BT.601."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]


def max_channel(picture: Shades) -> Shades:
    """The brightest channel of every pixel of a picture (H, W, 3): (H, W) of the same dtype."""
    # Ten times as fast as numpy's maximum over an axis of three.
    red, green, blue = cv2.split(picture)
    return cv2.max(cv2.max(red, green), blue)  # type: ignore[return-value]


def gain_of(
    peak: NDArray[np.float32], old: NDArray[np.float32], new: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Gain that takes a pixel from lightness `old` to `new`, limited where its brightest channel would clip.

    peak: the brightest channel. peak, old, new: float32 in [0, 255], of one shape. Returns float32.
    """
    limit = np.maximum(peak, np.float32(_HIGHEST)) / np.maximum(peak, np.float32(1))
    # The added grey level stabilises the ratio where the picture is black.
    return np.minimum((np.maximum(new, 0) + 1) / (old + 1), limit).astype(np.float32)


def scale_channels(picture: Shades, gain: NDArray[np.float32]) -> Shades:
    """Multiply every channel of `picture` (H, W, 3) by `gain` (H, W), which keeps hue and saturation.

    Returns the dtype of `picture`; uint8 is rounded. A channel that was not black does not become black.
    """
    depth = cv2.CV_8U if picture.dtype == np.uint8 else cv2.CV_32F
    changed = cv2.multiply(picture, cv2.merge([gain, gain, gain]), dtype=depth)
    return np.maximum(changed, np.minimum(picture, picture.dtype.type(_LOWEST)))


def relight(picture: Picture, old: NDArray[np.float32], new: NDArray[np.float32]) -> Picture:
    """Scale every channel of `picture` by `new` / `old`, which keeps hue and saturation and clips nothing.

    picture: (H, W, 3). old, new: (H, W), in [0, 255].
    """
    return scale_channels(picture, gain_of(max_channel(picture), old, new))
