"""Photos: any picture people upload into upright sRGB, and pixels into bytes again."""

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, TiffImagePlugin

from gateway.errors import DamagedPicture, TooManyPixels, UnsupportedPicture
from gateway.imaging.jpeg_scans import count_scans
from gateway.imaging.original import Original, is_srgb
from gpen_common.types import Pixels

OutputFormat = Literal["png", "jpeg", "webp"]

READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
"""Pillow's names of what is decoded; nothing else is even looked at."""

_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
_GREY_MODES = ("1", "L", "LA", "La")

# What turns a picture upright, by its EXIF orientation. Source: CIPA DC-008 (Exif 3.0), tag 274.
_UPRIGHT_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What white may be in pictures of floats; resampling leaves some values above it.
_FLOAT_WHITES = (1.0, 255.0, 65535.0)
_OVERSHOOT = 1.5

# Scans of the largest picture that is allowed; 64 megapixels take about 0.05 s each.
_MAX_SCANS = 100


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """What a picture may measure: pixels in all, and along one side. Checked before anything is decoded."""

    max_pixels: int
    max_side: int


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A decoded photo.

    pixels: (H, W, 3) uint8 RGB in sRGB, upright, transparency laid over white. original: what that lost.
    format: Pillow's name of what was read. warnings: what could not be honoured, for the report. file_size:
    (width, height) of the upright picture in the file, px, where that is larger than `pixels`.
    """

    pixels: Pixels
    original: Original
    format: str
    warnings: tuple[str, ...] = ()
    file_size: tuple[int, int] | None = None

    @property
    def alpha(self) -> NDArray[np.uint8] | None:
        """(H, W) uint8, or None where nothing is transparent."""
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
    """The photo in `data`; of an animation or a stack of pages the first.

    short_edge: px that the shorter edge must have at least. A JPEG that has two, four or eight times as many
    is decoded to a half, a quarter or an eighth, in a fraction of the time. None decodes all of it.
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
        upright = _upright(image, warnings)
        file_size = file_size if upright.size == image.size else file_size[::-1]
        image = upright
        colour, alpha = _split_alpha(_eight_bits(image))
        srgb, profile = _to_srgb(colour, image.info.get("icc_profile"), warnings)
        pixels = np.asarray(srgb if alpha is None else _over_white(srgb, alpha))
        original = _original(colour, srgb, alpha, profile, image.info.get("exif"))
    except Exception as error:
        # Decoders raise whatever they like when the bytes are hostile: none of it is our fault or our crash.
        raise DamagedPicture(f"the {image_format} picture cannot be decoded: {error}") from error
    reduced = file_size != (pixels.shape[1], pixels.shape[0])
    return Photo(pixels, original, image_format, tuple(warnings), file_size if reduced else None)


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
        case "png":
            # Photos repeat nothing that a search could find: without one a portrait is written in 21 ms in
            # place of 26, and the better filter makes it 4 % smaller.
            options = (
                cv2.IMWRITE_PNG_STRATEGY,
                cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
                cv2.IMWRITE_PNG_FILTER,
                cv2.IMWRITE_PNG_FILTER_AVG,
            )
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
    _check_sides(*image.size, limits)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # A tile is unpacked whole, however little of it lies in the picture.
        width = image.tag_v2.get(TiffImagePlugin.TILEWIDTH)
        height = image.tag_v2.get(TiffImagePlugin.TILELENGTH)
        if isinstance(width, int) and isinstance(height, int):
            _check_sides(width, height, limits)


def _check_scans(image: Image.Image, data: bytes, limits: PixelLimits) -> None:
    """A JPEG of a few bytes may ask for hours: what counts is how often its pixels are gone over."""
    if image.format in ("JPEG", "MPO"):
        scans = count_scans(data)
        if scans * image.width * image.height > _MAX_SCANS * limits.max_pixels:
            raise TooManyPixels(
                f"the JPEG goes {scans} times over its {image.width}x{image.height} pixels; save it anew"
            )


def _check_sides(width: int, height: int, limits: PixelLimits) -> None:
    if width * height > limits.max_pixels:
        raise TooManyPixels(
            f"the picture has {width}x{height} pixels, more than the {limits.max_pixels:,} that are allowed"
        )
    if max(width, height) > limits.max_side:
        raise TooManyPixels(f"the picture is {max(width, height)} px long; {limits.max_side} px are allowed")


def _reduce(image: Image.Image, short_edge: int | None) -> None:
    """Has a JPEG's decoder leave out the frequencies that a picture of `short_edge` px does not need."""
    if short_edge is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        enough = short_edge / min(image.size)
        if enough < 1:
            image.draft(None, (math.ceil(image.width * enough), math.ceil(image.height * enough)))


def _upright(image: Image.Image, warnings: list[str]) -> Image.Image:
    # Pillow's exif_transpose writes the whole block anew, and fails where any tag of it is odd.
    try:
        turn = _UPRIGHT_TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:
        # EXIF is written by everything and anything: a broken block costs the orientation, not the photo.
        warnings.append(f"exif: the orientation cannot be read and was ignored ({error})")
        return image
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    """`image` in a mode of 8 bits a channel; 16 bits, integers and floats keep their tones."""
    if image.mode == "RGB":
        return _eight_bit_transparency(image)
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float32)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    see_through = image.info.get("transparency")
    alpha = None if see_through is None else np.where(values == see_through, 0, 255).astype(np.uint8)
    # In place: a copy of the largest picture in floats takes a quarter of a gigabyte.
    values *= 255 / _white(image.mode, float(values.max(initial=0.0)))
    values += 0.5
    grey = Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8))
    grey.info = {name: value for name, value in image.info.items() if name != "transparency"}
    if alpha is not None:
        grey.putalpha(Image.fromarray(alpha))
    return grey


def _eight_bit_transparency(image: Image.Image) -> Image.Image:
    # Pillow keeps the upper byte of a PNG's 16 bits, but both bytes of the colour that is see-through.
    see_through = image.info.get("transparency")
    if isinstance(see_through, tuple) and max(see_through) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in see_through)
    return image


def _white(mode: str, brightest: float) -> float:
    """The value that stands for white where `brightest` is the largest of a picture in `mode`."""
    match mode:
        case "F":
            return next((white for white in _FLOAT_WHITES if brightest <= _OVERSHOOT * white), brightest)
        case "I":
            return 255.0 if brightest <= 255 else 65535.0
        case _:
            return 65535.0


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, and the transparency (mode L) where there is any. A palette's colours are looked up."""
    # Grey stays grey, for its colour profile is one of grey.
    plain = "L" if image.mode in _GREY_MODES else "RGB"
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        return rgba.convert(plain), None if alpha.getextrema() == (255, 255) else alpha
    return (image.convert(plain) if image.mode in ("P", "1") else image), None


def _to_srgb(
    image: Image.Image, icc_profile: bytes | None, warnings: list[str]
) -> tuple[Image.Image, bytes | None]:
    """`image` as RGB in sRGB, through its colour profile where it has one that works, and that profile."""
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
    # Converting to its own mode would copy the picture.
    return image if image.mode == "RGB" else image.convert("RGB"), None


def _original(
    colour: Image.Image, srgb: Image.Image, alpha: Image.Image | None, profile: bytes | None, exif: object
) -> Original:
    """What is lost between the file's `colour` and the photo in sRGB over white."""
    own = colour if colour.mode == "RGB" else srgb
    lost = alpha is not None or own is not srgb
    return Original(
        pixels=np.asarray(own) if lost else None,
        alpha=None if alpha is None else np.asarray(alpha),
        icc_profile=profile,
        exif=exif if isinstance(exif, bytes) else None,
    )


# ICC.1:2022, table 19: signatures of the colour spaces that Pillow's modes have.
_ICC_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}


def _over_white(colour: Image.Image, alpha: Image.Image) -> Image.Image:
    white = Image.new("RGB", colour.size, "white")
    white.paste(colour, mask=alpha)
    return white
