"""Decode an uploaded image file into upright 8-bit sRGB pixels."""

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, TiffImagePlugin

from gateway.errors import DamagedPicture, TooManyPixels, UnsupportedPicture
from gateway.imaging.colour import lay_over_white, split_alpha, to_eight_bits, to_srgb
from gateway.imaging.jpeg_scans import count_scans
from gateway.imaging.orientation import turn_upright
from gateway.imaging.original import Original, extract_original
from gpen_common.types import Pixels

READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
"""Pillow's names of the supported input formats. Pillow tries no other decoder."""

# A JPEG may have this many scans if it has the maximum number of pixels, more if it has fewer. One scan of 64
# megapixels takes about 0.05 s to decode.
_MAX_SCANS = 100


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """Maximum number of pixels, and maximum length of a side in px. Checked before pixels are decoded."""

    max_pixels: int
    max_side: int


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A decoded photo.

    pixels: (H, W, 3) uint8 RGB in sRGB, upright, transparency composited over white. original: what the
    conversion lost. format: Pillow's name of the file format. warnings: input features that were ignored, for
    the report. file_size: (width, height) of the upright image in the file, px, if decoding reduced it.
    """

    pixels: Pixels
    original: Original
    format: str
    warnings: tuple[str, ...] = ()
    file_size: tuple[int, int] | None = None

    @property
    def alpha(self) -> NDArray[np.uint8] | None:
        """(H, W) uint8, or None if the photo is opaque."""
        return self.original.alpha

    @property
    def width(self) -> int:
        """Upright width, px."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Upright height, px."""
        return int(self.pixels.shape[0])


def decode(data: bytes, limits: PixelLimits, short_edge: int | None = None) -> Photo:
    """Decode `data`; of an animation or a multi-page file, the first frame.

    short_edge: minimum length of the shorter edge, px. A JPEG with at least two, four or eight times as many
    is decoded at 1/2, 1/4 or 1/8 of its size, which is much faster. None decodes at full size.
    Raises UnsupportedPicture, TooManyPixels, DamagedPicture.
    """
    image = _open(data)
    _check_size(image, limits)
    _check_scans(image, data, limits)
    warnings: list[str] = []
    image_format = image.format or ""
    try:
        file_size = image.size
        _reduce(image, short_edge)
        image.load()
        upright = turn_upright(image, warnings)
        file_size = file_size if upright.size == image.size else file_size[::-1]
        colour, alpha = split_alpha(to_eight_bits(upright))
        srgb, profile = to_srgb(colour, upright.info.get("icc_profile"), warnings)
        pixels = np.asarray(srgb if alpha is None else lay_over_white(srgb, alpha))
        original = extract_original(colour, srgb, alpha, profile, upright.info.get("exif"))
    except Exception as error:
        # Hostile bytes make decoders raise exceptions of any type.
        raise DamagedPicture(f"the {image_format} picture cannot be decoded: {error}") from error
    reduced = file_size != (pixels.shape[1], pixels.shape[0])
    return Photo(pixels, original, image_format, tuple(warnings), file_size if reduced else None)


def _open(data: bytes) -> Image.Image:
    """Read the header. Pixels are not decoded yet."""
    try:
        return Image.open(io.BytesIO(data), formats=READABLE_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(f"the picture has more pixels than this gateway accepts: {error}") from error
    except Exception as error:
        raise UnsupportedPicture(
            "the data is not a picture in a supported format; send " + ", ".join(READABLE_FORMATS)
        ) from error


def _check_size(image: Image.Image, limits: PixelLimits) -> None:
    _check_sides(*image.size, limits)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # libtiff decodes whole tiles, which may be much larger than the image itself.
        width = image.tag_v2.get(TiffImagePlugin.TILEWIDTH)
        height = image.tag_v2.get(TiffImagePlugin.TILELENGTH)
        if isinstance(width, int) and isinstance(height, int):
            _check_sides(width, height, limits)


def _check_scans(image: Image.Image, data: bytes, limits: PixelLimits) -> None:
    """Limit pixels times scans: a JPEG of a few megabytes can take hours to decode."""
    if image.format in ("JPEG", "MPO"):
        scans = count_scans(data)
        if scans * image.width * image.height > _MAX_SCANS * limits.max_pixels:
            raise TooManyPixels(
                f"the JPEG has {scans:,} scans of {image.width}x{image.height} pixels, which takes too long "
                "to decode; save it again with fewer scans"
            )


def _check_sides(width: int, height: int, limits: PixelLimits) -> None:
    if width * height > limits.max_pixels:
        raise TooManyPixels(
            f"the picture has {width}x{height} pixels; at most {limits.max_pixels:,} are allowed"
        )
    if max(width, height) > limits.max_side:
        raise TooManyPixels(
            f"the picture's longer side has {max(width, height):,} px; at most {limits.max_side:,} px are "
            "allowed"
        )


def _reduce(image: Image.Image, short_edge: int | None) -> None:
    """Let the JPEG decoder skip the frequencies that an image of `short_edge` px does not need."""
    if short_edge is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        enough = short_edge / min(image.size)
        if enough < 1:
            image.draft(None, (math.ceil(image.width * enough), math.ceil(image.height * enough)))
