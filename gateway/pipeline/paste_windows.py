"""Restored windows back into their photo, at its own tone, without a seam.

What the network changed is what is put back: a window's restored pixels less those that were sent. The light
that was corrected for the model stands in both and falls out; where nothing was restored nothing is changed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.standardise.window import FaceWindow
from gpen_common.geometry import enlarge, resize_matrix
from gpen_common.types import Pixels

# Contrast that was raised for the model is compared over this share of the distance between the eyes, and
# taken back within these bounds: beyond them flat skin would decide.
_CONTRAST_REACH = 0.35
_CONTRAST_BOUNDS = (0.5, 4.0)
# Two neighbouring faces meet over this difference of their distances, in distances between the eyes.
_BORDER_REACH = 0.25
# Changes are laid in strips of at most this many px, so that a face as large as a 50-megapixel photo costs no
# gigabyte of floats.
_STRIP_PIXELS = 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class RestoredWindow:
    """A window and what came back. pixels: as large as `window.pixels`, times the photo's upscale."""

    window: FaceWindow
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class _Strip:
    """Columns [x0, x1) and rows [y0, y1), px."""

    x0: int
    y0: int
    x1: int
    y1: int


def compose_photo(pixels: Pixels, restored: Sequence[RestoredWindow], upscale: int) -> Pixels:
    """The photo `pixels` (H, W, 3), larger by `upscale`, with every restored window in its place.

    Pixels that no restoration changed are those of the (enlarged) photo, bit by bit. Where windows overlap,
    each pixel follows the face that is nearer, in distances between the eyes.
    """
    photo = enlarge(pixels, upscale)
    if photo is pixels:
        photo = pixels.copy()
    for one in restored:
        change = _change(one, upscale)
        rivals = [other.window for other in restored if other is not one and _overlap(one, other)]
        box = _Strip(*(side * upscale for side in one.window.box))
        for strip in _strips(box, 1 + len(rivals)):
            part = _part(change, box, strip)
            if not part.any():
                continue
            if rivals:
                part *= _share(one.window, rivals, strip, upscale)[..., np.newaxis]
            _add(photo, strip, part)
    return photo


def _change(one: RestoredWindow, upscale: int) -> NDArray[np.float32]:
    """What the restoration changed, at the photo's tone and the window's scale: (H, W, 3) float32."""
    window = one.window
    sent = enlarge(window.pixels, upscale)
    change = np.asarray(cv2.subtract(one.pixels, sent, dtype=cv2.CV_32F), np.float32)
    if window.light_plan.changes:
        change /= enlarge(_measure_raised_contrast(window), upscale)[..., np.newaxis]
    return change


def _strips(box: _Strip, planes: int) -> Iterator[_Strip]:
    """`box` from top to bottom, in parts of which `planes` together are of bounded size."""
    rows = max(1, _STRIP_PIXELS // planes // (box.x1 - box.x0))
    for top in range(box.y0, box.y1, rows):
        yield _Strip(box.x0, top, box.x1, min(top + rows, box.y1))


def _part(change: NDArray[np.float32], box: _Strip, strip: _Strip) -> NDArray[np.float32]:
    """The rows of `change` that lie in `strip`, at the scale of `box`; they may be written to."""
    size = box.x1 - box.x0, box.y1 - box.y0
    if change.shape[1::-1] == size:
        return change[strip.y0 - box.y0 : strip.y1 - box.y0]
    matrix = resize_matrix((change.shape[1], change.shape[0]), size)
    matrix[1, 2] -= strip.y0 - box.y0
    part = cv2.warpAffine(
        change,
        matrix,
        (size[0], strip.y1 - strip.y0),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(part, np.float32)


def _measure_raised_contrast(window: FaceWindow) -> NDArray[np.float32]:
    """By how much the light correction raised local contrast in the window: (H, W) float32."""
    reach = max(_CONTRAST_REACH * float(np.hypot(*(window.landmarks[0, 1] - window.landmarks[0, 0]))), 1.0)
    # A level of contrast that everything has keeps flat areas near 1.
    before, after = (_local_spread(p, reach) + 1.0 for p in (window.source, window.pixels))
    return np.clip(after / before, *_CONTRAST_BOUNDS).astype(np.float32)


def _local_spread(pixels: Pixels, reach: float) -> NDArray[np.float32]:
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = 2 * round(reach) + 1
    mean, square = (np.asarray(cv2.blur(v, (side, side)), np.float32) for v in (luma, luma * luma))
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)), np.float32)


def _share(window: FaceWindow, rivals: list[FaceWindow], strip: _Strip, upscale: int) -> NDArray[np.float32]:
    """How far each pixel of `strip` belongs to the window's face: (height, width) float32 in [0, 1].

    The shares of all faces make 1.
    """
    y = ((np.arange(strip.y0, strip.y1, dtype=np.float32) + 0.5) / upscale - 0.5)[:, np.newaxis]
    x = (np.arange(strip.x0, strip.x1, dtype=np.float32) + 0.5) / upscale - 0.5

    def distance(other: FaceWindow) -> NDArray[np.float32]:
        centre_x, centre_y = other.face.landmarks5.mean(0)
        far = np.hypot(x - centre_x, y - centre_y) / np.float32(max(other.face.interocular, 1e-3))
        return np.asarray(far, np.float32)

    distances = [distance(one) for one in (window, *rivals)]
    nearest = second = np.full_like(distances[0], np.inf)
    for far in distances:
        second = np.minimum(second, np.maximum(nearest, far))
        nearest = np.minimum(nearest, far)

    def claim(far: NDArray[np.float32]) -> NDArray[np.float32]:
        lead = np.where(far == nearest, second, nearest) - far
        return np.asarray((lead / np.float32(_BORDER_REACH) + np.float32(0.5)).clip(0, 1), np.float32)

    claims = [claim(far) for far in distances]
    return np.asarray(claims[0] / np.sum(claims, axis=0), np.float32)


def _add(photo: Pixels, strip: _Strip, change: NDArray[np.float32]) -> None:
    """Adds `change` to `strip` of `photo`, in place; what rounds to nothing leaves the pixels as they are."""
    part = photo[strip.y0 : strip.y1, strip.x0 : strip.x1]
    cv2.add(part, change, dst=part, dtype=cv2.CV_8U)


def _overlap(one: RestoredWindow, other: RestoredWindow) -> bool:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = one.window.box, other.window.box
    return ax0 < bx1 and bx0 < ax1 and ay0 < by1 and by0 < ay1
