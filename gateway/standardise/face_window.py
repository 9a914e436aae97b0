"""Cut one window per face of a whole photo, and correct its light for the network only."""

from dataclasses import dataclass

import cv2
import numpy as np

from gateway.faces import Face
from gateway.params import PreprocessParams
from gateway.standardise.light import Light, LightPlan, find_face_region
from gateway.standardise.light_correction import correct_light
from gateway.standardise.quality import Quality, measure_quality
from gpen_common.geometry import compose, resize_matrix, transform
from gpen_common.types import Matrix, Pixels, Points

# GPEN's template at 512 px has 107.4 px between the eyes and 124.1 px from the eyes to the mouth; its crop is
# 512 px wide. The window is a fifth larger than the crop, for hair and the soft edge of the mask.
_TEMPLATE_SIDE, _TEMPLATE_EYES, _TEMPLATE_EYES_TO_MOUTH = 512.0, 107.4, 124.1
_MARGIN = 1.2
# Distance of the crop's centre below the eyes, as a share of its side.
_BELOW_EYES = 13.4 / _TEMPLATE_SIDE
# Maximum side of a window, in sides of the network's input.
_MAX_INFERENCE_SIDES = 1.75


@dataclass(frozen=True, slots=True, eq=False)
class FaceWindow:
    """The part of a photo that one face's restoration reads and replaces.

    face: in photo px. box: (x0, y0, x1, y1), whole photo px. source: the pixels of the box, shrunk if the box
    is larger than the network can use. pixels: `source` after light correction, sent to the backend. matrix:
    (2, 3), photo px -> window px. The other fields are as in `Portrait`.
    """

    face: Face
    box: tuple[int, int, int, int]
    source: Pixels
    pixels: Pixels
    matrix: Matrix
    light_before: Light
    light_after: Light
    light_plan: LightPlan
    quality: Quality

    @property
    def landmarks(self) -> Points:
        """The face's landmarks in window px: (1, 5, 2) float32."""
        return transform(self.matrix, self.face.landmarks5)[np.newaxis]


def cut_window(
    pixels: Pixels, face: Face, inference_size: int | None, params: PreprocessParams
) -> FaceWindow:
    """Cut the window of `face` from a photo `pixels` (H, W, 3), for a network of `inference_size` px."""
    box = find_window_box(face.landmarks5, pixels.shape[1], pixels.shape[0])
    x0, y0, x1, y1 = box
    matrix = np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0]])
    source = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    max_side = _MAX_INFERENCE_SIDES * (inference_size or _TEMPLATE_SIDE)
    if max(x1 - x0, y1 - y0) > max_side:
        scale = max_side / max(x1 - x0, y1 - y0)
        size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
        source = np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = compose(resize_matrix((x1 - x0, y1 - y0), size), matrix)
    quality = measure_quality(pixels, face.landmarks5)
    region = find_face_region((source.shape[1], source.shape[0]), transform(matrix, face.landmarks5))
    corrected, before, after, plan = correct_light(
        source, region, quality.noise_sigma, params.exposure, params.clahe
    )
    return FaceWindow(face, box, source, corrected, matrix, before, after, plan, quality)


def find_window_box(landmarks5: Points, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the box (x0, y0, x1, y1), whole px of a `width` x `height` photo, around the network's crop."""
    eyes, mouth = landmarks5[:2].mean(0), landmarks5[3:].mean(0)
    across, down = landmarks5[1] - landmarks5[0], mouth - eyes
    # Yaw shortens the one and pitch the other, so the larger gives the scale.
    scale = max(np.hypot(*across) / _TEMPLATE_EYES, np.hypot(*down) / _TEMPLATE_EYES_TO_MOUTH)
    side = scale * _TEMPLATE_SIDE
    length = max(float(np.hypot(*down)), 1e-6)
    x, y = eyes + down / length * side * _BELOW_EYES
    roll = np.arctan2(across[1], across[0])
    # The crop is rolled with the head, so its upright bounding square is larger.
    reach = side / 2 * max(_MARGIN, 1.05 * (abs(np.cos(roll)) + abs(np.sin(roll))))
    x0, y0 = max(int(x - reach), 0), max(int(y - reach), 0)
    x1, y1 = min(int(np.ceil(x + reach)) + 1, width), min(int(np.ceil(y + reach)) + 1, height)
    return min(x0, width - 1), min(y0, height - 1), max(x1, 1), max(y1, 1)
