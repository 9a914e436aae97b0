"""Face finder with 68 landmarks: face-alignment's FAN, on the boxes that YuNet finds.

Source: Bulat & Tzimiropoulos 2017, "How far are we from solving the 2D & 3D Face Alignment problem?".
"""

import threading
from pathlib import Path

import numpy as np

from gateway.faces.face import Face, reduce, sort_best_first
from gateway.faces.pose import estimate_pose_from_68
from gateway.faces.yunet import YunetFinder
from gpen_common.geometry import transform
from gpen_common.types import Pixels, Points

# FAN's input is 256 px a face: at this size of the photo the main face loses no detail that FAN could use.
_SIDE = 1536


class FanFinder:
    """Finds faces with YuNet, and 68 landmarks in each with FAN.

    yunet: path of YuNet's weights. FAN's weights are read from the folder of torch.hub. A lock serialises
    calls of the network, which is shared by all threads.
    """

    name = "fan"

    def __init__(self, yunet: Path) -> None:
        # Imported lazily: the import takes a second and 300 MB.
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
        small, back = reduce(pixels, _SIDE)
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
            pose = estimate_pose_from_68(landmarks68, width, height)
            faces.append(Face((x0, y0, x1, y1), select_landmarks5(landmarks68), face.score, pose))
        return sort_best_first(faces, width, height)


def select_landmarks5(landmarks68: Points) -> Points:
    """Reduce the 68-point scheme (68, 2) to eye centres, nose tip and mouth corners (5, 2).

    Source: the iBUG 300-W annotation: eyes 36 to 41 and 42 to 47, nose tip 30, mouth corners 48 and 54.
    """
    left, right = landmarks68[36:42].mean(0), landmarks68[42:48].mean(0)
    return np.array([left, right, landmarks68[30], landmarks68[48], landmarks68[54]], np.float32)
