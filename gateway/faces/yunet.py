"""Faces by YuNet, OpenCV's small convolutional detector with five landmarks.

Source: Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector"; cv2.FaceDetectorYN.
"""

import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.faces.face import Face, best_first, reduced
from gateway.faces.pose import pose_from_5
from gpen_client.geometry import compose, transform
from gpen_client.types import Matrix, Pixels

# The network was trained on faces of 10 to 300 px: a small copy sees the portraits, a larger one the groups.
_SMALL, _LARGE = 320, 1024
# On 137 real photos these thresholds keep every portrait and all 29 faces of a 1927 group, and no patch of
# cloth or cheek that the large copy scores up to 0.77.
_SMALL_MIN_SCORE, _LARGE_MIN_SCORE = 0.7, 0.8
_SMALLEST_FACE = 10
_NMS_THRESHOLD = 0.3
_MAX_FACES = 500


class YunetFinder:
    """Finds faces with the weights file at `path`; one detector per thread, for OpenCV's keep state."""

    name = "yunet"

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._own = threading.local()
        self._detector()

    def find(self, pixels: Pixels) -> list[Face]:
        """The faces of `pixels` (H, W, 3) uint8 RGB, best first."""
        height, width = pixels.shape[:2]
        large, back = reduced(pixels, _LARGE)
        # From the larger copy: a photo has many more pixels to average.
        small, to_large = reduced(large, _SMALL)
        faces = self._find_in(small, compose(back, to_large), _SMALL_MIN_SCORE, (width, height))
        if small is not large:
            found = self._find_in(large, back, _LARGE_MIN_SCORE, (width, height))
            faces += [face for face in found if not any(_same(face, other) for other in faces)]
        return best_first(faces, width, height)

    def _find_in(self, copy: Pixels, back: Matrix, min_score: float, photo: tuple[int, int]) -> list[Face]:
        """The faces of a photo's `copy`. back: its px -> photo px. photo: (width, height)."""
        if min(copy.shape[:2]) < _SMALLEST_FACE:
            return []
        detector = self._detector()
        detector.setInputSize((copy.shape[1], copy.shape[0]))
        detector.setScoreThreshold(min_score)
        _, rows = detector.detect(cv2.cvtColor(copy, cv2.COLOR_RGB2BGR))
        return [] if rows is None else [_face(row, back, *photo) for row in rows]

    def _detector(self) -> cv2.FaceDetectorYN:
        if not hasattr(self._own, "detector"):
            self._own.detector = cv2.FaceDetectorYN.create(
                self._path, "", (_SMALL, _SMALL), _SMALL_MIN_SCORE, _NMS_THRESHOLD, _MAX_FACES
            )
        detector: cv2.FaceDetectorYN = self._own.detector
        return detector


def _face(row: NDArray[np.float32], back: NDArray[np.float64], width: int, height: int) -> Face:
    """One row of FaceDetectorYN: x, y, w, h, five points, score; its right eye is the image-left one."""
    corners = transform(back, np.array([[row[0], row[1]], [row[0] + row[2], row[1] + row[3]]]))
    landmarks5 = transform(back, row[4:14].reshape(5, 2))
    (x0, y0), (x1, y1) = corners.tolist()
    pose = pose_from_5(landmarks5, width, height)
    return Face(bbox=(x0, y0, x1, y1), landmarks5=landmarks5, score=float(row[14]), pose=pose)


def _same(face: Face, other: Face) -> bool:
    """Whether the middle of `face` lies in `other`: then it is the same face, or a part of it."""
    x0, y0, x1, y1 = other.bbox
    x, y = (face.bbox[0] + face.bbox[2]) / 2, (face.bbox[1] + face.bbox[3]) / 2
    return x0 <= x <= x1 and y0 <= y <= y1
