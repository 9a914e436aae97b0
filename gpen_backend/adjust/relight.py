"""A new lightness for a picture that leaves its hues alone and clips nothing."""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.adjust.noise import Picture

Shades = TypeVar("Shades", NDArray[np.uint8], NDArray[np.float32])

# No channel that was inside the range is driven to its ends, where detail and hue would be lost.
_LOWEST, _HIGHEST = 1, 254


def luma(picture: Picture) -> NDArray[np.float32]:
    """The lightness the eye gives to an RGB picture, (H, W) float32 in [0, 255]. Source: ITU-R BT.601."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]


def brightest(picture: Shades) -> Shades:
    """The brightest channel of every pixel of a picture (H, W, 3): (H, W) of the same dtype."""
    # Ten times as fast as numpy's maximum over so short an axis.
    red, green, blue = cv2.split(picture)
    return cv2.max(cv2.max(red, green), blue)  # type: ignore[return-value]


def gain_of(
    peak: NDArray[np.float32], old: NDArray[np.float32], new: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What takes a pixel from lightness `old` to `new`, less where its brightest channel `peak` would clip.

    peak, old, new, the result: the same shape, float32; all but the result in [0, 255].
    """
    limit = np.maximum(peak, np.float32(_HIGHEST)) / np.maximum(peak, np.float32(1))
    # One grey level on either side keeps the ratio calm where the picture is black.
    return np.minimum((np.maximum(new, 0) + 1) / (old + 1), limit).astype(np.float32)


def scaled(picture: Shades, gain: NDArray[np.float32]) -> Shades:
    """Every channel of `picture` (H, W, 3) times `gain` (H, W), so that hue and saturation stay.

    Returns the dtype of `picture`, rounded where that has no fractions. No channel turns black that was not.
    """
    depth = cv2.CV_8U if picture.dtype == np.uint8 else cv2.CV_32F
    changed = cv2.multiply(picture, cv2.merge([gain, gain, gain]), dtype=depth)
    return np.maximum(changed, np.minimum(picture, picture.dtype.type(_LOWEST)))


def relit(picture: Picture, old: NDArray[np.float32], new: NDArray[np.float32]) -> Picture:
    """`picture` brightened by `new` / `old` in every channel alike, so that hue and saturation stay.

    picture: (H, W, 3). old, new: (H, W), in [0, 255]. No pixel becomes clipped that was not.
    """
    return scaled(picture, gain_of(brightest(picture), old, new))
