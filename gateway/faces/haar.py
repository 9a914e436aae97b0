"""Face finder with the Haar cascades inside OpenCV's wheel, which needs no download.

Source: Viola & Jones 2001; cascades by R. Lienhart and Shiqi Yu, distributed with OpenCV.
"""

import threading
from pathlib import Path

import cv2
import numpy as np
from cv2.typing import MatLike

from gateway.faces.face import Face, reduce, sort_best_first
from gpen_common.geometry import similarity, transform
from gpen_common.types import Matrix, Pixels, Points

# `cv2.data` has the same path, but no types.
_CASCADES = Path(cv2.__file__).parent / "data"

# Longer sides of the copies to search, px. The larger one, for the small faces of groups, only if the smaller
# one shows no face.
_SIDES = (480, 1024)
_SMALLEST_FACE = 30
# Of the three frontal cascades, alt2 found as many of 128 real faces as the others (122), and no false ones.
_FACE_CASCADE = "haarcascade_frontalface_alt2.xml"
_EYE_CASCADES = ("haarcascade_eye_tree_eyeglasses.xml", "haarcascade_eye.xml")

# Positions of the five landmarks in that cascade's box, as shares of its side: medians of 122 real faces.
_LANDMARKS_IN_BOX = np.array([(0.303, 0.388), (0.697, 0.388), (0.5, 0.61), (0.33, 0.778), (0.67, 0.778)])
# Windows to search for the eyes, as shares of the box: x0, y0, x1, y1.
_EYE_WINDOWS = ((0.05, 0.22, 0.55, 0.58), (0.45, 0.22, 0.95, 0.58))
_EYE_BOX_SIDE = 200
_SMALLEST_EYE = 24

# A cascade has no confidence. These scores only rank detected eyes above inferred ones.
_SCORE_WITH_EYES, _SCORE_WITHOUT = 0.7, 0.5


class HaarFinder:
    """Finds frontal faces and their eyes. Nose and mouth are inferred, so faces have no pose."""

    name = "haar"

    def __init__(self) -> None:
        self._local = threading.local()

    def find(self, pixels: Pixels) -> list[Face]:
        """Find the faces of `pixels` (H, W, 3) uint8 RGB, best first. Their `pose` is None."""
        found: list[Face] = []
        for side in _SIDES:
            found = found or self._find_at(pixels, side)
        return sort_best_first(found, pixels.shape[1], pixels.shape[0])

    def _find_at(self, pixels: Pixels, side: int) -> list[Face]:
        small, back = reduce(pixels, side)
        grey = cv2.equalizeHist(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        boxes = self._get_cascade(_FACE_CASCADE).detectMultiScale(
            grey, scaleFactor=1.1, minNeighbors=5, minSize=(_SMALLEST_FACE, _SMALLEST_FACE)
        )
        return [self._make_face(grey, tuple(int(v) for v in box), back) for box in boxes]

    def _make_face(self, grey: MatLike, box: tuple[int, ...], back: Matrix) -> Face:
        x, y, width, height = box
        typical = (_LANDMARKS_IN_BOX * (width, height) + (x, y)).astype(np.float32)
        eyes = self._find_eyes(grey[y : y + height, x : x + width])
        if eyes is None:
            landmarks5 = typical
        else:
            # The errors of box and eye cascade are similar and independent, so their mean is better than
            # either: 0.059 of the interocular distance, against 0.064 and 0.067.
            seen = ((eyes * (width, height) + (x, y) + typical[:2]) / 2).astype(np.float32)
            landmarks5 = transform(similarity(typical[:2], seen), typical)
        corners = transform(back, np.array([[x, y], [x + width, y + height]], np.float32)).tolist()
        return Face(
            bbox=(*corners[0], *corners[1]),
            landmarks5=transform(back, landmarks5),
            score=_SCORE_WITHOUT if eyes is None else _SCORE_WITH_EYES,
            pose=None,
        )

    def _find_eyes(self, face: MatLike) -> Points | None:
        """Find both eyes in a face's box. Returns (2, 2) shares of its sides, or None."""
        box = cv2.resize(face, (_EYE_BOX_SIDE, _EYE_BOX_SIDE), interpolation=cv2.INTER_LINEAR)
        left, right = (self._find_eye(box, window) for window in _EYE_WINDOWS)
        # Reject two hits on one eye, and an eye with a brow.
        if left is None or right is None or right[0] - left[0] < 0.2 or abs(right[1] - left[1]) > 0.2:
            return None
        return np.array([left, right], np.float32)

    def _find_eye(self, box: MatLike, window: tuple[float, ...]) -> tuple[float, float] | None:
        x0, y0, x1, y1 = (round(v * _EYE_BOX_SIDE) for v in window)
        for cascade in _EYE_CASCADES:
            hits, _, levels = self._get_cascade(cascade).detectMultiScale3(
                box[y0:y1, x0:x1], scaleFactor=1.05, minNeighbors=3,
                minSize=(_SMALLEST_EYE, _SMALLEST_EYE), outputRejectLevels=True,
            )  # fmt: skip
            if len(hits):
                x, y, width, height = hits[int(np.argmax(levels))]
                return (x0 + x + width / 2) / _EYE_BOX_SIDE, (y0 + y + height / 2) / _EYE_BOX_SIDE
        return None

    def _get_cascade(self, name: str) -> cv2.CascadeClassifier:
        """Return this thread's cascade: cascades keep state while they run."""
        if not hasattr(self._local, "cascades"):
            self._local.cascades = {}
        cascades: dict[str, cv2.CascadeClassifier] = self._local.cascades
        if name not in cascades:
            cascades[name] = cv2.CascadeClassifier(str(_CASCADES / name))
        return cascades[name]
