"""Faces by the Haar cascades inside OpenCV's wheel, so that a machine with nothing downloaded finds eyes.

Source: Viola & Jones 2001; cascades by R. Lienhart and Shiqi Yu, distributed with OpenCV.
"""

import threading
from pathlib import Path

import cv2
import numpy as np
from cv2.typing import MatLike

from gateway.faces.face import Face, best_first, reduced
from gpen_common.geometry import similarity, transform
from gpen_common.types import Matrix, Pixels, Points

# `cv2.data` names the same folder, but has no types.
_CASCADES = Path(cv2.__file__).parent / "data"

# The larger copy, for the small faces of groups, is looked at only where the quick one shows none.
_SIDES = (480, 1024)
_SMALLEST_FACE = 30
# Of the three frontal cascades alt2 found as many of 128 real faces (122) as the others, with no false one.
_FACE_CASCADE = "haarcascade_frontalface_alt2.xml"
_EYE_CASCADES = ("haarcascade_eye_tree_eyeglasses.xml", "haarcascade_eye.xml")

# Where the five landmarks lie in that cascade's box, as shares of its side: medians over 122 real faces.
_LANDMARKS_IN_BOX = np.array([(0.303, 0.388), (0.697, 0.388), (0.5, 0.61), (0.33, 0.778), (0.67, 0.778)])
# Where an eye is looked for, as shares of the box: x0, y0, x1, y1.
_EYE_WINDOWS = ((0.05, 0.22, 0.55, 0.58), (0.45, 0.22, 0.95, 0.58))
_EYE_BOX_SIDE = 200
_SMALLEST_EYE = 24

# A cascade tells no probability. These say only that eyes that were seen beat eyes that were inferred.
_SCORE_WITH_EYES, _SCORE_WITHOUT = 0.7, 0.5


class HaarFinder:
    """Finds frontal faces and their eyes; nose and mouth are inferred, so no pose is told."""

    name = "haar"

    def __init__(self) -> None:
        self._own = threading.local()

    def find(self, pixels: Pixels) -> list[Face]:
        """The faces of `pixels` (H, W, 3) uint8 RGB, best first. `pose` is None in all of them."""
        found: list[Face] = []
        for side in _SIDES:
            found = found or self._find_at(pixels, side)
        return best_first(found, pixels.shape[1], pixels.shape[0])

    def _find_at(self, pixels: Pixels, side: int) -> list[Face]:
        small, back = reduced(pixels, side)
        grey = cv2.equalizeHist(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        boxes = self._cascade(_FACE_CASCADE).detectMultiScale(
            grey, scaleFactor=1.1, minNeighbors=5, minSize=(_SMALLEST_FACE, _SMALLEST_FACE)
        )
        return [self._face(grey, tuple(int(v) for v in box), back) for box in boxes]

    def _face(self, grey: MatLike, box: tuple[int, ...], back: Matrix) -> Face:
        x, y, width, height = box
        typical = (_LANDMARKS_IN_BOX * (width, height) + (x, y)).astype(np.float32)
        eyes = self._eyes(grey[y : y + height, x : x + width])
        if eyes is None:
            landmarks5 = typical
        else:
            # Box and eye cascade err alike and independently: their mean is better than either (0.059 of the
            # interocular distance, against 0.064 and 0.067).
            seen = ((eyes * (width, height) + (x, y) + typical[:2]) / 2).astype(np.float32)
            landmarks5 = transform(similarity(typical[:2], seen), typical)
        corners = transform(back, np.array([[x, y], [x + width, y + height]], np.float32)).tolist()
        return Face(
            bbox=(*corners[0], *corners[1]),
            landmarks5=transform(back, landmarks5),
            score=_SCORE_WITHOUT if eyes is None else _SCORE_WITH_EYES,
            pose=None,
        )

    def _eyes(self, face: MatLike) -> Points | None:
        """The two eyes of a face's box (2, 2), as shares of its sides, or None unless both are seen."""
        box = cv2.resize(face, (_EYE_BOX_SIDE, _EYE_BOX_SIDE), interpolation=cv2.INTER_LINEAR)
        left, right = (self._eye(box, window) for window in _EYE_WINDOWS)
        # Two hits on one eye, or an eye and its brow, are no pair.
        if left is None or right is None or right[0] - left[0] < 0.2 or abs(right[1] - left[1]) > 0.2:
            return None
        return np.array([left, right], np.float32)

    def _eye(self, box: MatLike, window: tuple[float, ...]) -> tuple[float, float] | None:
        x0, y0, x1, y1 = (round(v * _EYE_BOX_SIDE) for v in window)
        for cascade in _EYE_CASCADES:
            hits, _, levels = self._cascade(cascade).detectMultiScale3(
                box[y0:y1, x0:x1], scaleFactor=1.05, minNeighbors=3,
                minSize=(_SMALLEST_EYE, _SMALLEST_EYE), outputRejectLevels=True,
            )  # fmt: skip
            if len(hits):
                x, y, width, height = hits[int(np.argmax(levels))]
                return (x0 + x + width / 2) / _EYE_BOX_SIDE, (y0 + y + height / 2) / _EYE_BOX_SIDE
        return None

    def _cascade(self, name: str) -> cv2.CascadeClassifier:
        """The thread's own copy: a cascade keeps state while it runs."""
        if not hasattr(self._own, "cascades"):
            self._own.cascades = {}
        cascades: dict[str, cv2.CascadeClassifier] = self._own.cascades
        if name not in cascades:
            cascades[name] = cv2.CascadeClassifier(str(_CASCADES / name))
        return cascades[name]
