"""Blends a restored face with its input: opacity, frequencies and colours by mode."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpen_backend.restoration.tone import KeptTone, match_tone
from gpen_common.types import Mode, Pixels

# Mode `detail` takes this share of the network's low frequencies: all of its texture, less of its light.
_DETAIL_LOW_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Blend:
    """The picture to paste over a face of a photo.

    target: (S, S, 3) float32 in [0, 255], RGB. opacity: 0 (keep the photo) to 1. grain: 0 to 1, share of the
    photo's detail beyond the crop's resolution that is added to the target.
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
    """Blend a restored face with its input.

    aligned, restored: (S, S, 3) uint8 RGB, the network's input and output. mask: (S, S) float32, 1 on the
    face. strength: 0 to 100.

    natural: opacity = strength, and the face keeps its mean luminance. strong: opacity 1 - (1 - strength)²,
    and the network's picture alone. detail: as strong, with the network's texture and 60 % of its tone.
    skin_protect: keeps the low-frequency chroma (LAB a, b) of the input, so that hue does not shift.
    In every mode, tone and colour match those of the input at the edge of the mask, so that no seam shows.
    """
    share = strength / 100
    target = match_tone(aligned, restored, mask, choose_tone(mode, skin_protect))
    opacity = share if mode == "natural" else 1 - (1 - share) ** 2
    return Blend(target, opacity, 0.0 if mode == "strong" else 1.0)


def choose_tone(mode: Mode, skin_protect: bool) -> KeptTone:
    """Choose how much of the input's tone a restored face keeps."""
    kept = 1 - _DETAIL_LOW_SHARE if mode == "detail" else 0.0
    return KeptTone(light=kept, chroma=1.0 if skin_protect else kept, keep_mean=mode == "natural")
