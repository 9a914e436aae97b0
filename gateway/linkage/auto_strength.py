"""Choose the strength for `strength=auto` from the measured quality of a face.

Each measure becomes a need from 0 to 1 by linear interpolation between two ends. The distance between the
eyes and the sharpness enter by their logarithm, so that a factor of two counts the same at any size.

| measure | need 0 | need 1 | weight |
| --- | --- | --- | --- |
| px between the eyes in the photo | from 107, as in GPEN's template | up to 24, the likeness is lost | 0.7 |
| sharpness | from 120, a crisp face | up to 10, a soft one | 0.9 |
| noise sigma | up to 1, as from cameras | from 6, where CLAHE is halved | 0.6 |

need = 1 - (1 - 0.7 size) (1 - 0.9 softness) (1 - 0.6 noise): one bad measure is enough, and good ones do not
make up for it. strength = 25 + 65 need. Median strengths over 138 real portraits: 25 for sharp ones, 84 for
degraded ones, 86 for press photos of 250 px.
"""

import math

from gateway.standardise.quality import Quality

LEAST, MOST = 25.0, 90.0
"""Strength at need 0 and at need 1. Under 100, so that the input always contributes."""

_EYES_NEED, _EYES_ENOUGH = 24.0, 107.0
_SOFT, _CRISP = 10.0, 120.0
_CALM, _NOISY = 1.0, 6.0
_SIZE_WEIGHT, _SOFTNESS_WEIGHT, _NOISE_WEIGHT = 0.7, 0.9, 0.6


def choose_strength(quality: Quality) -> float:
    """Return the strength, LEAST to MOST, for a face of `quality`.

    Monotonic: a smaller, softer or noisier face never gets less. Without a face the size does not count.
    """
    eyes = _EYES_ENOUGH if quality.interocular_px is None else quality.interocular_px
    size = _ramp_down(_log(eyes), _log(_EYES_NEED), _log(_EYES_ENOUGH))
    softness = _ramp_down(_log(quality.sharpness), _log(_SOFT), _log(_CRISP))
    noise = 1 - _ramp_down(quality.noise_sigma, _CALM, _NOISY)
    remaining = (1 - _SIZE_WEIGHT * size) * (1 - _SOFTNESS_WEIGHT * softness) * (1 - _NOISE_WEIGHT * noise)
    return round(LEAST + (MOST - LEAST) * (1 - remaining), 1)


def explain_strength(quality: Quality) -> str:
    """Describe the measures behind the strength, for the report."""
    eyes = "" if quality.interocular_px is None else f"{quality.interocular_px:.0f} px between the eyes, "
    return f"{eyes}sharpness {quality.sharpness:.0f}, noise sigma {quality.noise_sigma:.1f}"


def _ramp_down(value: float, one: float, zero: float) -> float:
    """Interpolate: 1 up to `one`, 0 from `zero` on, linear between them."""
    return min(max((zero - value) / (zero - one), 0.0), 1.0)


def _log(value: float) -> float:
    return math.log(max(value, 1e-6))
