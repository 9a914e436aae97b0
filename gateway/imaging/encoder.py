"""Encode pixels as an image file."""

import io
from collections.abc import Iterable
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gateway.imaging.exif import clean_exif
from gateway.imaging.original import Original, convert_to_original
from gpen_common.types import Pixels

OutputFormat = Literal["png", "jpeg", "webp"]

LONGEST_WEBP = 16_383
"""Maximum side of a WebP image, px. Source: WEBP_MAX_DIMENSION of libwebp's encode.h."""

# Maximum EXIF block of a JPEG, bytes: a segment is 65,535 long, two of which are its length. Source: ITU-T
# T.81, B.1.1.4.
_LONGEST_JPEG_EXIF = 65_533


def encode(pixels: Pixels, output_format: OutputFormat, quality: int) -> bytes:
    """Encode `pixels` (H, W, 3) uint8 RGB. Deterministic.

    quality: 1 to 100, for jpeg and webp; png is lossless and ignores it.
    """
    options: Iterable[int] = ()
    match output_format:
        case "jpeg":
            # Chroma at half resolution softens lips and eyes: high qualities keep it in full.
            sampling = (
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
                if quality >= 90
                else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
            )
            options = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)
        case "webp":
            options = (cv2.IMWRITE_WEBP_QUALITY, quality)
        case "png":
            # Photos have no repetitions for LZ77 to find. Huffman coding alone takes 21 ms a portrait in
            # place of 26, and the average filter makes the file 4 % smaller.
            options = (
                cv2.IMWRITE_PNG_STRATEGY,
                cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
                cv2.IMWRITE_PNG_FILTER,
                cv2.IMWRITE_PNG_FILTER_AVG,
            )
    written, data = cv2.imencode(f".{output_format}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), list(options))
    if not written:
        raise RuntimeError(f"OpenCV cannot encode {output_format}")
    return data.tobytes()


def encode_photo(
    pixels: Pixels,
    srgb: Pixels,
    original: Original,
    output_format: OutputFormat,
    quality: int,
    keep_gps: bool,
) -> bytes:
    """Encode an edited photo with the colours, profile, transparency and EXIF of its original file.

    pixels: (H, W, 3) uint8 RGB in sRGB, as large as the photo or an integer multiple. srgb: the decoded
    photo; where `pixels` equals it, the file's own values are written. The EXIF block loses its orientation
    and thumbnail, and its location unless `keep_gps`. Features that `output_format` lacks are dropped, for
    instance transparency and an EXIF block over 64 KB in a JPEG.
    """
    alpha = None if output_format == "jpeg" else _enlarge_alpha(original.alpha, pixels)
    image = Image.fromarray(convert_to_original(pixels, srgb, original, alpha))
    options: dict[str, object] = {"quality": quality, "icc_profile": original.icc_profile}
    match output_format:
        case "jpeg":
            options["subsampling"] = "4:4:4" if quality >= 90 else "4:2:0"
        case "png":
            # Level 1 takes a fifth of the time of the default level, for a tenth more bytes.
            options = {"compress_level": 1, "icc_profile": original.icc_profile}
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    max_exif_bytes = _LONGEST_JPEG_EXIF if output_format == "jpeg" else None
    if exif := clean_exif(original.exif, keep_gps, max_exif_bytes):
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, output_format, **options)
    return file.getvalue()


def _enlarge_alpha(alpha: NDArray[np.uint8] | None, pixels: Pixels) -> NDArray[np.uint8] | None:
    if alpha is None or alpha.shape == pixels.shape[:2]:
        return alpha
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(alpha).resize((width, height), Image.Resampling.LANCZOS))
