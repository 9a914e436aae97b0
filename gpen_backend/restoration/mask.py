"""The soft mask that decides where a restored face is pasted: shaped by its landmarks, never a rectangle."""

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_common.types import Points

# Proportions of a face in units of d (eye line to mouth) and i (eye to eye), by eye on aligned portraits,
# frontal and turned: the hairline lies about 1 d above the eyes, the chin 0.75 d below the mouth, the cheeks
# 1.2 i aside.
_CENTRE = 0.38  # of d, below the eye line
_HALF_HEIGHT = 1.55  # of d, where the mask has reached 0
_HALF_WIDTH = 1.5  # of i, where the mask has reached 0
_HALF_WIDTH_TURNED = 1.2  # of d: eyes of a turned head come together, its face does not as much
_EXPONENT = 2.4  # between an ellipse and a rectangle, as a jaw is
_SOLID = 0.7  # of the way out the mask is 1
# Share of the crop's side at its border where the mask is 0, and where the border no longer matters.
_BORDER = 0.05
_BORDER_END = 0.12
# Eyes and mouth nearer than this share of the crop's side are a wrong guess, not a shape.
_MIN_LENGTH = 0.1


def face_mask(landmarks: Points, size: int) -> NDArray[np.float32]:
    """A soft mask of the face in an aligned crop: forehead to chin, cheek to cheek.

    landmarks: (5, 2) float32, crop px. size: side of the crop, px.
    Returns (size, size) float32 in [0, 1]: 1 on the face, falling smoothly to 0 around it, and exactly 0 on
    the outermost 5 % of the crop.
    """
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    shortest = _MIN_LENGTH * size
    d = max(float(np.hypot(*(mouth - eyes))), shortest)
    i = max(float(np.hypot(*(landmarks[1] - landmarks[0]))), shortest)
    down = (mouth - eyes) / d
    norm = float(np.hypot(*down))
    down = down / norm if norm > 0.5 else np.array([0.0, 1.0])
    centre = eyes + _CENTRE * d * down

    y, x = (axis.astype(np.float32) for axis in np.ogrid[:size, :size])
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    long, wide = _HALF_HEIGHT * d, max(_HALF_WIDTH * i, _HALF_WIDTH_TURNED * d)
    along = x * np.float32(down[0] / long) + y * np.float32(down[1] / long)
    across = x * np.float32(down[1] / wide) - y * np.float32(down[0] / wide)
    inner = cv2.add(cv2.pow(np.abs(along), _EXPONENT), cv2.pow(np.abs(across), _EXPONENT))
    radius = np.asarray(cv2.pow(inner, 1 / _EXPONENT), np.float32)
    edge = _smoothstep((_border(size) - _BORDER) / (_BORDER_END - _BORDER))
    return _smoothstep((1 - radius) / np.float32(1 - _SOLID)) * edge[:, None] * edge[None, :]


def _border(size: int) -> NDArray[np.float32]:
    """(size,): how far each pixel is from the nearer end, as a share of the whole."""
    places = np.arange(size, dtype=np.float32)
    return (np.minimum(places, places[::-1]) / size).astype(np.float32)


def _smoothstep(t: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 below 0, 1 above 1, and a cubic with level ends between."""
    t = t.clip(0, 1)
    return t * t * (3 - 2 * t)
