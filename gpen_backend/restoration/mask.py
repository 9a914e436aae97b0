"""The soft mask of a face, shaped by its landmarks, that limits where the restored face is pasted."""

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_common.types import Points

# Proportions of a face in units of d (eye line to mouth) and i (eye to eye), judged by eye on aligned
# portraits, frontal and turned: the hairline lies about 1 d above the eyes, the chin 0.75 d below the mouth,
# the cheeks 1.2 i from the centre.
_CENTRE = 0.38  # of d, below the eye line
_HALF_HEIGHT = 1.55  # of d, where the mask reaches 0
_HALF_WIDTH = 1.5  # of i, where the mask reaches 0
_HALF_WIDTH_TURNED = 1.2  # of d: on a turned head, the eyes move closer together than the cheeks
_EXPONENT = 2.4  # of the superellipse: between an ellipse (2) and a rectangle, like a jaw
_SOLID = 0.7  # share of the radius within which the mask is 1
# Distance from the crop's border, as a share of its side, up to which the mask is 0, and from which on the
# border has no effect.
_BORDER = 0.05
_BORDER_END = 0.12
# Distances between eyes and mouth below this share of the crop's side are wrong landmarks.
_MIN_LENGTH = 0.1


def face_mask(landmarks: Points, size: int) -> NDArray[np.float32]:
    """Draw a soft mask of the face in an aligned crop: forehead to chin, cheek to cheek.

    landmarks: (5, 2) float32, crop px. size: side of the crop, px.
    Returns (size, size) float32 in [0, 1]: 1 on the face, smoothly falling to 0 around it, and exactly 0 in
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
    """Distance of each pixel from the nearer end, as a share of the whole: (size,)."""
    places = np.arange(size, dtype=np.float32)
    return (np.minimum(places, places[::-1]) / size).astype(np.float32)


def _smoothstep(t: NDArray[np.float32]) -> NDArray[np.float32]:
    """The smoothstep function: 0 below 0, 1 above 1, a cubic with flat ends in between."""
    t = t.clip(0, 1)
    return t * t * (3 - 2 * t)
