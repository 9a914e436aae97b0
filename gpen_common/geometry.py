"""Similarity transforms and warps without aliasing.

Points are (x, y) pixels with the centre of the first pixel at (0, 0), as in OpenCV.
"""

from typing import TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_common.types import Matrix, Points

Image = TypeVar("Image", NDArray[np.uint8], NDArray[np.float32])

# Smallest variance (px², summed over both axes) of points: below it the orientation of a fit is noise, and a
# transform into so small an area has no usable inverse.
_MIN_VARIANCE = 1e-6
# float32 represents whole pixels up to here. No picture is as large, and larger numbers may overflow later.
_MAX_COORDINATE = 2.0**24
# Minimum side, px, above which losing one row or column is invisible.
_MANY = 256


class DegenerateLandmarks(ValueError):
    """No transform fits the points: they coincide, are mirrored or are not finite."""


def similarity(source: Points, target: Points) -> Matrix:
    """Fit the rotation, uniform scale and shift from `source` to `target` by least squares.

    source, target: (N, 2), N >= 2. Returns (2, 3) float64, source px -> target px.
    Raises DegenerateLandmarks. Source: Umeyama 1991, equations 38 to 43.
    """
    src, dst = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if not (np.abs(src) < _MAX_COORDINATE).all() or not (np.abs(dst) < _MAX_COORDINATE).all():
        raise DegenerateLandmarks(f"landmarks must be finite numbers below {_MAX_COORDINATE:.0f}")
    src_mean, dst_mean = src.mean(0), dst.mean(0)
    src_centred, dst_centred = src - src_mean, dst - dst_mean
    variance = (src_centred**2).sum() / len(src)
    if variance < _MIN_VARIANCE:
        raise DegenerateLandmarks("landmarks must not coincide")
    u, singular, vt = np.linalg.svd(dst_centred.T @ src_centred / len(src))
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = u @ np.diag(sign) @ vt
    scale = (singular * sign).sum() / variance
    if scale**2 * variance < _MIN_VARIANCE:
        raise DegenerateLandmarks("landmarks must not coincide or be mirrored")
    shift = dst_mean - scale * rotation @ src_mean
    return np.column_stack([scale * rotation, shift])


def invert(matrix: Matrix) -> Matrix:
    """Return the inverse map. matrix: (2, 3), invertible. Returns (2, 3) float64."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.column_stack([inverse, -inverse @ matrix[:, 2]])


def transform(matrix: Matrix, points: Points) -> Points:
    """Map `points` (..., 2) by `matrix` (2, 3). Returns the same shape, float32."""
    return (np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def scale_of(matrix: Matrix) -> float:
    """Return the factor by which a similarity transform `matrix` (2, 3) scales lengths."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def compose(second: Matrix, first: Matrix) -> Matrix:
    """Return the map that applies `first`, then `second`; (2, 3) each."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def resize_matrix(source: tuple[int, int], target: tuple[int, int]) -> Matrix:
    """Return the map from px of a picture of size `source` to px of it resized to `target`.

    source, target: (width, height), px. Returns (2, 3) float64.
    """
    x, y = target[0] / source[0], target[1] / source[1]
    # Half a pixel lies between the centre of a pixel and its edge, in both pictures.
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5]])


def shrink(image: Image, size: tuple[int, int]) -> tuple[Image, Matrix]:
    """Area-average `image` (H, W[, C]) to `size`; also return the map (2, 3) from its px to px of `image`.

    size: (width, height), px, no larger than the image's.
    """
    small, back = image, np.array([[1.0, 0, 0], [0, 1, 0]])
    # OpenCV halves ten times as fast as it shrinks by other factors. Drops an odd last row or column.
    while small.shape[1] >= 2 * size[0] and small.shape[0] >= 2 * size[1] and min(small.shape[:2]) > _MANY:
        half = small.shape[1] // 2, small.shape[0] // 2
        small = cast(
            Image, cv2.resize(small[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
        )
        back = compose(back, resize_matrix((1, 1), (2, 2)))
    back = compose(back, resize_matrix(size, (small.shape[1], small.shape[0])))
    return cast(Image, cv2.resize(small, size, interpolation=cv2.INTER_AREA)), back


def enlarge(image: Image, scale: int) -> Image:
    """Enlarge `image` (H, W[, C]) by a whole `scale` with Lanczos; return it unchanged at 1."""
    if scale == 1:
        return image
    size = image.shape[1] * scale, image.shape[0] * scale
    return cast(Image, cv2.resize(image, size, interpolation=cv2.INTER_LANCZOS4))


def warp(image: Image, matrix: Matrix, size: tuple[int, int], border: int = cv2.BORDER_REFLECT_101) -> Image:
    """Warp `image` by a similarity transform, without aliasing.

    image: (H, W) or (H, W, C), uint8 or float32. matrix: (2, 3), image px -> output px. size: (width,
    height) of the output, px. border: OpenCV's constant for pixels outside the image.
    Returns (height, width[, C]) of the same dtype.
    """
    image, matrix = _crop_to_output(image, matrix, size)
    if scale_of(matrix) < 1:
        image, matrix = _shrink_to_scale(image, matrix)
    return cast(Image, cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=border))


def _crop_to_output(image: Image, matrix: Matrix, size: tuple[int, int]) -> tuple[Image, Matrix]:
    """Crop `image` to the part that the output shows, so that a face's cost does not depend on the photo."""
    width, height = size
    edges = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    corners = transform(invert(matrix), edges)
    margin = 4 + 4 / scale_of(matrix)
    far = np.array([image.shape[1], image.shape[0]])
    low, high = corners.min(0) - margin, corners.max(0) + margin
    # Keep what the border mirrors: as far inside the edge as the output reaches beyond it.
    low, high = np.minimum(low, 2 * (far - 1) - high), np.maximum(high, -low)
    x0, y0 = np.clip(np.floor(low), 0, far - 1).astype(int)
    x1, y1 = np.clip(np.ceil(high), 1, far).astype(int)
    if x1 <= x0 or y1 <= y0:
        return image, matrix
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (x0, y0)
    return image[y0:y1, x0:x1], moved


def _shrink_to_scale(image: Image, matrix: Matrix) -> tuple[Image, Matrix]:
    """Area-average `image` to its final scale; also return the matrix that remains to be applied."""
    height, width = image.shape[:2]
    scale = scale_of(matrix)
    small, back = shrink(image, (max(1, round(width * scale)), max(1, round(height * scale))))
    return small, compose(matrix, back)
