"""Warps the faces of a photo onto GPEN's reference template, as input of the network."""

from dataclasses import dataclass

import numpy as np

from gpen_common.geometry import DegenerateLandmarks, invert, scale_of, similarity, transform, warp
from gpen_common.types import Matrix, Pixels, Points

# Eye, eye, nose tip, mouth corner, mouth corner, in a frame 96 px wide and 112 px high.
# Source: the reference points of GPEN's align_faces.py, which stem from MTCNN.
_REFERENCE = (
    (30.29459953, 51.69630051),
    (65.53179932, 51.50139999),
    (48.02519989, 71.73660278),
    (33.54930115, 92.3655014),
    (62.72990036, 92.20410156),
)
# The same source widens this frame to a square of 112 px and pads it by a quarter of its side all around.
_OFFSET = (8 + 28, 28)
_SIDE = 168

# Minimum correlation with the template for a valid fit: 1 for a frontal face, above 0.7 for a profile, 0.2
# for a face whose left and right are swapped. Measured on the template itself.
_MIN_CORRELATION = 0.5
# A crop smaller than this in the photo is too small for a face, px.
_MIN_CROP = 8.0
# A crop this many times larger than the photo cannot show a face.
_MAX_CROP_RATIO = 8.0


@dataclass(frozen=True, slots=True)
class AlignedFace:
    """One face, aligned for the network.

    pixels: (S, S, 3) uint8 RGB. landmarks: (5, 2) float32, crop px.
    inverse_affine: (2, 3) float64, crop px -> photo px.
    """

    pixels: Pixels
    landmarks: Points
    inverse_affine: Matrix


def template(size: int) -> Points:
    """The positions where GPEN expects the five landmarks of a face.

    size: side of the crop, px. Returns (5, 2) float32, (x, y) px, in the order of landmarks5.
    """
    return ((np.array(_REFERENCE) + _OFFSET) * (size / _SIDE)).astype(np.float32)


def align(image: Pixels, landmarks5: Points, size: int) -> AlignedFace:
    """Warp one face onto the reference template.

    image: (H, W, 3) uint8 RGB. landmarks5: (5, 2) float32, (x, y) px. size: side of the crop, px.
    Raises DegenerateLandmarks if the points coincide, are not finite, are not arranged like a face, or if the
    crop misses the photo. Source: GPEN align_faces.py, Umeyama 1991.
    """
    target = template(size)
    affine = similarity(landmarks5, target)
    _require_face(affine, landmarks5, target, image.shape)
    return AlignedFace(warp(image, affine, (size, size)), transform(affine, landmarks5), invert(affine))


def align_faces(image: Pixels, landmarks: Points | None, size: int) -> tuple[AlignedFace, ...]:
    """Align every face of a photo, except those with degenerate landmarks.

    image: (H, W, 3) uint8 RGB. landmarks: (F, 5, 2) float32, (x, y) px, or None. size: side of a crop, px.
    """
    faces = []
    for landmarks5 in landmarks if landmarks is not None else ():
        try:
            faces.append(align(image, landmarks5, size))
        except DegenerateLandmarks:
            continue
    return tuple(faces)


def _require_face(affine: Matrix, landmarks5: Points, target: Points, shape: tuple[int, ...]) -> None:
    """Raise DegenerateLandmarks unless `affine` crops a plausible face from a photo of `shape`."""
    height, width = shape[:2]
    size = target.mean() * 2
    crop = size / max(scale_of(affine), np.finfo(np.float64).tiny)
    if not _MIN_CROP <= crop <= _MAX_CROP_RATIO * max(height, width):
        raise DegenerateLandmarks(f"a face cannot be {crop:.3g} px large in a photo of {width} x {height} px")
    residual = np.square(transform(affine, landmarks5) - target).sum()
    spread = np.square(target - target.mean(0)).sum()
    if residual > (1 - _MIN_CORRELATION**2) * spread:
        raise DegenerateLandmarks("landmarks are not arranged like those of a face")
    if not ((landmarks5 >= -crop).all() and (landmarks5 <= np.array([width, height]) + crop).all()):
        raise DegenerateLandmarks("landmarks lie outside the photo")
