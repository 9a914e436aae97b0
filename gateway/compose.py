"""Restored windows back into their photo, at its own tone, without a seam.

What the network changed is what is put back: a window's restored pixels less those that were sent. The light
that was corrected for the model stands in both and falls out; where nothing was restored nothing is changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.standardise.window import Window
from gpen_client.geometry import enlarge
from gpen_client.types import Pixels

# Contrast that was raised for the model is compared over this share of the distance between the eyes, and
# taken back within these bounds: beyond them flat skin would decide.
_CONTRAST_REACH = 0.35
_CONTRAST_BOUNDS = (0.5, 2.0)
# Two neighbouring faces meet over this share of the distance between the eyes.
_BORDER_REACH = 0.08


@dataclass(frozen=True, slots=True, eq=False)
class RestoredWindow:
    """A window and what came back. pixels: as large as `window.pixels`, times the photo's upscale."""

    window: Window
    pixels: Pixels


def compose_photo(pixels: Pixels, restored: Sequence[RestoredWindow], upscale: int) -> Pixels:
    """The photo `pixels` (H, W, 3), larger by `upscale`, with every restored window in its place.

    Pixels that no restoration changed are those of the (enlarged) photo, bit by bit. Where windows overlap,
    each pixel follows the face that is nearer, in distances between the eyes.
    """
    photo = enlarge(pixels, upscale)
    if photo is pixels:
        photo = pixels.copy()
    for one in restored:
        box = _scaled(one.window.box, upscale)
        change = _change(one, (box[2] - box[0], box[3] - box[1]), upscale)
        rivals = [other.window for other in restored if other is not one and _overlap(one, other)]
        if rivals:
            change *= _ownership(one.window, rivals, box, upscale)[..., np.newaxis]
        _add(photo, box, change)
    return photo


def _change(one: RestoredWindow, size: tuple[int, int], upscale: int) -> NDArray[np.float32]:
    """What the restoration changed, at the photo's tone and scale: (height, width, 3) float32."""
    window = one.window
    sent = enlarge(window.pixels, upscale)
    change = np.asarray(cv2.subtract(one.pixels, sent, dtype=cv2.CV_32F), np.float32)
    if window.light_plan.changes:
        change /= enlarge(_raised_contrast(window), upscale)[..., np.newaxis]
    if change.shape[1::-1] != size:
        change = np.asarray(cv2.resize(change, size, interpolation=cv2.INTER_CUBIC), np.float32)
    return change


def _raised_contrast(window: Window) -> NDArray[np.float32]:
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


def _ownership(
    window: Window, rivals: list[Window], box: tuple[int, int, int, int], upscale: int
) -> NDArray[np.float32]:
    """How far each pixel of `box` belongs to the window's face: (height, width) float32 in [0, 1]."""
    x0, y0, x1, y1 = box
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32) / upscale

    def distance(other: Window) -> NDArray[np.float32]:
        centre_x, centre_y = other.face.landmarks5.mean(0)
        far = np.hypot(x - centre_x, y - centre_y) / max(other.face.interocular, 1e-3)
        return np.asarray(far, np.float32)

    own = distance(window)
    nearest = np.min([distance(rival) for rival in rivals], axis=0)
    return np.asarray(np.clip((nearest - own) / _BORDER_REACH + 0.5, 0, 1), np.float32)


def _add(photo: Pixels, box: tuple[int, int, int, int], change: NDArray[np.float32]) -> None:
    """Adds `change` to `box` of `photo`, in place; where it rounds to nothing the pixels stay as they are."""
    x0, y0, x1, y1 = box
    part = photo[y0:y1, x0:x1]
    cv2.add(part, change, dst=part, dtype=cv2.CV_8U)


def _scaled(box: tuple[int, int, int, int], upscale: int) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (v * upscale for v in box)
    return x0, y0, x1, y1


def _overlap(one: RestoredWindow, other: RestoredWindow) -> bool:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = one.window.box, other.window.box
    return ax0 < bx1 and bx0 < ax1 and ay0 < by1 and by0 < ay1
