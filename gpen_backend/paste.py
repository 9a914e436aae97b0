"""Restored faces, laid back into the photo they came from without a seam."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.align import AlignedFace
from gpen_backend.blend import Blend
from gpen_client.geometry import transform, warp
from gpen_client.types import Matrix, Pixels

# Faces are pasted in strips of at most this many px, so that a face as large as a 50-megapixel photo costs
# no gigabytes of floats.
_STRIP_PIXELS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Patch:
    """One restored face on its way back. mask: (S, S) float32 in [0, 1], 0 on the crop's border."""

    face: AlignedFace
    blend: Blend
    mask: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Strip:
    """Rows [top, bottom) and columns [left, right) of the photo."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


def paste(image: Pixels, patches: Iterable[Patch]) -> Pixels:
    """Lay every patch over the photo. Where masks overlap, the larger one decides, so faces never mix.

    image: (H, W, 3) uint8 RGB; it is not written to. Returns (H, W, 3) uint8 RGB, bit-equal to `image`
    outside every mask and everywhere at opacity 0.
    """
    pasted = image.copy()
    height, width = image.shape[:2]
    # np.zeros maps no memory where no face lies.
    decided = np.zeros((height, width), np.float32)
    for patch in patches:
        for strip in _strips(patch.face, width, height):
            _paste_strip(image, pasted, decided, patch, strip)
    return pasted


def _paste_strip(
    image: Pixels, pasted: Pixels, decided: NDArray[np.float32], patch: Patch, strip: _Strip
) -> None:
    """Write into `pasted` the part of `patch` in `strip` that outweighs `decided`; update `decided`."""
    size = strip.right - strip.left, strip.bottom - strip.top
    matrix = _moved(patch.face.inverse_affine, -strip.left, -strip.top)
    mask = warp(patch.mask, matrix, size, cv2.BORDER_CONSTANT).clip(0, 1)
    wins = mask > decided[strip.window]
    if not wins.any():
        return
    under = image[strip.window].astype(np.float32)
    change = warp(patch.blend.target, matrix, size) - under
    if patch.blend.grain:
        change += patch.blend.grain * (under - warp(patch.face.pixels.astype(np.float32), matrix, size))
    mixed = under + (patch.blend.opacity * mask)[..., None] * change
    pasted[strip.window][wins] = np.rint(mixed).clip(0, 255).astype(np.uint8)[wins]
    decided[strip.window][wins] = mask[wins]


def _strips(face: AlignedFace, width: int, height: int) -> Iterator[_Strip]:
    """The part of a photo that a crop covers, from top to bottom in strips of bounded size."""
    side = face.pixels.shape[0]
    corners = transform(
        face.inverse_affine, np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    )
    left, top = (int(v) for v in np.clip(np.floor(corners.min(0)), 0, (width, height)))
    right, bottom = (int(v) for v in np.clip(np.ceil(corners.max(0)) + 1, 0, (width, height)))
    if right <= left:
        return
    # A crop that shrinks is resampled whole: strips of it would each round their own scale.
    rows = max(1, max(_STRIP_PIXELS, 2 * side * side) // (right - left))
    for row in range(top, bottom, rows):
        yield _Strip(left, row, right, min(row + rows, bottom))


def _moved(matrix: Matrix, x: float, y: float) -> Matrix:
    """`matrix` (2, 3) followed by a shift of (x, y) px."""
    moved = matrix.copy()
    moved[:, 2] += x, y
    return moved
