"""Faces by face-alignment's 68-point FAN, on the boxes that YuNet finds.

Source: Bulat & Tzimiropoulos 2017, "How far are we from solving the 2D & 3D Face Alignment problem?".
"""

import threading
from pathlib import Path

import numpy as np

from gateway.faces.face import Face, best_first, reduced
from gateway.faces.pose import pose_from_68
from gateway.faces.yunet import YunetFinder
from gpen_common.geometry import transform
from gpen_common.types import Pixels, Points

# FAN sees each face at 256 px: a photo this large loses nothing that it could use of the main face.
_SIDE = 1536


class FanFinder:
    """Finds faces with YuNet's weights at `yunet` and 68 points in each with FAN's, where torch.hub has them.

    The network is shared, so a lock lets one thread through at a time.
    """

    name = "fan"

    def __init__(self, yunet: Path) -> None:
        # These two take a second and 300 MB to import: only who uses FAN pays.
        from face_alignment import FaceAlignment, LandmarksType

        self._boxes = YunetFinder(yunet)
        self._lock = threading.Lock()
        self._network = FaceAlignment(
            LandmarksType.TWO_D,
            device="cpu",
            compile=False,
            face_detector="yunet",
            face_detector_kwargs={"path_to_detector": str(yunet)},
        )

    def find(self, pixels: Pixels) -> list[Face]:
        """The faces of `pixels` (H, W, 3) uint8 RGB, best first, each with its pose."""
        small, back = reduced(pixels, _SIDE)
        boxed = self._boxes.find(small)
        if not boxed:
            return []
        boxes = [[*face.bbox, face.score] for face in boxed]
        with self._lock:
            all_points = self._network.get_landmarks_from_image(small, detected_faces=boxes)
        height, width = pixels.shape[:2]
        faces = []
        for face, points in zip(boxed, all_points, strict=True):
            landmarks68 = transform(back, points)
            (x0, y0), (x1, y1) = transform(back, np.array(face.bbox, np.float32).reshape(2, 2)).tolist()
            pose = pose_from_68(landmarks68, width, height)
            faces.append(Face((x0, y0, x1, y1), landmarks5_of(landmarks68), face.score, pose))
        return best_first(faces, width, height)


def landmarks5_of(landmarks68: Points) -> Points:
    """Eye centres, nose tip and mouth corners (5, 2) of the 68-point scheme (68, 2).

    Source: the iBUG 300-W annotation: 36 to 41 and 42 to 47 the eyes, 30 the nose tip, 48 and 54 the corners.
    """
    left, right = landmarks68[36:42].mean(0), landmarks68[42:48].mean(0)
    return np.array([left, right, landmarks68[30], landmarks68[48], landmarks68[54]], np.float32)
