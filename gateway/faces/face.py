"""One face in a photo, and what finds it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gpen_common.geometry import resize_matrix, shrink, transform
from gpen_common.types import Matrix, Pixels, Points


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a head is turned, degrees; all zero looks straight into the camera.

    yaw: positive to the picture's left. pitch: positive up. roll: positive clockwise as seen.
    """

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face, in upright photo pixels.

    bbox: (x0, y0, x1, y1). landmarks5: (5, 2) float32 (x, y): eye, eye, nose tip, mouth corner, mouth
    corner, each pair image-left first. score: the finder's confidence, 0 to 1. pose: None where the finder
    does not see enough of the face to tell.
    """

    bbox: tuple[float, float, float, float]
    landmarks5: Points
    score: float
    pose: Pose | None

    @property
    def eye_centre(self) -> tuple[float, float]:
        """The middle between the eyes, (x, y) px."""
        x, y = self.landmarks5[:2].mean(0)
        return float(x), float(y)

    @property
    def interocular(self) -> float:
        """Distance between the eyes' centres, px."""
        return float(np.hypot(*(self.landmarks5[1] - self.landmarks5[0])))

    def mapped(self, matrix: Matrix) -> "Face":
        """The face in the px of another picture. matrix: (2, 3), from this picture's px to that one's."""
        (x0, y0), (x1, y1) = transform(matrix, np.array(self.bbox, np.float32).reshape(2, 2)).tolist()
        landmarks5 = transform(matrix, self.landmarks5)
        return Face(bbox=(x0, y0, x1, y1), landmarks5=landmarks5, score=self.score, pose=self.pose)


class FaceFinder(Protocol):
    """Finds the faces of a photo. Instances are called from many threads at once."""

    @property
    def name(self) -> str:
        """`fan`, `yunet` or `haar`; the report tells it."""

    def find(self, pixels: Pixels) -> list[Face]:
        """The faces of `pixels` (H, W, 3) uint8 RGB, best first, in its pixels; empty where there is none."""


def best_first(faces: list[Face], width: int, height: int) -> list[Face]:
    """`faces` with the one a portrait should be centred on first; the same faces always in the same order.

    A face weighs its area times its score, less up to half of that towards the corners of the
    `width` x `height` photo.
    """

    def weight(face: Face) -> float:
        x0, y0, x1, y1 = face.bbox
        off = np.hypot((x0 + x1) / width - 1, (y0 + y1) / height - 1) / np.sqrt(2)
        return float((x1 - x0) * (y1 - y0) * face.score * (1 - 0.5 * min(off, 1.0)))

    return sorted(faces, key=lambda face: (-weight(face), face.bbox))


def reduced(pixels: Pixels, side: int) -> tuple[Pixels, Matrix]:
    """A copy of `pixels` whose longer side is at most `side` px, and the (2, 3) matrix back to the photo."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer <= side:
        return pixels, resize_matrix((width, height), (width, height))
    return shrink(pixels, (max(1, round(width * side / longer)), max(1, round(height * side / longer))))
