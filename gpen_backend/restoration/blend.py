"""How much of the network's face is taken, and which of its frequencies and colours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpen_backend.restoration.tone import Tone, toned
from gpen_common.types import Mode, Pixels

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
    In every mode tone and colour meet those of the input where the mask ends, so that no seam shows.
    """
    share = strength / 100
    target = toned(aligned, restored, mask, tone(mode, skin_protect))
    opacity = share if mode == "natural" else 1 - (1 - share) ** 2
    return Blend(target, opacity, 0.0 if mode == "strong" else 1.0)


def tone(mode: Mode, skin_protect: bool) -> Tone:
    """What a restored face keeps of its input's tone."""
    kept = 1 - _DETAIL_LOW_SHARE if mode == "detail" else 0.0
    return Tone(light=kept, chroma=1.0 if skin_protect else kept, keep_mean=mode == "natural")
