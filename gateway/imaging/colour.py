"""Colour conversion: bit depth, transparency and ICC profiles, into sRGB and back."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from gpen_common.types import Pixels

_SRGB = "sRGB"
# Signatures of the colour spaces that Pillow's modes have. Source: ICC.1:2022, table 19.
_ICC_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}

_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_GREY_MODES = ("1", "L", "LA", "La")

# Possible values of white in floating-point images. Resampling overshoots it in some of them.
_FLOAT_WHITES = (1.0, 255.0, 65535.0)
_OVERSHOOT = 1.5


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit, integer and floating-point images to 8 bits a channel, keeping their tones."""
    if image.mode == "RGB":
        return _reduce_transparent_colour(image)
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float32)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    transparent = image.info.get("transparency")
    alpha = None if transparent is None else np.where(values == transparent, 0, 255).astype(np.uint8)
    # In place: a float copy of the largest image takes a quarter of a gigabyte.
    values *= 255 / _find_white(image.mode, float(values.max(initial=0.0)))
    values += 0.5
    grey = Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8))
    grey.info = {name: value for name, value in image.info.items() if name != "transparency"}
    if alpha is not None:
        grey.putalpha(Image.fromarray(alpha))
    return grey


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split an 8-bit image into its colours, with any palette applied, and its alpha (mode L) if any."""
    # Grey stays grey: its ICC profile, if any, describes grey.
    plain = "L" if image.mode in _GREY_MODES else "RGB"
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        return rgba.convert(plain), None if alpha.getextrema() == (255, 255) else alpha
    return (image.convert(plain) if image.mode in ("P", "1") else image), None


def to_srgb(
    image: Image.Image, icc_profile: bytes | None, warnings: list[str]
) -> tuple[Image.Image, bytes | None]:
    """Convert `image` to RGB in sRGB, by its ICC profile if that is usable.

    Returns the image and the profile that an RGB image was converted with. An unusable profile adds to
    `warnings`.
    """
    if icc_profile:
        if image.mode == "RGB" and is_srgb(icc_profile):
            return image, icc_profile
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            if source.profile.xcolor_space.strip() == _ICC_SPACES.get(image.mode):
                srgb = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
                if converted is not None:
                    return converted, icc_profile if image.mode == "RGB" else None
            warnings.append("icc: the colour profile does not fit the picture and was ignored")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            warnings.append(f"icc: the colour profile cannot be used and was ignored ({error})")
    # convert() copies the image even if it already has the mode.
    return image if image.mode == "RGB" else image.convert("RGB"), None


def from_srgb(pixels: Pixels, icc_profile: bytes | None) -> Pixels:
    """Convert a copy of sRGB `pixels` (H, W, 3) to the colours of `icc_profile`."""
    if icc_profile is None or is_srgb(icc_profile):
        return pixels.copy()
    target = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
    source = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(Image.fromarray(pixels), source, target, outputMode="RGB")
    return np.array(converted, np.uint8)


def is_srgb(icc_profile: bytes) -> bool:
    """Whether the profile's own description says sRGB. Converting such an image would only add rounding."""
    try:
        return ImageCms.getProfileDescription(io.BytesIO(icc_profile)).strip().startswith(_SRGB)
    except (ImageCms.PyCMSError, OSError):
        return False


def lay_over_white(colour: Image.Image, alpha: Image.Image) -> Image.Image:
    """Composite `colour` over white."""
    white = Image.new("RGB", colour.size, "white")
    white.paste(colour, mask=alpha)
    return white


def remove_white(pixels: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    """Invert `lay_over_white`: the colours (H, W, 3) that look like `pixels` over white at `alpha` (H, W)."""
    share = np.maximum(alpha, 1).astype(np.float32)[..., np.newaxis] / 255
    colours = (pixels.astype(np.float32) - 255 * (1 - share)) / share
    return np.rint(colours).clip(0, 255).astype(np.uint8)


def _reduce_transparent_colour(image: Image.Image) -> Image.Image:
    # Of a 16-bit PNG, Pillow keeps the upper byte of each channel but both bytes of the transparent colour.
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    return image


def _find_white(mode: str, brightest: float) -> float:
    """The value that means white in an image of `mode` whose largest value is `brightest`."""
    match mode:
        case "F":
            return next((white for white in _FLOAT_WHITES if brightest <= _OVERSHOOT * white), brightest)
        case "I":
            return 255.0 if brightest <= 255 else 65535.0
        case _:
            return 65535.0
