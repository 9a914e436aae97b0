"""Adjustments of the whole picture. They run after pasting, or each would leave a seam around the face.

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
from gpen_backend.adjust.relight import Shades, gain_of, luma, max_channel, relight, scale_channels
from gpen_common.types import Pixels, RestoreParams

# Denoising at 100 removes noise up to these multiples of the sigma measured in each band, finest first. The
# coarser bands shape cheeks, and removing them makes skin look like plastic. At least _DENOISE_FLOOR grey
# levels of white noise go. Colour noise is coarser and more visible, so it is removed half as strongly again.
_DENOISE_LEVELS = 4
_DENOISE_GAINS = (2.0, 1.6, 1.0, 0.6)
_DENOISE_GAINS_CHROMA = (3.0, 3.0, 3.0, 3.0)
_DENOISE_FLOOR = 2.5
# Sharpening at 100: weight and radius of the unsharp mask; factor on the noise of the two finest bands, below
# which detail is not amplified; neighbourhood whose extremes bound the result, and the number of grey levels
# by which it may exceed them.
_SHARPEN_WEIGHT = 2.0
_SHARPEN_SIGMA = 1.2
_SHARPEN_NOISE = 0.9
_SHARPEN_BAND = 1
_SHARPEN_WINDOW = np.ones((5, 5), np.uint8)
_SHARPEN_SLACK = 4.0
# Local contrast: added share of each band, finest first, and the strength from which on an edge needs no
# amplification, in grey levels.
_DETAIL_GAINS = (0.35, 0.5, 0.45, 0.3)
_DETAIL_KNEE = 14.0
# Sigma of noise assumed at least, in grey levels, however clean the picture seems.
_DETAIL_FLOOR = 0.7
# At 100 a mid grey of 128 becomes 170.
_BRIGHTNESS_SLOPE = 1.0
# At 100 the contrast around mid grey is 1.44 times the original.
_CONTRAST_SLOPE = 1.2
# Pictures are processed in strips of about this many pixels. The strips overlap by more than the reach of the
# steps: 3 px per level of the transform's reach (2, 4, 8, 16), its windows, and the sharpening's.
_STRIP_PIXELS = 4 * 1024 * 1024
_OVERLAP = 80


@dataclass(frozen=True, slots=True)
class Adjustments:
    """The amount of each adjustment of one picture, 0 to 1, and the noise measured on the whole picture.

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


def adjust_picture(image: Pixels, params: RestoreParams) -> Pixels:
    """Apply the adjustments of `params`: denoise, detail, sharpen, brightness, contrast, in this order.

    image: (H, W, 3) uint8 RGB, not written to. Returns (H, W, 3) uint8 RGB, `image` itself if all amounts are
    0.
    """
    steps = [step for step, amount in _local_steps(params) if amount]
    curved = bool(params.brightness or params.contrast)
    if not steps and not curved:
        return image
    amounts = _measure(image, params)
    gains = curve_gains(amounts)
    height, width = image.shape[:2]
    rows, overlap = max(_OVERLAP, _STRIP_PIXELS // width), _OVERLAP if steps else 0
    adjusted = np.empty_like(image)
    for top in range(0, height, rows):
        first, last = max(0, top - overlap), min(height, top + rows + overlap)
        own = slice(top - first, top - first + rows)
        strip = image[first:last]
        if steps:
            picture = _run_steps(strip, steps, amounts)[own]
            adjusted[top : top + rows] = _round(_apply_curve(picture, gains) if curved else picture)
        else:
            adjusted[top : top + rows] = _apply_curve(strip[own], gains)
    return adjusted


def _run_steps(image: Pixels, steps: Sequence[Step], amounts: Adjustments) -> Picture:
    """Apply all `steps` that look at a pixel's neighbours to rows of a picture."""
    picture: Picture = image.astype(np.float32)
    for step in steps:
        picture = step(picture, amounts)
    return picture


def denoise(picture: Picture, amounts: Adjustments) -> Picture:
    """Remove noise from luma and chroma, keep edges."""
    channels = noise.split(picture)
    for index, measured in enumerate((amounts.luma_noise, *amounts.chroma_noise)):
        gains = _DENOISE_GAINS_CHROMA if index else _DENOISE_GAINS
        sigmas = [
            gain * amounts.denoise * max(sigma, _DENOISE_FLOOR * white)
            for gain, sigma, white in zip(gains, measured, noise.WHITE_NOISE, strict=True)
        ]
        channels[index] = noise.denoise(channels[index], sigmas)
    return noise.merge(channels)


def enhance_detail(picture: Picture, amounts: Adjustments) -> Picture:
    """Strengthen weak contrasts at four scales, but neither noise nor strong edges."""
    old = luma(picture)
    parts, _ = noise.bands(old, len(_DETAIL_GAINS))
    new = old
    for level, (band, gain) in enumerate(zip(parts, _DETAIL_GAINS, strict=True)):
        detail = noise.shrink(band, level, 2 * max(amounts.luma_noise[level], _DETAIL_FLOOR))
        new = new + amounts.detail * gain * detail / (1 + np.square(detail / _DETAIL_KNEE))
    return relight(picture, old, new)


def sharpen(picture: Picture, amounts: Adjustments) -> Picture:
    """Steepen edges, hardly beyond the brightness on either side, so that no halo appears."""
    old = luma(picture)
    sigma = _SHARPEN_NOISE * math.hypot(*amounts.luma_noise[: _SHARPEN_BAND + 1])
    edges = noise.shrink(old - cv2.GaussianBlur(old, (0, 0), _SHARPEN_SIGMA), _SHARPEN_BAND, sigma)
    steeper = old + np.float32(_SHARPEN_WEIGHT * amounts.sharpen) * edges
    slack = _SHARPEN_SLACK * amounts.sharpen
    lowest = cv2.erode(old, _SHARPEN_WINDOW, borderType=cv2.BORDER_REPLICATE) - slack
    highest = cv2.dilate(old, _SHARPEN_WINDOW, borderType=cv2.BORDER_REPLICATE) + slack
    return relight(picture, old, np.clip(steeper, lowest, highest))


def curve_gains(amounts: Adjustments) -> NDArray[np.float32]:
    """Gain of brightness and contrast for a pixel by its brightest channel, 0 to 255: (256,)."""
    before = np.arange(256, dtype=np.float32)
    after = raise_contrast(brighten(before, amounts.brightness), amounts.contrast)
    return gain_of(before, before, after)


def brighten(levels: NDArray[np.float32], brightness: float) -> NDArray[np.float32]:
    """Brighten along t (1 + k) / (1 + k t): black and white stay, and noise in shadows at most doubles.

    Source: Schlick, Quantization techniques for visualization of high dynamic range pictures, 1994.
    """
    k = np.float32(_BRIGHTNESS_SLOPE * brightness)
    return (levels * (1 + k) / (1 + k * levels / 255)).astype(np.float32)


def raise_contrast(levels: NDArray[np.float32], contrast: float) -> NDArray[np.float32]:
    """Raise contrast along a sigmoid around mid grey that keeps black and white."""
    # The lower bound avoids 0 / 0; the curve of so small a k is a straight line.
    k = np.float32(max(_CONTRAST_SLOPE * contrast, 1e-3))
    curve = np.tanh(k * (levels * np.float32(2 / 255) - 1)) / np.tanh(k)
    return np.asarray(127.5 * (1 + curve), np.float32)


def _apply_curve(picture: Shades, gains: NDArray[np.float32]) -> Shades:
    """Multiply every channel of `picture` (H, W, 3) by the gain of the brightest one, which keeps the hue."""
    levels = _round(max_channel(picture))
    return scale_channels(picture, np.asarray(cv2.LUT(levels, gains), np.float32))


def _round(picture: Pixels | Picture) -> Pixels:
    """Round a picture or a channel without negative values to whole grey levels."""
    if picture.dtype == np.uint8:
        return picture  # type: ignore[return-value]
    return cv2.convertScaleAbs(picture)  # type: ignore[return-value]


def _local_steps(params: RestoreParams) -> tuple[tuple[Step, float], ...]:
    """The steps that look at a pixel's neighbours, with their amounts. Denoising comes first."""
    return (
        (denoise, params.denoise),
        (enhance_detail, float(params.detail_enhance)),
        (sharpen, params.sharpen),
    )


def _measure(image: Pixels, params: RestoreParams) -> Adjustments:
    """Convert `params` to amounts from 0 to 1, and measure the picture's noise if a step needs it."""
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
    """Luma and both chroma channels of the centre of a picture, where noise is measured."""
    top, left = (max(0, (side - noise.SAMPLE_SIDE) // 2) for side in image.shape[:2])
    middle = image[top : top + noise.SAMPLE_SIDE, left : left + noise.SAMPLE_SIDE]
    return noise.split(middle.astype(np.float32))
