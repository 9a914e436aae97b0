"""Pastes restored faces into their photo without a seam."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.restoration.align import AlignedFace
from gpen_backend.restoration.blend import Blend
from gpen_common.geometry import transform, warp
from gpen_common.types import Matrix, Pixels

# Faces are pasted in strips of at most this many px, so that a face as large as a 50-megapixel photo does not
# take gigabytes of floats.
_STRIP_PIXELS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Patch:
    """One restored face to paste. mask: (S, S) float32 in [0, 1], 0 at the crop's border."""

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


def paste_patches(image: Pixels, patches: Iterable[Patch]) -> Pixels:
    """Paste every patch. Where masks overlap, the larger value wins, so that faces never mix.

    image: (H, W, 3) uint8 RGB, not written to. Returns (H, W, 3) uint8 RGB, bit-equal to `image` outside all
    masks, and everywhere at opacity 0.
    """
    pasted = image.copy()
    height, width = image.shape[:2]
    # np.zeros allocates pages lazily, so regions without a face take no memory.
    highest = np.zeros((height, width), np.float32)
    for patch in patches:
        if not patch.mask.any() or not patch.blend.opacity:
            continue
        change = _change(patch)
        for strip in _strips(patch, width, height):
            _paste_strip(image, pasted, highest, patch, change, strip)
    return pasted


def _change(patch: Patch) -> NDArray[np.float32]:
    """The change that a patch makes to the photo, in crop pixels: (S, S, 3) float32 grey levels.

    This is the whole change at grain 1. `_paste_strip` subtracts the photo's share for a smaller grain.
    """
    face = patch.face.pixels.astype(np.float32)
    return cv2.scaleAdd(face, -patch.blend.grain, patch.blend.target)  # type: ignore[return-value]


def _paste_strip(
    image: Pixels,
    pasted: Pixels,
    highest: NDArray[np.float32],
    patch: Patch,
    change: NDArray[np.float32],
    strip: _Strip,
) -> None:
    """Write `patch` into `strip` of `pasted` where its mask exceeds `highest`, the maximum of earlier masks.

    Updates `highest`.
    """
    size = strip.right - strip.left, strip.bottom - strip.top
    matrix = _shift(patch.face.inverse_affine, -strip.left, -strip.top)
    mask = warp(patch.mask, matrix, size, cv2.BORDER_CONSTANT).clip(0, 1)
    wins = (mask > highest[strip.window]).view(np.uint8)
    if not wins.any():
        return
    under, over = image[strip.window], warp(change, matrix, size)
    if patch.blend.grain < 1:
        cv2.scaleAdd(under.astype(np.float32), patch.blend.grain - 1, over, dst=over)
    weight = np.float32(patch.blend.opacity) * mask
    cv2.multiply(over, cv2.merge([weight, weight, weight]), dst=over)
    cv2.copyTo(cv2.add(under, over, dtype=cv2.CV_8U), wins, pasted[strip.window])
    np.maximum(highest[strip.window], mask, out=highest[strip.window])


def _strips(patch: Patch, width: int, height: int) -> Iterator[_Strip]:
    """Split the part of a photo that a mask covers into strips of bounded size, from top to bottom."""
    side = patch.mask.shape[0]
    x, y, across, down = cv2.boundingRect((patch.mask > 0).view(np.uint8))
    # Resampling spreads a pixel by at most two pixels of the crop.
    box = np.array(
        [[x - 2, y - 2], [x + across + 1, y - 2], [x + across + 1, y + down + 1], [x - 2, y + down + 1]],
        np.float32,
    )
    corners = transform(patch.face.inverse_affine, box)
    left, top = (int(v) for v in np.clip(np.floor(corners.min(0)), 0, (width, height)))
    right, bottom = (int(v) for v in np.clip(np.ceil(corners.max(0)) + 1, 0, (width, height)))
    if right <= left:
        return
    # A shrinking crop is resampled in one strip: separate strips would round the scale differently.
    rows = max(1, max(_STRIP_PIXELS, 2 * side * side) // (right - left))
    for row in range(top, bottom, rows):
        yield _Strip(left, row, right, min(row + rows, bottom))


def _shift(matrix: Matrix, x: float, y: float) -> Matrix:
    """Return `matrix` (2, 3) followed by a shift of (x, y) px."""
    shifted = matrix.copy()
    shifted[:, 2] += x, y
    return shifted
