"""Degrade sharp photos like the photos that need restoration; the same seed gives the same result.

blur -> downscale -> noise -> JPEG -> upscale, with the ranges of GFPGAN's published training configuration,
train_gfpgan_v1.yml (Wang et al. 2021, "Towards Real-World Blind Face Restoration with Generative Facial
Prior", section 4.1). GPEN's paper degrades in the same order (Yang et al. 2021, "GAN Prior Embedded Network
for Blind Face Restoration in the Wild"). The ranges apply to crops of 512 px, which have 107 px between the
eyes.
"""

from dataclasses import dataclass
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode
from gpen_common.types import Pixels

KERNEL = 41
"""Side of the blur kernel, px."""

SIGMA = (0.1, 10.0)
"""Standard deviation of the Gaussian blur, px. Half of all blurs are anisotropic, in any direction."""

DOWNSCALE = (0.8, 8.0)
"""Factor of the downscale; below 1 it enlarges."""

NOISE = (0.0, 20.0)
"""Standard deviation of the Gaussian noise in each channel, of 255."""

JPEG = (60, 100)
"""JPEG quality."""

_ANISOTROPIC = 0.5


@dataclass(frozen=True, slots=True)
class Degradation:
    """The degradation of one photo. sigma: along and across `angle`, px. angle: radians."""

    sigma: tuple[float, float]
    angle: float
    downscale: float
    noise: float
    jpeg: int
    seed: int


def draw(seed: int, name: str) -> Degradation:
    """Draw the degradation of the photo `name`. It depends on `seed` and `name` only."""
    rng = np.random.default_rng([seed, crc32(name.encode())])
    first, second = (float(rng.uniform(*SIGMA)) for _ in range(2))
    anisotropic = bool(rng.random() < _ANISOTROPIC)
    return Degradation(
        sigma=(first, second if anisotropic else first),
        angle=float(rng.uniform(-np.pi, np.pi)) if anisotropic else 0.0,
        downscale=float(rng.uniform(*DOWNSCALE)),
        noise=float(rng.uniform(*NOISE)),
        jpeg=int(rng.integers(JPEG[0], JPEG[1], endpoint=True)),
        seed=int(rng.integers(2**31)),
    )


def degrade(sharp: Pixels, how: Degradation) -> Pixels:
    """Return `sharp` (H, W, 3) uint8 RGB degraded, at the same size."""
    height, width = sharp.shape[:2]
    soft = cv2.filter2D(sharp.astype(np.float32), -1, _kernel(how), borderType=cv2.BORDER_REFLECT_101)
    small_size = max(1, round(width / how.downscale)), max(1, round(height / how.downscale))
    small = cv2.resize(soft, small_size, interpolation=cv2.INTER_LINEAR)
    noise = np.random.default_rng(how.seed).normal(0, how.noise, small.shape)
    noisy = np.clip(np.rint(small + noise), 0, 255).astype(np.uint8)
    limits = PixelLimits(max_pixels=max(noisy.size, 1), max_side=max(small_size))
    compressed = decode(encode(noisy, "jpeg", how.jpeg), limits).pixels
    return np.asarray(cv2.resize(compressed, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _kernel(how: Degradation) -> NDArray[np.float64]:
    """Return a rotated anisotropic Gaussian, (KERNEL, KERNEL), with sum 1."""
    y, x = np.mgrid[:KERNEL, :KERNEL] - KERNEL // 2
    along = np.cos(how.angle) * x + np.sin(how.angle) * y
    across = np.cos(how.angle) * y - np.sin(how.angle) * x
    weights = np.exp(-0.5 * ((along / how.sigma[0]) ** 2 + (across / how.sigma[1]) ** 2))
    return np.asarray(weights / weights.sum(), np.float64)
