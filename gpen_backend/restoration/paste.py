"""Restored faces, laid back into the photo they came from without a seam."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.restoration.align import AlignedFace
from gpen_backend.restoration.blend import Blend
from gpen_common.geometry import transform, warp
from gpen_common.types import Matrix, Pixels

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
        if not patch.mask.any() or not patch.blend.opacity:
            continue
        change = _change(patch)
        for strip in _strips(patch, width, height):
            _paste_strip(image, pasted, decided, patch, change, strip)
    return pasted


def _change(patch: Patch) -> NDArray[np.float32]:
    """What a patch adds to the photo, in its crop (S, S, 3) float32 grey levels, at grain 1.

    At less, the photo's share of that grain is yet to be taken out, which is done where it is pasted.
    """
    face = patch.face.pixels.astype(np.float32)
    return cv2.scaleAdd(face, -patch.blend.grain, patch.blend.target)  # type: ignore[return-value]


def _paste_strip(
    image: Pixels,
    pasted: Pixels,
    decided: NDArray[np.float32],
    patch: Patch,
    change: NDArray[np.float32],
    strip: _Strip,
) -> None:
    """Write into `pasted` the part of `patch` in `strip` that outweighs `decided`; update `decided`."""
    size = strip.right - strip.left, strip.bottom - strip.top
    matrix = _moved(patch.face.inverse_affine, -strip.left, -strip.top)
    mask = warp(patch.mask, matrix, size, cv2.BORDER_CONSTANT).clip(0, 1)
    wins = (mask > decided[strip.window]).view(np.uint8)
    if not wins.any():
        return
    under, over = image[strip.window], warp(change, matrix, size)
    if patch.blend.grain < 1:
        cv2.scaleAdd(under.astype(np.float32), patch.blend.grain - 1, over, dst=over)
    weight = np.float32(patch.blend.opacity) * mask
    cv2.multiply(over, cv2.merge([weight, weight, weight]), dst=over)
    cv2.copyTo(cv2.add(under, over, dtype=cv2.CV_8U), wins, pasted[strip.window])
    np.maximum(decided[strip.window], mask, out=decided[strip.window])


def _strips(patch: Patch, width: int, height: int) -> Iterator[_Strip]:
    """The part of a photo that a mask covers, from top to bottom in strips of bounded size."""
    side = patch.mask.shape[0]
    x, y, across, down = cv2.boundingRect((patch.mask > 0).view(np.uint8))
    # What a resampling smears lies within two pixels of the crop.
    box = np.array(
        [[x - 2, y - 2], [x + across + 1, y - 2], [x + across + 1, y + down + 1], [x - 2, y + down + 1]],
        np.float32,
    )
    corners = transform(patch.face.inverse_affine, box)
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
