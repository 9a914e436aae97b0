"""The engine for machines without weights: denoises and sharpens a face as far as measurements call for.

It splits a face into bands of detail, removes the noise of each band, and amplifies the bands that blur has
weakened. It invents no detail, and leaves a clean face unchanged.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.adjust import noise
from gpen_backend.adjust.relight import luma, relight
from gpen_backend.engines import Engine, require_faces
from gpen_common.types import Pixels

# Sigma of each band in the calmest regions of clean portraits at 512 px, finest first, in grey levels: skin
# texture, not noise. Measured on 17 high-quality portraits.
_CLEAN = (1.0, 0.75, 1.1, 2.5)
_CLEAN_CHROMA = (0.4, 0.3, 0.4, 0.6)
# Factor on the measured noise: noise near edges is stronger than in calm regions. The coarser bands of luma
# shape cheeks and forehead, and removing them makes skin look like plastic.
_MARGIN = (1.4, 1.4, 1.0, 0.0)
_MARGIN_CHROMA = (2.0, 2.0, 2.0, 2.0)
# Spread of a band relative to the next coarser one, finest first: the minimum of 17 sharp portraits, which
# had 0.68 to 1.6, 0.65 to 0.86 and 0.62 to 0.86. Blurred ones have 0.4 to 0.5, 0.32 to 0.5 and 0.35 to 0.65.
_SHARP = (0.68, 0.65, 0.62)
# Below this spread of the finest band relative to the next, a picture was enlarged or is out of focus.
_BLURRED = 0.6
# Largest gain of a band, finest first: the finest band of an enlarged picture holds only artefacts.
_MAX_GAINS = (1.8, 2.2, 1.7)
# Only detail this many times stronger than the noise is amplified: edges and lashes, not grain or ringing.
_EDGE = 2.5
# An amplified edge may exceed the extremes of this neighbourhood by this many grey levels.
_WINDOW = np.ones((7, 7), np.uint8)
_SLACK = 3.0
# The face's part of an aligned crop: start and end of its rows and columns, as shares of the side.
_FACE = (0.25, 0.8)


class ClassicalEngine(Engine):
    """Restores faces without a network. size: side of a face, px."""

    name = "classical"

    def __init__(self, size: int) -> None:
        self.size = size

    def restore(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Denoise and sharpen each face as far as it needs. Takes and returns (N, S, S, 3) uint8 RGB."""
        require_faces(faces, self.size)
        return np.stack([_restore_face(face) for face in faces])


def _restore_face(face: Pixels) -> Pixels:
    """Denoise and sharpen one face, (S, S, 3) uint8 RGB."""
    channels = noise.split(face.astype(np.float32))
    where = _measuring_region(channels[0])
    measured, *measured_chroma = [noise.measure(channel[where], len(_CLEAN)) for channel in channels]
    for index, sigma in enumerate(measured_chroma, 1):
        sigmas = _excess(sigma, _CLEAN_CHROMA, _MARGIN_CHROMA)
        channels[index] = noise.denoise(channels[index], sigmas)
    picture = noise.merge(channels)
    old = luma(picture)
    return np.rint(relight(picture, old, _clear_luma(old, measured))).clip(0, 255).astype(np.uint8)


def _clear_luma(channel: noise.Channel, measured: Sequence[float]) -> noise.Channel:
    """Remove noise from luma (`measured`: sigma by band) and amplify detail that blur has weakened."""
    parts, rest = noise.bands(channel, len(_CLEAN))
    sigmas = _excess(measured, _CLEAN, _MARGIN)
    quiet = [noise.shrink(parts[level], level, sigma) for level, sigma in enumerate(sigmas)]
    calm = rest + sum(quiet)
    amplified = calm
    for level, gain in enumerate(_gains(quiet)):
        amplified = amplified + (gain - 1) * noise.shrink(quiet[level], level, _EDGE * measured[level])
    lowest = cv2.erode(calm, _WINDOW, borderType=cv2.BORDER_REPLICATE) - _SLACK
    highest = cv2.dilate(calm, _WINDOW, borderType=cv2.BORDER_REPLICATE) + _SLACK
    bounded: noise.Channel = np.clip(amplified, lowest, highest)
    return bounded


def _measuring_region(channel: noise.Channel) -> tuple[slice, slice]:
    """Choose where to measure noise: the whole crop if it is sharp, the face alone if it is blurred.

    In a sharp picture, texture found only on the face is skin. In a blurred picture, whose finest band is
    empty, texture on the face can only be noise.
    """
    finest, finer = (float(_middle(band).std()) for band in noise.bands(channel, 2)[0])
    return (slice(None), slice(None)) if finest >= _BLURRED * finer else _face(channel.shape[0])


def _gains(parts: Sequence[noise.Channel]) -> list[float]:
    """Gain that makes each band but the coarsest as strong as in a sharp portrait."""
    spreads = [float(_middle(band).std()) for band in parts]
    gains = []
    coarser = spreads[-1]
    for spread, sharp, highest in zip(spreads[-2::-1], _SHARP[::-1], _MAX_GAINS[::-1], strict=True):
        gain = min(max(sharp * coarser / spread, 1.0), highest) if spread > 0 else 1.0
        gains.append(gain)
        coarser = spread * gain
    return gains[::-1]


def _excess(measured: Sequence[float], clean: Sequence[float], margins: Sequence[float]) -> list[float]:
    """Sigma of the noise in each band beyond that of a `clean` picture, times its margin."""
    return [
        margin * float(np.sqrt(max(sigma**2 - floor**2, 0)))
        for sigma, floor, margin in zip(measured, clean, margins, strict=True)
    ]


def _middle(band: noise.Channel) -> noise.Channel:
    """The face's part of a band (S, S) of a crop."""
    return band[_face(band.shape[0])]


def _face(size: int) -> tuple[slice, slice]:
    """Rows and columns of the face in an aligned crop of `size` px."""
    inside = slice(int(_FACE[0] * size), int(_FACE[1] * size))
    return inside, inside
