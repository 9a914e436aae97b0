"""A face in a photo, and the protocol of face finders."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gpen_common.geometry import resize_matrix, shrink, transform
from gpen_common.types import Matrix, Pixels, Points


@dataclass(frozen=True, slots=True)
class Pose:
    """Rotation of a head, degrees. All zero is a head that looks straight into the camera.

    yaw: positive towards the left of the image. pitch: positive up. roll: positive clockwise in the image.
    """

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face, in upright photo pixels.

    bbox: (x0, y0, x1, y1). landmarks5: (5, 2) float32 (x, y): eye, eye, nose tip, mouth corner, mouth
    corner, each pair image-left first. score: the finder's confidence, 0 to 1. pose: None if the finder
    cannot measure it.
    """

    bbox: tuple[float, float, float, float]
    landmarks5: Points
    score: float
    pose: Pose | None

    @property
    def eye_centre(self) -> tuple[float, float]:
        """The point midway between the eyes, (x, y) px."""
        x, y = self.landmarks5[:2].mean(0)
        return float(x), float(y)

    @property
    def interocular(self) -> float:
        """Distance between the eyes' centres, px."""
        return float(np.hypot(*(self.landmarks5[1] - self.landmarks5[0])))

    def map_to(self, matrix: Matrix) -> "Face":
        """Map the face to the px of another image. matrix: (2, 3), px of this image -> px of that image."""
        (x0, y0), (x1, y1) = transform(matrix, np.array(self.bbox, np.float32).reshape(2, 2)).tolist()
        landmarks5 = transform(matrix, self.landmarks5)
        return Face(bbox=(x0, y0, x1, y1), landmarks5=landmarks5, score=self.score, pose=self.pose)


class FaceFinder(Protocol):
    """A detector of faces. Must be thread-safe."""

    @property
    def name(self) -> str:
        """`fan`, `yunet` or `haar`, for the report."""

    def find(self, pixels: Pixels) -> list[Face]:
        """Find the faces of `pixels` (H, W, 3) uint8 RGB, best first, in its px."""


def sort_best_first(faces: list[Face], width: int, height: int) -> list[Face]:
    """Sort `faces` by weight, the main face first. The order is independent of the order of `faces`.

    The weight is area times score, halved towards the corners of the `width` x `height` photo.
    """

    def weight(face: Face) -> float:
        x0, y0, x1, y1 = face.bbox
        off = np.hypot((x0 + x1) / width - 1, (y0 + y1) / height - 1) / np.sqrt(2)
        return float((x1 - x0) * (y1 - y0) * face.score * (1 - 0.5 * min(off, 1.0)))

    return sorted(faces, key=lambda face: (-weight(face), face.bbox))


def reduce(pixels: Pixels, side: int) -> tuple[Pixels, Matrix]:
    """Shrink `pixels` to a longer side of `side` px at most. Returns them and the (2, 3) map back."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer <= side:
        return pixels, resize_matrix((width, height), (width, height))
    return shrink(pixels, (max(1, round(width * side / longer)), max(1, round(height * side / longer))))
