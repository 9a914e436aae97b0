"""Photos: any picture people upload into upright sRGB, and pixels into bytes again."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from gateway.errors import DamagedPicture, TooManyPixels, UnsupportedPicture
from gpen_client.types import Pixels

OutputFormat = Literal["png", "jpeg", "webp"]

READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
"""Pillow's names of what is decoded; nothing else is even looked at."""

_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """What a picture may measure: pixels in all, and along one side. Checked before anything is decoded."""

    max_pixels: int
    max_side: int


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A decoded photo.

    pixels: (H, W, 3) uint8 RGB in sRGB, upright, transparency laid over white. alpha: (H, W) uint8 or None.
    format: Pillow's name of what was read. warnings: what could not be honoured, for the report.
    """

    pixels: Pixels
    alpha: NDArray[np.uint8] | None
    format: str
    warnings: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Upright width, px."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Upright height, px."""
        return int(self.pixels.shape[0])


def decode(data: bytes, limits: PixelLimits) -> Photo:
    """The photo in `data`; of an animation or a stack of pages the first.

    Raises UnsupportedPicture, TooManyPixels, DamagedPicture.
    """
    image = _open(data)
    _check_size(image, limits)
    warnings: list[str] = []
    image_format = image.format or ""
    try:
        image.load()
        image = _upright(image, warnings)
        colour, alpha = _split_alpha(_eight_bits(image))
        colour = _to_srgb(colour, image.info.get("icc_profile"), warnings)
        pixels = np.asarray(colour if alpha is None else _over_white(colour, alpha))
    except Exception as error:
        # Decoders raise whatever they like when the bytes are hostile: none of it is our fault or our crash.
        raise DamagedPicture(f"the {image_format} picture cannot be decoded: {error}") from error
    return Photo(pixels, None if alpha is None else np.asarray(alpha), image_format, tuple(warnings))


def encode(pixels: Pixels, output_format: OutputFormat, quality: int) -> bytes:
    """`pixels` (H, W, 3) uint8 RGB as a file; the same pixels always give the same bytes.

    quality: 1 to 100 for jpeg and webp; png is lossless whatever it says.
    """
    options: Iterable[int] = ()
    match output_format:
        case "jpeg":
            # Chroma at half resolution softens lips and eyes, which high qualities are chosen to keep.
            sampling = (
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
                if quality >= 90
                else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
            )
            options = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)
        case "webp":
            options = (cv2.IMWRITE_WEBP_QUALITY, quality)
    written, data = cv2.imencode(f".{output_format}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), list(options))
    if not written:
        raise RuntimeError(f"OpenCV cannot write {output_format}")
    return data.tobytes()


def _open(data: bytes) -> Image.Image:
    """The picture's header; no pixel is decoded yet."""
    try:
        return Image.open(io.BytesIO(data), formats=READABLE_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(f"the picture is larger than any this gateway takes: {error}") from error
    except Exception as error:
        raise UnsupportedPicture(
            "the bytes are not a picture that can be read; send " + ", ".join(READABLE_FORMATS)
        ) from error


def _check_size(image: Image.Image, limits: PixelLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise TooManyPixels(
            f"the picture has {width}x{height} pixels, more than the {limits.max_pixels:,} that are allowed"
        )
    if max(width, height) > limits.max_side:
        raise TooManyPixels(f"the picture is {max(width, height)} px long; {limits.max_side} px are allowed")


def _upright(image: Image.Image, warnings: list[str]) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        # EXIF is written by everything and anything: a broken block costs the orientation, not the photo.
        warnings.append(f"exif: the orientation cannot be read and was ignored ({error})")
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """`image` in a mode of 8 bits a channel; 16 bits, integers and floats keep their tones."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode == "F":
        scale = 255 / max(float(values.max(initial=0.0)), 1.0)
    else:
        # 65535 white is 255 white: 65535 / 257.
        scale = 1 / 257 if image.mode != "I" or values.max(initial=0.0) > 255 else 1.0
    if image.mode == "F" and values.max(initial=0.0) <= 1.0:
        scale = 255.0
    grey = Image.fromarray(np.clip(values * scale + 0.5, 0, 255).astype(np.uint8))
    grey.info = dict(image.info)
    return grey


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, and the transparency (mode L) where there is any. A palette's colours are looked up."""
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return rgba.convert("RGB"), None
        return rgba.convert("RGB"), alpha
    return (image.convert("RGB") if image.mode in ("P", "1") else image), None


def _to_srgb(image: Image.Image, icc_profile: bytes | None, warnings: list[str]) -> Image.Image:
    """`image` as RGB in sRGB, through its colour profile where it has one that works."""
    if icc_profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            if source.profile.xcolor_space.strip() == _ICC_SPACES.get(image.mode):
                srgb = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
                if converted is not None:
                    return converted
            warnings.append("icc: the colour profile does not fit the picture and was ignored")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            warnings.append(f"icc: the colour profile cannot be used and was ignored ({error})")
    return image.convert("RGB")


# ICC.1:2022, table 19: signatures of the colour spaces that Pillow's modes have.
_ICC_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}


def _over_white(colour: Image.Image, alpha: Image.Image) -> Image.Image:
    white = Image.new("RGB", colour.size, "white")
    white.paste(colour, mask=alpha)
    return white
