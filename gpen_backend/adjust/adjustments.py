"""Adjustments of the whole picture, after pasting: before it, each would paint a seam around the face.

Every adjustment runs from 0 to 100, leaves the picture bit-equal at 0, shifts no hue and clips no pixel.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.adjust import noise
from gpen_backend.adjust.noise import Picture
from gpen_backend.adjust.relight import Shades, brightest, gain_of, luma, relit, scaled
from gpen_common.types import Pixels, RestoreParams

# Denoising at 100 removes what is up to so many times as strong as the noise measured in each band, finest
# first: the coarser ones model cheeks, which turn to plastic without them. At least this many grey levels of
# white noise go; colour noise is coarser and harms more, so that it is met half as hard again in every band.
_DENOISE_LEVELS = 4
_DENOISE_GAINS = (2.0, 1.6, 1.0, 0.6)
_DENOISE_GAINS_CHROMA = (3.0, 3.0, 3.0, 3.0)
_DENOISE_FLOOR = 2.5
# Sharpening at 100: the unsharp mask's weight and radius, how many times the noise what it lifts has to stand
# out (the two finest bands hold its noise), the neighbourhood whose extremes bound it, and by how many grey
# levels it may go beyond them.
_SHARPEN_WEIGHT = 2.0
_SHARPEN_SIGMA = 1.2
_SHARPEN_NOISE = 0.9
_SHARPEN_BAND = 1
_SHARPEN_WINDOW = np.ones((5, 5), np.uint8)
_SHARPEN_SLACK = 4.0
# Local contrast: the added share of each band, finest first, and the band strength past which an edge is
# strong enough as it is, in grey levels.
_DETAIL_GAINS = (0.35, 0.5, 0.45, 0.3)
_DETAIL_KNEE = 14.0
# Never mistaken for detail, in grey levels, however clean the picture seems.
_DETAIL_FLOOR = 0.7
# At 100 a mid grey of 128 becomes 170.
_BRIGHTNESS_SLOPE = 1.0
# At 100 the contrast around mid grey is 1.44 times what it was.
_CONTRAST_SLOPE = 1.2
# Work is done in strips of about so many pixels, which overlap by more than the steps can see: 3 px per level
# of the transform's reach (2, 4, 8, 16), its windows, and the sharpening's.
_STRIP_PIXELS = 4 * 1024 * 1024
_OVERLAP = 80


@dataclass(frozen=True, slots=True)
class Adjustments:
    """What is asked of one picture, each from 0 to 1, and what was measured on the whole of it.

    luma_noise, chroma_noise: sigma of the noise by band, finest first, in grey levels.
    """

    denoise: float
    detail: float
    sharpen: float
    brightness: float
    contrast: float
    luma_noise: tuple[float, ...] = ()
    chroma_noise: tuple[tuple[float, ...], ...] = ()


Step = Callable[[Picture, Adjustments], Picture]


def adjust(image: Pixels, params: RestoreParams) -> Pixels:
    """Apply the adjustments of `params`: denoise, detail, sharpen, brightness, contrast, in this order.

    image: (H, W, 3) uint8 RGB; it is not written to. Returns (H, W, 3) uint8 RGB, `image` itself where
    nothing is asked.
    """
    steps = [step for step, asked in _asked(params) if asked]
    curved = bool(params.brightness or params.contrast)
    if not steps and not curved:
        return image
    wanted = _measured(image, params)
    gains = curve_gains(wanted)
    height, width = image.shape[:2]
    rows, overlap = max(_OVERLAP, _STRIP_PIXELS // width), _OVERLAP if steps else 0
    adjusted = np.empty_like(image)
    for top in range(0, height, rows):
        first, last = max(0, top - overlap), min(height, top + rows + overlap)
        own = slice(top - first, top - first + rows)
        strip = image[first:last]
        if steps:
            picture = _stepped(strip, steps, wanted)[own]
            adjusted[top : top + rows] = _rounded(_curved(picture, gains) if curved else picture)
        else:
            adjusted[top : top + rows] = _curved(strip[own], gains)
    return adjusted


def _stepped(image: Pixels, steps: Sequence[Step], wanted: Adjustments) -> Picture:
    """The rows of a picture after all `steps` that look at a pixel's neighbours."""
    picture: Picture = image.astype(np.float32)
    for step in steps:
        picture = step(picture, wanted)
    return picture


def denoised(picture: Picture, wanted: Adjustments) -> Picture:
    """Noise taken away from luma and chroma, edges kept."""
    channels = noise.split(picture)
    for index, measured in enumerate((wanted.luma_noise, *wanted.chroma_noise)):
        gains = _DENOISE_GAINS_CHROMA if index else _DENOISE_GAINS
        amounts = [
            gain * wanted.denoise * max(sigma, _DENOISE_FLOOR * white)
            for gain, sigma, white in zip(gains, measured, noise.WHITE_NOISE, strict=True)
        ]
        channels[index] = noise.denoise(channels[index], amounts)
    return noise.merged(channels)


def detailed(picture: Picture, wanted: Adjustments) -> Picture:
    """Weak contrasts at four scales strengthened, noise and strong edges left alone."""
    old = luma(picture)
    parts, _ = noise.bands(old, len(_DETAIL_GAINS))
    new = old
    for level, (band, gain) in enumerate(zip(parts, _DETAIL_GAINS, strict=True)):
        detail = noise.shrink(band, level, 2 * max(wanted.luma_noise[level], _DETAIL_FLOOR))
        new = new + wanted.detail * gain * detail / (1 + np.square(detail / _DETAIL_KNEE))
    return relit(picture, old, new)


def sharpened(picture: Picture, wanted: Adjustments) -> Picture:
    """Edges made steeper, but hardly brighter or darker than what lies on either side: no halo."""
    old = luma(picture)
    sigma = _SHARPEN_NOISE * math.hypot(*wanted.luma_noise[: _SHARPEN_BAND + 1])
    edges = noise.shrink(old - cv2.GaussianBlur(old, (0, 0), _SHARPEN_SIGMA), _SHARPEN_BAND, sigma)
    steeper = old + np.float32(_SHARPEN_WEIGHT * wanted.sharpen) * edges
    slack = _SHARPEN_SLACK * wanted.sharpen
    lowest = cv2.erode(old, _SHARPEN_WINDOW, borderType=cv2.BORDER_REPLICATE) - slack
    highest = cv2.dilate(old, _SHARPEN_WINDOW, borderType=cv2.BORDER_REPLICATE) + slack
    return relit(picture, old, np.clip(steeper, lowest, highest))


def curve_gains(wanted: Adjustments) -> NDArray[np.float32]:
    """By how much brightness and contrast multiply a pixel whose brightest channel is 0 to 255: (256,)."""
    before = np.arange(256, dtype=np.float32)
    after = contrasted(brightened(before, wanted.brightness), wanted.contrast)
    return gain_of(before, before, after)


def brightened(levels: NDArray[np.float32], brightness: float) -> NDArray[np.float32]:
    """Lighter along t (1 + k) / (1 + k t): black and white stay, and shadows' noise is at most doubled.

    Source: Schlick, Quantization techniques for visualization of high dynamic range pictures, 1994.
    """
    k = np.float32(_BRIGHTNESS_SLOPE * brightness)
    return (levels * (1 + k) / (1 + k * levels / 255)).astype(np.float32)


def contrasted(levels: NDArray[np.float32], contrast: float) -> NDArray[np.float32]:
    """Contrast along a sigmoid around mid grey that keeps black and white."""
    # The curve of so small a k is a straight line, but 0 / 0 is none.
    k = np.float32(max(_CONTRAST_SLOPE * contrast, 1e-3))
    curve = np.tanh(k * (levels * np.float32(2 / 255) - 1)) / np.tanh(k)
    return np.asarray(127.5 * (1 + curve), np.float32)


def _curved(picture: Shades, gains: NDArray[np.float32]) -> Shades:
    """`picture` (H, W, 3) with every channel times the gain of the brightest, so that no hue turns."""
    levels = _rounded(brightest(picture))
    return scaled(picture, np.asarray(cv2.LUT(levels, gains), np.float32))


def _rounded(picture: Pixels | Picture) -> Pixels:
    """Whole grey levels of a picture or a channel that is nowhere below 0."""
    if picture.dtype == np.uint8:
        return picture  # type: ignore[return-value]
    return cv2.convertScaleAbs(picture)  # type: ignore[return-value]


def _asked(params: RestoreParams) -> tuple[tuple[Step, float], ...]:
    """The steps that see a pixel's neighbours, and what is asked of each: noise first, lest it be lifted."""
    return (
        (denoised, params.denoise),
        (detailed, float(params.detail_enhance)),
        (sharpened, params.sharpen),
    )


def _measured(image: Pixels, params: RestoreParams) -> Adjustments:
    """`params` as shares of 1, with the picture's noise where a step needs to know it."""
    luma_noise: tuple[float, ...] = ()
    chroma_noise: tuple[tuple[float, ...], ...] = ()
    if params.denoise or params.detail_enhance or params.sharpen:
        light, *colours = _sample(image)
        luma_noise = noise.measure(light, _DENOISE_LEVELS)
        if params.denoise:
            chroma_noise = tuple(noise.measure(colour, _DENOISE_LEVELS) for colour in colours)
    return Adjustments(
        denoise=params.denoise / 100,
        detail=float(params.detail_enhance),
        sharpen=params.sharpen / 100,
        brightness=params.brightness / 100,
        contrast=params.contrast / 100,
        luma_noise=luma_noise,
        chroma_noise=chroma_noise,
    )


def _sample(image: Pixels) -> list[noise.Channel]:
    """Luma and both chroma channels of the middle of a picture, where its noise is measured."""
    top, left = (max(0, (side - noise.SAMPLE_SIDE) // 2) for side in image.shape[:2])
    middle = image[top : top + noise.SAMPLE_SIDE, left : left + noise.SAMPLE_SIDE]
    return noise.split(middle.astype(np.float32))
