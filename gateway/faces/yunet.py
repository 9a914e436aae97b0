"""Face finder with YuNet, OpenCV's small convolutional detector with five landmarks.

Source: Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector"; cv2.FaceDetectorYN.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.faces.face import Face, reduce, sort_best_first
from gateway.faces.pose import estimate_pose_from_5
from gpen_common.geometry import compose, transform
from gpen_common.types import Matrix, Pixels

# Longer sides of the copies to search, px. The network was trained on faces of 10 to 300 px: a small copy
# suits portraits, larger ones groups.
_SMALL, _MIDDLE, _LARGE = 320, 640, 1024
# On 138 real photos these thresholds keep every portrait and all 29 faces of a 1927 group photo, and reject
# patches of cloth and cheek, which a larger copy scores up to 0.77.
_SMALL_MIN_SCORE, _MIN_SCORE = 0.7, 0.8
# Faces with fewer px in a copy are searched again in a larger one. Typical and maximum error of the eyes, as
# shares of their distance, in 38 portraits at many sizes: 9 and 48 % in faces of 24 to 40 px, 7 and 20 % in
# faces of 48 px, 4 and 17 % in faces of 128 to 256 px.
_CLEAR_WIDTH = 48
_SMALLEST_FACE = 10
_NMS_THRESHOLD = 0.3
_MAX_FACES = 500


class YunetFinder:
    """Finds faces with the weights at `path`. Each thread has a detector, because OpenCV's keep state."""

    name = "yunet"

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._local = threading.local()
        self._get_detector()

    def find(self, pixels: Pixels) -> list[Face]:
        """Find the faces of `pixels` (H, W, 3) uint8 RGB, best first."""
        height, width = pixels.shape[:2]
        clear: list[Face] = []
        doubtful: list[Face] = []
        for number, (copy, back, min_score) in enumerate(_make_copies(pixels)):
            found = self._find_in(copy, back, min_score, (width, height))
            least = _CLEAR_WIDTH * width / copy.shape[1]
            clear += _select_new([face for face in found if face.bbox[2] - face.bbox[0] >= least], clear)
            # A face of the smaller copy that this copy does not confirm counts only if there is no other.
            doubtful = found or doubtful
            # The first copy is too small to show all faces, so search at least two.
            if number > 0 and clear and not _select_new(doubtful, clear):
                break
        return sort_best_first(clear + _select_new(doubtful, clear), width, height)

    def _find_in(self, copy: Pixels, back: Matrix, min_score: float, photo: tuple[int, int]) -> list[Face]:
        """Find the faces in a `copy` of a photo. back: its px -> photo px. photo: (width, height)."""
        if min(copy.shape[:2]) < _SMALLEST_FACE:
            return []
        detector = self._get_detector()
        detector.setInputSize((copy.shape[1], copy.shape[0]))
        detector.setScoreThreshold(min_score)
        _, rows = detector.detect(cv2.cvtColor(copy, cv2.COLOR_RGB2BGR))
        # Boxes of some patches overflow to infinity.
        finite = [] if rows is None else [row for row in rows if np.isfinite(row).all()]
        return [_make_face(row, back, *photo) for row in finite]

    def _get_detector(self) -> cv2.FaceDetectorYN:
        if not hasattr(self._local, "detector"):
            self._local.detector = cv2.FaceDetectorYN.create(
                self._path, "", (_SMALL, _SMALL), _SMALL_MIN_SCORE, _NMS_THRESHOLD, _MAX_FACES
            )
        detector: cv2.FaceDetectorYN = self._local.detector
        return detector


def _make_copies(pixels: Pixels) -> Iterator[tuple[Pixels, Matrix, float]]:
    """Yield copies of a photo to search, each with the map back to photo px and its minimum score."""
    middle, back = reduce(pixels, _MIDDLE)
    # Shrink the larger copy rather than the photo, which has many more pixels to average.
    small, to_middle = reduce(middle, _SMALL)
    yield small, compose(back, to_middle), _SMALL_MIN_SCORE
    if small is not middle:
        yield middle, back, _MIN_SCORE
    if middle is not pixels:
        yield *reduce(pixels, _LARGE), _MIN_SCORE


def _make_face(row: NDArray[np.float32], back: NDArray[np.float64], width: int, height: int) -> Face:
    """Convert a row of FaceDetectorYN: x, y, w, h, five points (its right eye is image-left), score."""
    corners = transform(back, np.array([[row[0], row[1]], [row[0] + row[2], row[1] + row[3]]]))
    landmarks5 = transform(back, row[4:14].reshape(5, 2))
    (x0, y0), (x1, y1) = corners.tolist()
    pose = estimate_pose_from_5(landmarks5, width, height)
    return Face(bbox=(x0, y0, x1, y1), landmarks5=landmarks5, score=float(row[14]), pose=pose)


def _select_new(found: list[Face], faces: list[Face]) -> list[Face]:
    """Return the faces of `found` that are not among `faces`."""
    return [face for face in found if not any(_is_same(face, other) for other in faces)]


def _is_same(face: Face, other: Face) -> bool:
    """Whether the centre of `face` lies in `other`: then it is the same face or a part of it."""
    x0, y0, x1, y1 = other.bbox
    x, y = (face.bbox[0] + face.bbox[2]) / 2, (face.bbox[1] + face.bbox[3]) / 2
    return x0 <= x <= x1 and y0 <= y <= y1
