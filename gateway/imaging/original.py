"""What a whole photo keeps of its file: colours as they were, profile, EXIF, transparency."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from gpen_common.types import Pixels

LONGEST_WEBP = 16_383
"""Pixels along one side of the largest WebP. Source: WEBP_MAX_DIMENSION of libwebp's encode.h."""

_SRGB = "sRGB"
# What fits into one segment of a JPEG, bytes. Source: ITU-T T.81, B.1.1.4, its length being two more.
_LONGEST_JPEG_EXIF = 65_533


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """What decoding to sRGB would lose.

    pixels: (H, W, 3) uint8 RGB as in the file, upright, or None where they are those of the photo. alpha:
    (H, W) uint8 or None. icc_profile: of an RGB file. exif: the block as it came.
    """

    pixels: Pixels | None = None
    alpha: NDArray[np.uint8] | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None


def encode_photo(
    pixels: Pixels, srgb: Pixels, original: Original, output_format: str, quality: int, keep_gps: bool
) -> bytes:
    """A changed photo as a file with what its original had; unchanged pixels are those of the original.

    pixels: (H, W, 3) uint8 RGB in sRGB, larger than the photo by a whole number or as large. srgb: the photo
    as it was decoded. output_format: `png`, `jpeg` or `webp`. Orientation and thumbnails are dropped, for
    the picture is upright and another one; the place where it was taken, unless `keep_gps`. What the output
    cannot hold, as JPEG no long EXIF, is dropped as well.
    """
    alpha = None if output_format == "jpeg" else _enlarged_alpha(original.alpha, pixels)
    image = Image.fromarray(_as_original(pixels, srgb, original, alpha))
    options: dict[str, object] = {"quality": quality, "icc_profile": original.icc_profile}
    match output_format:
        case "jpeg":
            options["subsampling"] = "4:4:4" if quality >= 90 else "4:2:0"
        case "png":
            # Level 1 takes a fifth of the time of the default, for a tenth more bytes.
            options = {"compress_level": 1, "icc_profile": original.icc_profile}
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    longest = _LONGEST_JPEG_EXIF if output_format == "jpeg" else None
    if exif := _clean_exif(original.exif, keep_gps, longest):
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, output_format, **options)
    return file.getvalue()


def is_srgb(icc_profile: bytes) -> bool:
    """Whether a colour profile is sRGB by its own description, so that converting would only round."""
    try:
        return ImageCms.getProfileDescription(io.BytesIO(icc_profile)).strip().startswith(_SRGB)
    except (ImageCms.PyCMSError, OSError):
        return False


def _enlarged_alpha(alpha: NDArray[np.uint8] | None, pixels: Pixels) -> NDArray[np.uint8] | None:
    if alpha is None or alpha.shape == pixels.shape[:2]:
        return alpha
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(alpha).resize((width, height), Image.Resampling.LANCZOS))


def _as_original(pixels: Pixels, srgb: Pixels, original: Original, alpha: NDArray[np.uint8] | None) -> Pixels:
    """`pixels` in the colours of the original file, to be seen through `alpha`.

    Those that did not change are exactly as they were.
    """
    if original.pixels is None:
        return pixels
    colours = pixels if alpha is None else _without_white(pixels, alpha)
    colours = _from_srgb(colours, original.icc_profile)
    if pixels.shape == srgb.shape and (alpha is not None or original.alpha is None):
        unchanged = (pixels == srgb).all(axis=2)
        colours[unchanged] = original.pixels[unchanged]
    return colours


def _without_white(pixels: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    """The colours that, laid over white with `alpha`, look like `pixels`."""
    share = np.maximum(alpha, 1).astype(np.float32)[..., np.newaxis] / 255
    colours = (pixels.astype(np.float32) - 255 * (1 - share)) / share
    return np.rint(colours).clip(0, 255).astype(np.uint8)


def _from_srgb(pixels: Pixels, icc_profile: bytes | None) -> Pixels:
    """A copy of `pixels` in the colours of `icc_profile`."""
    if icc_profile is None or is_srgb(icc_profile):
        return pixels.copy()
    target = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
    source = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(Image.fromarray(pixels), source, target, outputMode="RGB")
    return np.array(converted, np.uint8)


def _clean_exif(block: bytes | None, keep_gps: bool, longest: int | None) -> bytes | None:
    """What is kept of an EXIF `block`, of at most `longest` bytes."""
    if not block:
        return None
    exif = Image.Exif()
    try:
        exif.load(block)
        exif.pop(ExifTags.Base.Orientation, None)
        if not keep_gps:
            exif.pop(ExifTags.IFD.GPSInfo, None)
        # Only the first directory and those below it are written: the thumbnail's is another.
        written = exif.tobytes()
        if longest is not None and len(written) > longest:
            # The maker's own notes are what makes blocks long, and nobody else reads them.
            exif.get_ifd(ExifTags.IFD.Exif).pop(ExifTags.Base.MakerNote, None)
            written = exif.tobytes()
    except Exception:
        # EXIF is written by everything and anything: what cannot be read is not worth failing a photo for.
        return None
    return written if longest is None or len(written) <= longest else None
