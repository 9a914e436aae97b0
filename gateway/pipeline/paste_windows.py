"""Paste restored windows into their photo, in the photo's own tone, without a seam.

The change that the network made is added to the photo: restored pixels minus sent pixels. The light
correction for the model is part of both and cancels out. Pixels that the network did not change stay as they
are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.standardise.face_window import FaceWindow
from gpen_common.geometry import enlarge, resize_matrix
from gpen_common.types import Pixels

# Local contrast that was raised for the model is measured over this share of the distance between the eyes,
# and lowered again within these bounds. Outside them flat skin would determine the factor.
_CONTRAST_REACH = 0.35
_CONTRAST_BOUNDS = (0.5, 4.0)
# Width of the transition between two neighbouring faces, in distances between the eyes.
_BORDER_REACH = 0.25
# Changes are added in strips of at most this many px: a face that fills a 50-megapixel photo would otherwise
# need a gigabyte of floats.
_STRIP_PIXELS = 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class RestoredWindow:
    """A window and its restored pixels, as large as `window.pixels` times the photo's upscale."""

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
    """Return the photo `pixels` (H, W, 3), enlarged by `upscale`, with every restored window pasted.

    Pixels that no restoration changed equal those of the (enlarged) photo bit by bit. Where windows overlap,
    each pixel follows the nearer face, measured in its distance between the eyes.
    """
    photo = enlarge(pixels, upscale)
    if photo is pixels:
        photo = pixels.copy()
    for one in restored:
        change = _compute_change(one, upscale)
        rivals = [other.window for other in restored if other is not one and _overlap(one, other)]
        box = _Strip(*(side * upscale for side in one.window.box))
        for strip in _split(box, 1 + len(rivals)):
            part = _cut_part(change, box, strip)
            if not part.any():
                continue
            if rivals:
                part *= _compute_share(one.window, rivals, strip, upscale)[..., np.newaxis]
            _add(photo, strip, part)
    return photo


def _compute_change(one: RestoredWindow, upscale: int) -> NDArray[np.float32]:
    """Return the change of the restoration, in the photo's tone at the window's scale: (H, W, 3) float32."""
    window = one.window
    sent = enlarge(window.pixels, upscale)
    change = np.asarray(cv2.subtract(one.pixels, sent, dtype=cv2.CV_32F), np.float32)
    if window.light_plan.changes:
        change /= enlarge(_measure_raised_contrast(window), upscale)[..., np.newaxis]
    return change


def _split(box: _Strip, planes: int) -> Iterator[_Strip]:
    """Split `box` into strips, so that `planes` of them together stay within the limit."""
    rows = max(1, _STRIP_PIXELS // planes // (box.x1 - box.x0))
    for top in range(box.y0, box.y1, rows):
        yield _Strip(box.x0, top, box.x1, min(top + rows, box.y1))


def _cut_part(change: NDArray[np.float32], box: _Strip, strip: _Strip) -> NDArray[np.float32]:
    """Return the rows of `change` in `strip`, at the scale of `box`; the caller may write to them."""
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
    """Return the factor by which the light correction raised local contrast in the window: (H, W) float32."""
    reach = max(_CONTRAST_REACH * float(np.hypot(*(window.landmarks[0, 1] - window.landmarks[0, 0]))), 1.0)
    # The added level keeps the factor of flat areas near 1.
    before, after = (_local_spread(p, reach) + 1.0 for p in (window.source, window.pixels))
    return np.clip(after / before, *_CONTRAST_BOUNDS).astype(np.float32)


def _local_spread(pixels: Pixels, reach: float) -> NDArray[np.float32]:
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = 2 * round(reach) + 1
    mean, square = (np.asarray(cv2.blur(v, (side, side)), np.float32) for v in (luma, luma * luma))
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)), np.float32)


def _compute_share(
    window: FaceWindow, rivals: list[FaceWindow], strip: _Strip, upscale: int
) -> NDArray[np.float32]:
    """Return the share of the window's face in each pixel of `strip`: (height, width) float32 in [0, 1].

    The shares of all faces add up to 1.
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
    """Add `change` to `strip` of `photo`, in place. A change that rounds to 0 leaves the pixel as it is."""
    part = photo[strip.y0 : strip.y1, strip.x0 : strip.x1]
    cv2.add(part, change, dst=part, dtype=cv2.CV_8U)


def _overlap(one: RestoredWindow, other: RestoredWindow) -> bool:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = one.window.box, other.window.box
    return ax0 < bx1 and bx0 < ax1 and ay0 < by1 and by0 < ay1
