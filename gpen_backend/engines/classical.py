"""The engine of a machine without weights: noise and blur are lessened as far as they were measured.

It draws no eye and no tooth that the photo has not: it parts a face into bands of detail, takes the noise
out of each, and lifts the bands that blur has emptied. On a face that is already clean it does nothing.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.adjust import noise
from gpen_backend.adjust.relight import luma, relit
from gpen_backend.engines import Engine, require_faces
from gpen_common.types import Pixels

# Sigma of each band in the calmest places of clean portraits at 512 px, finest first, in grey levels: skin's
# texture, not noise. Measured on 17 high quality portraits.
_CLEAN = (1.0, 0.75, 1.1, 2.5)
_CLEAN_CHROMA = (0.4, 0.3, 0.4, 0.6)
# How much more than was measured is removed: noise near edges is stronger than in calm places. The coarser
# bands of luma model cheeks and forehead, which turn to plastic without them.
_MARGIN = (1.4, 1.4, 1.0, 0.0)
_MARGIN_CHROMA = (2.0, 2.0, 2.0, 2.0)
# Spread of a band relative to the next coarser one, finest first: the least of 17 sharp portraits, which had
# 0.68 to 1.6, 0.65 to 0.86 and 0.62 to 0.86; blurred ones have 0.4 to 0.5, 0.32 to 0.5 and 0.35 to 0.65.
_SHARP = (0.68, 0.65, 0.62)
# Below this spread of the finest band relative to the next, a picture was enlarged or is out of focus.
_BLURRED = 0.6
# By how much a band may be lifted, finest first: the finest of an enlarged picture holds only artefacts.
_MOST = (1.8, 2.2, 1.7)
# Only what stands out of the noise so many times is lifted: edges and lashes, not grain or JPEG's ripples.
_EDGE = 2.5
# A lifted edge may go beyond the extremes of this neighbourhood by so many grey levels.
_WINDOW = np.ones((7, 7), np.uint8)
_SLACK = 3.0
# The part of an aligned crop that is face, from its top and left, and from its bottom and right.
_FACE = (0.25, 0.8)


class ClassicalEngine(Engine):
    """Restores faces without a network. size: side of a face, px."""

    name = "classical"

    def __init__(self, size: int) -> None:
        self.size = size

    def restore(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Denoise and sharpen each face as far as it needs. faces: (N, S, S, 3) uint8 RGB; the same back."""
        require_faces(faces, self.size)
        return np.stack([_restored(face) for face in faces])


def _restored(face: Pixels) -> Pixels:
    """One face (S, S, 3) uint8 RGB, cleaned and sharpened."""
    channels = noise.split(face.astype(np.float32))
    where = _noisy_part(channels[0])
    measured, *measured_chroma = [noise.measure(channel[where], len(_CLEAN)) for channel in channels]
    for index, measured_here in enumerate(measured_chroma, 1):
        sigmas = _excess(measured_here, _CLEAN_CHROMA, _MARGIN_CHROMA)
        channels[index] = noise.denoise(channels[index], sigmas)
    picture = noise.merged(channels)
    old = luma(picture)
    return np.rint(relit(picture, old, _cleared(old, measured))).clip(0, 255).astype(np.uint8)


def _cleared(channel: noise.Channel, measured: Sequence[float]) -> noise.Channel:
    """Luma without its noise (`measured` by band), the detail that blur has weakened lifted again."""
    parts, rest = noise.bands(channel, len(_CLEAN))
    sigmas = _excess(measured, _CLEAN, _MARGIN)
    quiet = [noise.shrink(parts[level], level, sigma) for level, sigma in enumerate(sigmas)]
    calm = rest + sum(quiet)
    lifted = calm
    for level, gain in enumerate(_gains(quiet)):
        lifted = lifted + (gain - 1) * noise.shrink(quiet[level], level, _EDGE * measured[level])
    lowest = cv2.erode(calm, _WINDOW, borderType=cv2.BORDER_REPLICATE) - _SLACK
    highest = cv2.dilate(calm, _WINDOW, borderType=cv2.BORDER_REPLICATE) + _SLACK
    bounded: noise.Channel = np.clip(lifted, lowest, highest)
    return bounded


def _noisy_part(channel: noise.Channel) -> tuple[slice, slice]:
    """Where to measure noise.

    Texture on the face alone is skin while the picture is sharp: then the whole crop tells. In a blurred one,
    whose finest band is empty, it can only be noise: then the face does.
    """
    finest, finer = (float(_middle(band).std()) for band in noise.bands(channel, 2)[0])
    return (slice(None), slice(None)) if finest >= _BLURRED * finer else _face(channel.shape[0])


def _gains(parts: Sequence[noise.Channel]) -> list[float]:
    """By how much each band but the coarsest must be lifted to be as strong as in a sharp portrait."""
    spreads = [float(_middle(band).std()) for band in parts]
    gains = []
    coarser = spreads[-1]
    for spread, sharp, most in zip(spreads[-2::-1], _SHARP[::-1], _MOST[::-1], strict=True):
        gain = min(max(sharp * coarser / spread, 1.0), most) if spread > 0 else 1.0
        gains.append(gain)
        coarser = spread * gain
    return gains[::-1]


def _excess(measured: Sequence[float], clean: Sequence[float], margins: Sequence[float]) -> list[float]:
    """Sigma of the noise in each band beyond that of a `clean` picture, widened by its margin."""
    return [
        margin * float(np.sqrt(max(sigma**2 - floor**2, 0)))
        for sigma, floor, margin in zip(measured, clean, margins, strict=True)
    ]


def _middle(band: noise.Channel) -> noise.Channel:
    """The part of a crop's band (S, S) that is face."""
    return band[_face(band.shape[0])]


def _face(size: int) -> tuple[slice, slice]:
    """Rows and columns of an aligned crop that are face."""
    inside = slice(int(_FACE[0] * size), int(_FACE[1] * size))
    return inside, inside
