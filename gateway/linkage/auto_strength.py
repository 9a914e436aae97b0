"""How much of GPEN's face a face needs: what `strength=auto` is, from the measured quality.

Each measure becomes a need from 0 to 1, on a straight line between two ends. The distance between the eyes
and the sharpness are taken by their logarithm, for twice as much counts the same wherever it is added.

| measure | need 0 | need 1 | weight |
| --- | --- | --- | --- |
| px between the eyes in the photo | from 107, as in GPEN's template | up to 24, where likeness ends | 0.7 |
| sharpness | from 120, a crisp face | up to 10, a soft one | 0.9 |
| noise sigma | up to 1, what cameras leave | from 6, where CLAHE holds back | 0.6 |

need = 1 - (1 - 0.7 size) (1 - 0.9 softness) (1 - 0.6 noise): one bad measure is enough, and no good one
makes up for it. strength = 25 + 65 need. Of 138 real portraits the sharp ones get 25 in the median,
degraded ones 84 and press photos of 250 px 86.
"""

import math

from gateway.standardise.quality import Quality

LEAST, MOST = 25.0, 90.0
"""The strengths of a face that needs nothing, and of one that needs all; the input always counts a little."""

_EYES_NEED, _EYES_ENOUGH = 24.0, 107.0
_SOFT, _CRISP = 10.0, 120.0
_CALM, _NOISY = 1.0, 6.0
_SIZE_WEIGHT, _SOFTNESS_WEIGHT, _NOISE_WEIGHT = 0.7, 0.9, 0.6


def auto_strength(quality: Quality) -> float:
    """The strength, LEAST to MOST, that a face of `quality` gets.

    It never falls where a face gets smaller, softer or noisier. Without a face the size does not count.
    """
    eyes = _EYES_ENOUGH if quality.interocular_px is None else quality.interocular_px
    size = _falling(_log(eyes), _log(_EYES_NEED), _log(_EYES_ENOUGH))
    softness = _falling(_log(quality.sharpness), _log(_SOFT), _log(_CRISP))
    noise = 1 - _falling(quality.noise_sigma, _CALM, _NOISY)
    spared = (1 - _SIZE_WEIGHT * size) * (1 - _SOFTNESS_WEIGHT * softness) * (1 - _NOISE_WEIGHT * noise)
    return round(LEAST + (MOST - LEAST) * (1 - spared), 1)


def why_auto(quality: Quality) -> str:
    """The measures that decided, as the report tells them."""
    eyes = "" if quality.interocular_px is None else f"{quality.interocular_px:.0f} px between the eyes, "
    return f"{eyes}sharpness {quality.sharpness:.0f}, noise sigma {quality.noise_sigma:.1f}"


def _falling(value: float, one: float, zero: float) -> float:
    """1 up to `one`, 0 from `zero` on, a straight line between."""
    return min(max((zero - value) / (zero - one), 0.0), 1.0)


def _log(value: float) -> float:
    return math.log(max(value, 1e-6))
