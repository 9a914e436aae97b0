"""Compare a restored face with the ground truth on the same crop of the face."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpen_common.geometry import compose, invert, similarity, transform, warp
from gpen_common.types import Matrix, Pixels, Points

TEMPLATE_EYES = np.array([(202.04, 242.59), (309.43, 242.59)], np.float32)
"""Eyes of GPEN's 512 px template, levelled; 107 px apart."""

CROP_SIDE = 224
"""Side of the compared crop, px of that template: brows to below the mouth, cheek to cheek."""

_CORNER = np.array([144.0, 188.0])


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Similarity to the ground truth. psnr: dB. ssim: 1 is identical. toned_*: after fitting each channel's
    gain and offset to the truth, so that an intended light correction is not an error. lpips: perceptual
    distance, 0 is identical; None if the package is not available."""

    psnr: float
    ssim: float
    toned_psnr: float
    toned_ssim: float
    lpips: float | None


def crop_matrix(landmarks5: Points) -> Matrix:
    """Return the transform (2, 3) from px of a photo with the true `landmarks5` (5, 2) to px of the crop."""
    matrix = similarity(landmarks5[:2], TEMPLATE_EYES)
    matrix[:, 2] -= _CORNER
    return matrix


def crop(pixels: Pixels, to_pixels: Matrix, to_crop: Matrix) -> Pixels | None:
    """Cut the compared crop (CROP_SIDE, CROP_SIDE, 3) out of a result; None if the result cuts it off.

    to_pixels: (2, 3), from px of the photo to px of the result. to_crop: from `crop_matrix`.
    """
    matrix = compose(to_crop, invert(to_pixels))
    edge = CROP_SIDE - 1
    corners = transform(invert(matrix), np.array([(0, 0), (edge, 0), (edge, edge), (0, edge)], np.float32))
    height, width = pixels.shape[:2]
    if (corners < -0.5).any() or (corners > (width - 0.5, height - 0.5)).any():
        return None
    return warp(pixels, matrix, (CROP_SIDE, CROP_SIDE))


def compare(result: Pixels, truth: Pixels, perceptual: "Perceptual | None" = None) -> Fidelity:
    """Measure the similarity of two crops (H, W, 3) uint8 RGB."""
    toned = match_tone(result, truth)
    return Fidelity(
        psnr=_psnr(truth, result),
        ssim=_ssim(truth, result),
        toned_psnr=_psnr(truth, toned),
        toned_ssim=_ssim(truth, toned),
        lpips=perceptual.distance(result, truth) if perceptual else None,
    )


def match_tone(result: Pixels, truth: Pixels) -> Pixels:
    """Apply to each channel of `result` the gain and offset that bring it closest to `truth`."""
    matched = np.empty(result.shape, np.float64)
    for channel in range(3):
        x, y = (picture[..., channel].astype(np.float64) for picture in (result, truth))
        spread = x.var()
        gain = ((x - x.mean()) * (y - y.mean())).mean() / spread if spread > 0 else 0.0
        matched[..., channel] = (x - x.mean()) * gain + y.mean()
    return np.clip(np.rint(matched), 0, 255).astype(np.uint8)


class Perceptual:
    """LPIPS with AlexNet (Zhang et al. 2018) from the package `lpips`. Raises PerceptualUnavailable."""

    def __init__(self) -> None:
        try:
            import lpips
            import torch

            self._torch: Any = torch
            self._network: Any = lpips.LPIPS(net="alex", verbose=False).eval()
        # lpips downloads weights and raises many kinds of exceptions.
        except Exception as error:
            raise PerceptualUnavailable(f"{type(error).__name__}: {error}") from error

    def distance(self, one: Pixels, other: Pixels) -> float:
        """Return the distance of two crops (H, W, 3) uint8 RGB."""
        with self._torch.inference_mode():
            tensors = [
                self._torch.from_numpy(p.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
                for p in (one, other)
            ]
            return float(self._network(*tensors))


class PerceptualUnavailable(Exception):
    """LPIPS is not available; the message says why."""


def _psnr(truth: Pixels, result: Pixels) -> float:
    # Imported late: it loads SciPy, which would slow down the start of every server.
    from skimage.metrics import peak_signal_noise_ratio

    if np.array_equal(truth, result):
        # PSNR is infinite here; 100 dB keeps means finite.
        return 100.0
    return float(peak_signal_noise_ratio(truth, result, data_range=255))  # type: ignore[no-untyped-call]


def _ssim(truth: Pixels, result: Pixels) -> float:
    from skimage.metrics import structural_similarity

    # Parameters of Wang et al. 2004.
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]
            truth, result, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
    )  # fmt: skip
