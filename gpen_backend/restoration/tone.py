"""The light and colour of a restored face, fitted to the photo around it.

Texture may change within a narrow border unseen; tone may not (Burt and Adelson, A multiresolution spline
with application to image mosaics, 1983). So the low frequencies of a restored face are its input's where the
mask ends, and become the network's, as far as they are wanted, only well inside.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_common.types import Pixels

Plane = NDArray[np.float32]

# Gaussian that parts tone and colour from texture, as a share of the crop's side: 12.8 px at 512, about the
# radius of an iris: wider than pores and lashes, narrower than lips.
_LOW_SIGMA = 0.025
# Tone is worked out on a copy of this side, in which that Gaussian is 3.2 px wide.
_SMALL_SIDE = 128
# The mask blurred this wide, as a share of the crop's side, tells how deep inside the face a place lies; at
# these values of it tone begins to be the network's, and is its alone. By bench/seams.py.
_DEPTH_SIGMA = 0.1
_DEPTH_FROM, _DEPTH_TO = 0.5, 0.95
# A shift of L up to so much fades out towards black and white, so that it clips nothing and lifts no black.
# From 12 on (100 / 8) the fading would turn the order of tones around: the rest comes plain.
_GENTLE = 8.0
_LOWEST, _HIGHEST = np.float32(1), np.float32(254)


@dataclass(frozen=True, slots=True)
class Tone:
    """What a restored face keeps of its input's low frequencies, deep inside the mask.

    light: share of L, 0 (the network's) to 1. chroma: the same of LAB a and b. keep_mean: the mean L of the
    face stays. match_light, match_chroma: L, or a and b, are the input's where the mask ends.
    """

    light: float = 0.0
    chroma: float = 0.0
    keep_mean: bool = False
    match_light: bool = True
    match_chroma: bool = True


def toned(before: Pixels, after: Pixels, mask: Plane, tone: Tone) -> Plane:
    """`after` with as much of the light and colour of `before` as `tone` wants.

    before, after: (S, S, 3) uint8 RGB. mask: (S, S) float32. Returns (S, S, 3) float32 in [0, 255].
    """
    side = min(_SMALL_SIDE, after.shape[0])
    plain = after.astype(np.float32)
    lab = _lab(plain)
    change = _change(_low(_lab_of(before, side)) - _low(_lab_of(after, side)), _small(mask, side), tone)
    if not change.any():
        return plain
    more = _enlarged(change, after.shape[0])
    more[..., 0] = _faded(lab[..., 0], more[..., 0], side)
    # LAB and back costs OpenCV half a grey level, the same with and without the change.
    changed = plain + (_rgb(lab + more) - _rgb(lab))
    # No channel that was inside the range is driven to its ends.
    return np.clip(changed, np.minimum(plain, _LOWEST), np.maximum(plain, _HIGHEST))


def _change(difference: Plane, mask: Plane, tone: Tone) -> Plane:
    """What is to be added to the LAB of a restored face, given how far its input's lies from it."""
    deep = _depth(mask)
    light, chroma = (_share(deep, kept, match) for kept, match in (
        (tone.light, tone.match_light), (tone.chroma, tone.match_chroma)))  # fmt: skip
    change = difference * cv2.merge([light, chroma, chroma])
    weight = float((mask * deep).sum())
    if tone.keep_mean and weight > 0:
        missing = float((mask * (difference[..., 0] - change[..., 0])).sum())
        change[..., 0] += missing / weight * deep
    return change


def _share(deep: Plane, kept: float, match: bool) -> Plane:
    """How much of the difference is made up for: `kept` deep inside, all of it at the border if asked."""
    return 1 - (1 - np.float32(kept)) * deep if match else np.full_like(deep, kept)


def _depth(mask: Plane) -> Plane:
    """0 where the mask ends, 1 deep inside the face, with a slope as gentle as the face has room for."""
    blurred = cv2.GaussianBlur(mask, (0, 0), _DEPTH_SIGMA * mask.shape[0], borderType=cv2.BORDER_CONSTANT)
    t = ((blurred - _DEPTH_FROM) / (_DEPTH_TO - _DEPTH_FROM)).clip(0, 1)
    return t * t * (3 - 2 * t)  # type: ignore[no-any-return]


def _faded(lightness: Plane, shift: Plane, side: int) -> Plane:
    """`shift` of L, less of it where `lightness` is near black or white, and as much on the average."""
    square = np.square(lightness * np.float32(0.02) - 1)
    less = square * square * shift.clip(-_GENTLE, _GENTLE)
    return shift - less + _enlarged(_low(_small(less, side)), len(less))  # type: ignore[no-any-return]


def _enlarged(small: Plane, side: int) -> Plane:
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _small(pixels: NDArray[np.uint8] | Plane, side: int) -> Plane:
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _low(small: Plane) -> Plane:
    """Tone and colour of a picture of any channels, without its texture."""
    return cv2.GaussianBlur(small, (0, 0), _LOW_SIGMA * len(small))  # type: ignore[return-value]


def _lab_of(pixels: Pixels, side: int) -> Plane:
    return _lab(_small(pixels, side).astype(np.float32))


def _lab(picture: Plane) -> Plane:
    """(H, W, 3) RGB in [0, 255] as CIE LAB, L in [0, 100]."""
    return cv2.cvtColor(picture * np.float32(1 / 255), cv2.COLOR_RGB2Lab)  # type: ignore[return-value]


def _rgb(lab: Plane) -> Plane:
    """(H, W, 3) CIE LAB as RGB in [0, 255]."""
    return cv2.cvtColor(lab, cv2.COLOR_Lab2RGB).clip(0, 1) * np.float32(255)
