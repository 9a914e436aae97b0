"""A new lightness for a picture that leaves its hues alone and clips nothing."""

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.noise import Picture

# No channel that was inside the range is driven to its ends, where detail and hue would be lost.
_LOWEST, _HIGHEST = 1.0, 254.0


def luma(picture: Picture) -> NDArray[np.float32]:
    """The lightness the eye gives to an RGB picture, (H, W) float32 in [0, 255]. Source: ITU-R BT.601."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]


def relit(picture: Picture, old: NDArray[np.float32], new: NDArray[np.float32]) -> Picture:
    """`picture` brightened by `new` / `old` in every channel alike, so that hue and saturation stay.

    picture: (H, W, 3). old, new: (H, W), in [0, 255]. No pixel becomes clipped that was not.
    """
    brightest = picture.max(-1)
    limit = np.maximum(brightest, _HIGHEST) / np.maximum(brightest, 1)
    # One grey level on either side keeps the ratio calm where the picture is black.
    gain = np.minimum((np.maximum(new, 0) + 1) / (old + 1), limit)
    changed: Picture = np.maximum(picture * gain[..., None], np.minimum(picture, np.float32(_LOWEST)))
    return changed
