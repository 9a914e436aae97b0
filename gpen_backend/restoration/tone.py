"""Matches light and colour of a restored face to the photo around it.

A change of texture within a narrow border is invisible, a change of tone is not (Burt and Adelson, A
multiresolution spline with application to image mosaics, 1983). So the low frequencies of a restored face
equal those of its input at the edge of the mask, and change to the network's only deep inside the face.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_common.types import Pixels

Plane = NDArray[np.float32]

# Sigma of the Gaussian that separates tone and colour from texture, as a share of the crop's side: 12.8 px at
# 512, about the radius of an iris; wider than pores and lashes, narrower than lips.
_LOW_SIGMA = 0.025
# Tone is computed on a copy of this side, where that Gaussian has a sigma of 3.2 px.
_SMALL_SIDE = 128
# Depth inside the face is the mask blurred with this sigma, as a share of the crop's side. Between these two
# depths, tone changes from the input's to the network's. Tuned with tests/bench/seams.py.
_DEPTH_SIGMA = 0.1
_DEPTH_FROM, _DEPTH_TO = 0.5, 0.95
# Up to this amount, a shift of L fades out towards black and white, so that it neither clips nor lifts
# blacks. From 12 on (100 / 8) the fade would reverse the order of tones, so the excess does not fade.
_GENTLE = 8.0
_LOWEST, _HIGHEST = np.float32(1), np.float32(254)


@dataclass(frozen=True, slots=True)
class KeptTone:
    """How much of its input's low frequencies a restored face keeps.

    light: share of the input's L deep inside the mask, 0 (the network's L) to 1. chroma: the same for LAB a
    and b. keep_mean: keep the mean L of the face.
    """

    light: float = 0.0
    chroma: float = 0.0
    keep_mean: bool = False


def match_tone(before: Pixels, after: Pixels, mask: Plane, tone: KeptTone) -> Plane:
    """Give `after` as much of the light and colour of `before` as `tone` states.

    before, after: (S, S, 3) uint8 RGB. mask: (S, S) float32. Returns (S, S, 3) float32 in [0, 255].
    """
    side = min(_SMALL_SIDE, after.shape[0])
    plain = after.astype(np.float32)
    lab = _lab(plain)
    change = _change(_low(_lab_of(before, side)) - _low(_lab_of(after, side)), _small(mask, side), tone)
    if not change.any():
        return plain
    more = _enlarge(change, after.shape[0])
    more[..., 0] = _fade(lab[..., 0], more[..., 0], side)
    # Converting to LAB and back costs half a grey level in OpenCV, which cancels out in the difference.
    changed = plain + (_rgb(lab + more) - _rgb(lab))
    # A channel that was not clipped before is not clipped after.
    return np.clip(changed, np.minimum(plain, _LOWEST), np.maximum(plain, _HIGHEST))


def _change(difference: Plane, mask: Plane, tone: KeptTone) -> Plane:
    """The change of LAB for a restored face. difference: LAB of its input minus its own."""
    deep = _depth(mask)
    light, chroma = _share(deep, tone.light), _share(deep, tone.chroma)
    change = difference * cv2.merge([light, chroma, chroma])
    weight = float((mask * deep).sum())
    if tone.keep_mean and weight > 0:
        missing = float((mask * (difference[..., 0] - change[..., 0])).sum())
        change[..., 0] += missing / weight * deep
    return change


def _share(deep: Plane, kept: float) -> Plane:
    """Share of the difference to compensate: `kept` deep inside the face, all of it at the edge."""
    return 1 - (1 - np.float32(kept)) * deep


def _depth(mask: Plane) -> Plane:
    """Depth inside the face: 0 at the edge of the mask, 1 deep inside, with a gentle slope in between."""
    blurred = cv2.GaussianBlur(mask, (0, 0), _DEPTH_SIGMA * mask.shape[0], borderType=cv2.BORDER_CONSTANT)
    t = ((blurred - _DEPTH_FROM) / (_DEPTH_TO - _DEPTH_FROM)).clip(0, 1)
    return t * t * (3 - 2 * t)  # type: ignore[no-any-return]


def _fade(lightness: Plane, shift: Plane, side: int) -> Plane:
    """Reduce a `shift` of L where `lightness` is near black or white, and keep its local average."""
    square = np.square(lightness * np.float32(0.02) - 1)
    less = square * square * shift.clip(-_GENTLE, _GENTLE)
    return shift - less + _enlarge(_low(_small(less, side)), len(less))  # type: ignore[no-any-return]


def _enlarge(small: Plane, side: int) -> Plane:
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _small(pixels: NDArray[np.uint8] | Plane, side: int) -> Plane:
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _low(small: Plane) -> Plane:
    """Remove texture from a picture, which leaves tone and colour."""
    return cv2.GaussianBlur(small, (0, 0), _LOW_SIGMA * len(small))  # type: ignore[return-value]


def _lab_of(pixels: Pixels, side: int) -> Plane:
    return _lab(_small(pixels, side).astype(np.float32))


def _lab(picture: Plane) -> Plane:
    """Convert (H, W, 3) RGB in [0, 255] to CIE LAB, L in [0, 100]."""
    return cv2.cvtColor(picture * np.float32(1 / 255), cv2.COLOR_RGB2Lab)  # type: ignore[return-value]


def _rgb(lab: Plane) -> Plane:
    """Convert (H, W, 3) CIE LAB to RGB in [0, 255]."""
    return cv2.cvtColor(lab, cv2.COLOR_Lab2RGB).clip(0, 1) * np.float32(255)
