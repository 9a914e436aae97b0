"""Measure what standardisation equalises: position, size and light of faces."""

from dataclasses import dataclass

import cv2
import numpy as np

from gateway.standardise.light import find_face_region, measure_light
from gateway.standardise.quality import estimate_noise
from gpen_common.types import Pixels, Points


@dataclass(frozen=True, slots=True)
class Place:
    """Position and size of a face. eye_x, eye_y: midpoint of the eyes as shares of width and height.
    scale: eye distance as a share of the shorter edge."""

    eye_x: float
    eye_y: float
    scale: float


@dataclass(frozen=True, slots=True)
class Tone:
    """The light of a face. exposure, contrast: mean and standard deviation of L, of 255. clipped: share of
    pixels, 0 to 1, with a channel at 0 or 255. noise: standard deviation in luma, of 255."""

    exposure: float
    contrast: float
    clipped: float
    noise: float


def measure_place(landmarks5: Points, width: int, height: int) -> Place:
    """Measure the place of the face `landmarks5` (5, 2) in a picture of `width` x `height` px."""
    # From pixel centres to the picture's edge.
    x, y = landmarks5[:2].mean(0) + 0.5
    across = float(np.hypot(*(landmarks5[1] - landmarks5[0])))
    return Place(float(x) / width, float(y) / height, across / min(width, height))


def measure_tone(pixels: Pixels, landmarks5: Points | None) -> Tone:
    """Measure the light of the face `landmarks5` (5, 2) in `pixels` (H, W, 3), or of all pixels if None."""
    region = find_face_region((pixels.shape[1], pixels.shape[0]), landmarks5)
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    face, inside = np.ascontiguousarray(pixels[box]), region[box]
    light = measure_light(cv2.cvtColor(face, cv2.COLOR_RGB2LAB)[..., 0], inside)
    ends = ((face == 0) | (face == 255)).any(2)
    noise = estimate_noise(cv2.cvtColor(face.astype(np.float32), cv2.COLOR_RGB2GRAY))
    return Tone(light.mean, light.spread, float(ends[inside].mean()), noise)
