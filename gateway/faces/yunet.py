"""Faces by YuNet, OpenCV's small convolutional detector with five landmarks.

Source: Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector"; cv2.FaceDetectorYN.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.faces.face import Face, best_first, reduced
from gateway.faces.pose import pose_from_5
from gpen_common.geometry import compose, transform
from gpen_common.types import Matrix, Pixels

# The network was trained on faces of 10 to 300 px: a small copy sees the portraits, larger ones the groups.
_SMALL, _MIDDLE, _LARGE = 320, 640, 1024
# On 138 real photos these thresholds keep every portrait and all 29 faces of a 1927 group, and no patch of
# cloth or cheek that a larger copy scores up to 0.77.
_SMALL_MIN_SCORE, _MIN_SCORE = 0.7, 0.8
# A face is worth a look at a larger copy while it has fewer px there: of 38 portraits at many sizes the eyes
# were misplaced by 9 % of their distance, and by 48 % at worst, in faces of 24 to 40 px; by 7 and 20 % in
# faces of 48; and by 4 and 17 % in faces of 128 to 256.
_CLEAR_WIDTH = 48
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
        clear: list[Face] = []
        doubtful: list[Face] = []
        for number, (copy, back, min_score) in enumerate(_copies(pixels)):
            found = self._find_in(copy, back, min_score, (width, height))
            least = _CLEAR_WIDTH * width / copy.shape[1]
            clear += _new([face for face in found if face.bbox[2] - face.bbox[0] >= least], clear)
            # What a smaller copy took for a face and this one does not is none, unless there is no other.
            doubtful = found or doubtful
            # The first copy is too small to tell whether there are others.
            if number > 0 and clear and not _new(doubtful, clear):
                break
        return best_first(clear + _new(doubtful, clear), width, height)

    def _find_in(self, copy: Pixels, back: Matrix, min_score: float, photo: tuple[int, int]) -> list[Face]:
        """The faces of a photo's `copy`. back: its px -> photo px. photo: (width, height)."""
        if min(copy.shape[:2]) < _SMALLEST_FACE:
            return []
        detector = self._detector()
        detector.setInputSize((copy.shape[1], copy.shape[0]))
        detector.setScoreThreshold(min_score)
        _, rows = detector.detect(cv2.cvtColor(copy, cv2.COLOR_RGB2BGR))
        # Of some patches its boxes overflow.
        return [] if rows is None else [_face(row, back, *photo) for row in rows if np.isfinite(row).all()]

    def _detector(self) -> cv2.FaceDetectorYN:
        if not hasattr(self._own, "detector"):
            self._own.detector = cv2.FaceDetectorYN.create(
                self._path, "", (_SMALL, _SMALL), _SMALL_MIN_SCORE, _NMS_THRESHOLD, _MAX_FACES
            )
        detector: cv2.FaceDetectorYN = self._own.detector
        return detector


def _copies(pixels: Pixels) -> Iterator[tuple[Pixels, Matrix, float]]:
    """Every copy of a photo worth looking at, with the matrix back to its px and the score that counts."""
    middle, back = reduced(pixels, _MIDDLE)
    # From the larger copy: a photo has many more pixels to average.
    small, to_middle = reduced(middle, _SMALL)
    yield small, compose(back, to_middle), _SMALL_MIN_SCORE
    if small is not middle:
        yield middle, back, _MIN_SCORE
    if middle is not pixels:
        yield *reduced(pixels, _LARGE), _MIN_SCORE


def _face(row: NDArray[np.float32], back: NDArray[np.float64], width: int, height: int) -> Face:
    """One row of FaceDetectorYN: x, y, w, h, five points, score; its right eye is the image-left one."""
    corners = transform(back, np.array([[row[0], row[1]], [row[0] + row[2], row[1] + row[3]]]))
    landmarks5 = transform(back, row[4:14].reshape(5, 2))
    (x0, y0), (x1, y1) = corners.tolist()
    pose = pose_from_5(landmarks5, width, height)
    return Face(bbox=(x0, y0, x1, y1), landmarks5=landmarks5, score=float(row[14]), pose=pose)


def _new(found: list[Face], faces: list[Face]) -> list[Face]:
    """Those of `found` that are none of `faces`."""
    return [face for face in found if not any(_same(face, other) for other in faces)]


def _same(face: Face, other: Face) -> bool:
    """Whether the middle of `face` lies in `other`: then it is the same face, or a part of it."""
    x0, y0, x1, y1 = other.bbox
    x, y = (face.bbox[0] + face.bbox[2]) / 2, (face.bbox[1] + face.bbox[3]) / 2
    return x0 <= x <= x1 and y0 <= y <= y1
