"""What decoding a photo to sRGB loses, and how an edited photo gets it back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gateway.imaging.colour import from_srgb, remove_white
from gpen_common.types import Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """Data of the input file that the decoded sRGB pixels lack.

    pixels: (H, W, 3) uint8 RGB in the file's own colours, upright; None if equal to the photo's. alpha:
    (H, W) uint8 or None. icc_profile: of an RGB file. exif: the unchanged block.
    """

    pixels: Pixels | None = None
    alpha: NDArray[np.uint8] | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None


def extract_original(
    colour: Image.Image, srgb: Image.Image, alpha: Image.Image | None, profile: bytes | None, exif: object
) -> Original:
    """Collect what is lost between the file's `colour` and its `srgb` version over white."""
    own = colour if colour.mode == "RGB" else srgb
    lost = alpha is not None or own is not srgb
    return Original(
        pixels=np.asarray(own) if lost else None,
        alpha=None if alpha is None else np.asarray(alpha),
        icc_profile=profile,
        exif=exif if isinstance(exif, bytes) else None,
    )


def convert_to_original(
    pixels: Pixels, srgb: Pixels, original: Original, alpha: NDArray[np.uint8] | None
) -> Pixels:
    """Convert edited `pixels` to the colours of the original file, for display through `alpha`.

    Pixels equal to those of `srgb`, the decoded photo, get their original values bit for bit.
    """
    if original.pixels is None:
        return pixels
    colours = pixels if alpha is None else remove_white(pixels, alpha)
    colours = from_srgb(colours, original.icc_profile)
    if pixels.shape == srgb.shape and (alpha is not None or original.alpha is None):
        unchanged = (pixels == srgb).all(axis=2)
        colours[unchanged] = original.pixels[unchanged]
    return colours
