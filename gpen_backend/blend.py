"""How much of the network's face is taken, and which of its frequencies and colours."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_client.types import Mode, Pixels

# Gaussian that parts tone and colour from texture, as a share of the crop's side: 12.8 px at 512, about the
# radius of an iris: wider than pores and lashes, narrower than lips.
_LOW_SIGMA = 0.025
# `detail` takes this share of the network's low frequencies: texture yes, its idea of light less so.
_DETAIL_LOW_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Blend:
    """What is to be laid over a photo.

    target: (S, S, 3) float32 in [0, 255], RGB. opacity: 0 (leave the photo) to 1. grain: 0 to 1, how much of
    the detail that only the photo's own resolution shows is carried over onto the target.
    """

    target: NDArray[np.float32]
    opacity: float
    grain: float


def blend(
    aligned: Pixels,
    restored: Pixels,
    mask: NDArray[np.float32],
    mode: Mode,
    skin_protect: bool,
    strength: float,
) -> Blend:
    """Decide what of a restored face is laid over the input.

    aligned, restored: (S, S, 3) uint8 RGB, what the network was given and gave. mask: (S, S) float32, where
    the face is. strength: 0 to 100.

    natural: opacity = strength, and the face keeps its mean luminance. strong: opacity 1 - (1 - strength)²
    and the network's picture alone. detail: the network's texture as in strong, 60 % of its tone.
    skin_protect: the low-frequency chroma (LAB a, b) of the input is kept, so that hue does not shift.
    """
    share = strength / 100
    before, target = aligned.astype(np.float32), restored.astype(np.float32)
    if mode == "detail":
        target = target + (1 - _DETAIL_LOW_SHARE) * _low(before - target)
    if skin_protect or mode == "natural":
        target = _recoloured(before, target, mask, skin_protect, mode == "natural")
    opacity = share if mode == "natural" else 1 - (1 - share) ** 2
    return Blend(target, opacity, 0.0 if mode == "strong" else 1.0)


def _recoloured(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    mask: NDArray[np.float32],
    keep_chroma: bool,
    keep_luminance: bool,
) -> NDArray[np.float32]:
    """`after` with the low-frequency chroma and the mean L of `before`, as asked; (S, S, 3) in [0, 255]."""
    lab_before, lab_after = _lab(before), _lab(after)
    difference, corrected = lab_before - lab_after, lab_after.copy()
    if keep_chroma:
        corrected[..., 1:] += _low(difference[..., 1:])
    if keep_luminance and mask.any():
        corrected[..., 0] += np.average(difference[..., 0], weights=mask)
    # LAB and back costs OpenCV half a grey level, the same with and without the correction.
    return (after + _rgb(corrected) - _rgb(lab_after)).clip(0, 255)


def _lab(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, S, 3) RGB in [0, 255] as CIE LAB, L in [0, 100]."""
    return cv2.cvtColor((pixels / np.float32(255)).clip(0, 1), cv2.COLOR_RGB2Lab)  # type: ignore[return-value]


def _rgb(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, S, 3) CIE LAB as RGB in [0, 255]."""
    return cv2.cvtColor(lab, cv2.COLOR_Lab2RGB) * np.float32(255)


def _low(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The tone and colour of `channels` (S, S, C) without its texture."""
    return cv2.GaussianBlur(channels, (0, 0), _LOW_SIGMA * channels.shape[0])  # type: ignore[return-value]
