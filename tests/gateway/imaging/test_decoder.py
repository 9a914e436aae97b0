"""Decoding any supported picture into upright 8-bit sRGB."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from gateway.errors import TooManyPixels
from gateway.imaging.decoder import Photo, PixelLimits, decode

LIMITS = PixelLimits(max_pixels=1_000_000, max_side=10_000)
# Blocks of strong colours in an odd shape: no two turns of it look alike, even after lossy compression.
UPRIGHT = cv2.resize(
    np.random.default_rng(3).integers(0, 256, (3, 5, 3), dtype=np.uint8),
    (80, 48),
    interpolation=cv2.INTER_NEAREST,
)
# How the upright picture is stored for each orientation. Source: CIPA DC-008 (Exif 3.0), tag 274.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def saved(picture: Image.Image | np.ndarray, file_format: str, **options) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    image.save(file, file_format, **options)
    return file.getvalue()


def read(data: bytes) -> Photo:
    """Decode, and check the invariants and that there are no warnings."""
    photo = decode(data, LIMITS)
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.shape == (photo.height, photo.width, 3)
    assert photo.warnings == ()
    return photo


def far_off(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference of two pictures."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


def exif(orientation: int, *others: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block. others: further tags, as (tag, type, count, four bytes)."""
    entries = sorted([(ExifTags.Base.Orientation, 3, 1, struct.pack("<HH", orientation, 0)), *others])
    body = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("file_format", "options", "tolerance"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}, 8),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 8),
    ],
)
def test_decodes_every_orientation_upright(orientation, file_format, options, tolerance):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    photo = read(saved(STORED[orientation](UPRIGHT), file_format, exif=tags, **options))
    assert far_off(photo.pixels, UPRIGHT) <= tolerance
    assert photo.format == file_format


def test_applies_an_orientation_in_xmp():
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    photo = read(saved(STORED[6](UPRIGHT), "WEBP", lossless=True, xmp=packet))
    assert far_off(photo.pixels, UPRIGHT) == 0


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_ignores_an_invalid_orientation(orientation):
    assert far_off(read(saved(UPRIGHT, "PNG", exif=exif(orientation))).pixels, UPRIGHT) == 0


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "tag", [ExifTags.Base.ImageDescription, ExifTags.Base.ExifOffset, ExifTags.Base.GPSInfo, 700]
)
@pytest.mark.parametrize("kind", range(14))
def test_malformed_exif_tag_keeps_the_orientation(tag, kind):
    """Real cameras write tags of wrong types, and lengths past the end."""
    data = saved(
        STORED[6](UPRIGHT), "JPEG", quality=100, subsampling=0, exif=exif(6, (tag, kind, 1, b"\1\0\0\0"))
    )
    assert far_off(read(data).pixels, UPRIGHT) <= 8


def test_decodes_a_photo_with_broken_exif():
    photo = decode(saved(UPRIGHT, "PNG", exif=b"Exif\0\0II*\0\xff\xff"), LIMITS)
    assert far_off(photo.pixels, UPRIGHT) == 0


ALPHA = np.tile(np.linspace(0, 255, 80).astype(np.uint8), (48, 1))


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.round(colour * share + 255 * (1 - share)).astype(np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_composites_transparency_over_white_and_keeps_alpha(file_format):
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    photo = read(saved(np.dstack([UPRIGHT, ALPHA]), file_format, **options))
    assert far_off(photo.alpha, ALPHA) == 0
    assert far_off(photo.pixels, over_white(UPRIGHT, ALPHA)) <= 1


def test_decodes_grey_with_transparency():
    grey = UPRIGHT[..., 0]
    photo = read(saved(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(ALPHA)]), "PNG"))
    assert far_off(photo.alpha, ALPHA) == 0
    assert far_off(photo.pixels, over_white(np.dstack([grey] * 3), ALPHA)) <= 1


def test_opaque_alpha_is_none():
    assert read(saved(np.dstack([UPRIGHT, np.full_like(ALPHA, 255)]), "PNG")).alpha is None


def test_alpha_is_turned_upright():
    stored = STORED[6](np.dstack([UPRIGHT, ALPHA]))
    assert far_off(read(saved(stored, "PNG", exif=exif(6))).alpha, ALPHA) == 0


def test_decodes_palettes_with_and_without_transparency():
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    assert read(saved(image, "PNG")).pixels.tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    photo = read(saved(image, "PNG", transparency=b"\x00\xff\x80"))
    assert photo.alpha.tolist() == [[0, 255, 128]]
    assert photo.pixels[0, :2].tolist() == [[255, 255, 255], [40, 50, 60]]


@pytest.mark.parametrize(
    ("mode", "values", "key"),
    [("RGB", [(1, 2, 3), (4, 5, 6)], (4, 5, 6)), ("L", [7, 8], 8), ("I;16", [7, 8], 8)],
)
def test_decodes_a_single_transparent_colour(mode, values, key):
    image = Image.new(mode, (2, 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    photo = read(saved(image, "PNG", transparency=key))
    assert photo.alpha.tolist() == [[255, 0]]
    assert photo.pixels[0, 1].tolist() == [255, 255, 255]


RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_tones(file_format):
    photo = read(saved(RAMP, file_format))
    assert photo.pixels[..., 0].ravel().tolist() == list(range(256))
    assert read(saved(RAMP // 16, file_format)).pixels.max() == 16, "a dark picture stays dark"


def test_16_bit_colour_keeps_its_tones():
    colour = np.random.default_rng(0).integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    written, png = cv2.imencode(".png", colour)
    assert written
    assert far_off(read(png.tobytes()).pixels, colour[..., ::-1] >> 8) == 0


@pytest.mark.parametrize(("white", "given"), [(255, 255), (255, 200), (65535, 65535), (65535, 1000)])
def test_32_bit_integers_keep_their_tones(white, given):
    values = np.linspace(0, given, 16).astype(np.int32).reshape(4, 4)
    assert far_off(read(saved(values, "TIFF")).pixels[..., 0], values / white * 255) <= 1


@pytest.mark.parametrize(
    ("white", "given"), [(1, 1.0), (1, 0.5), (1, 1.05), (255, 255.0), (255, 200.0), (65535, 6e4)]
)
def test_floats_keep_their_tones_for_any_white(white, given):
    values = np.linspace(0, given, 16, dtype=np.float32).reshape(4, 4)
    assert far_off(read(saved(values, "TIFF")).pixels[..., 0], np.clip(values / white * 255, 0, 255)) <= 1


def test_decodes_nan_and_infinity_as_black():
    values = np.array([[np.nan, 1.0], [np.inf, -np.inf]], np.float32)
    assert read(saved(values, "TIFF")).pixels[..., 0].tolist() == [[0, 255], [0, 0]]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
def test_decodes_one_bit_pictures(file_format):
    bits = UPRIGHT[..., 0] > 127
    assert far_off(read(saved(Image.fromarray(bits), file_format)).pixels[..., 1], bits * 255) == 0


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "BMP"])
def test_grey_has_equal_channels(file_format):
    pixels = read(saved(UPRIGHT[..., 0], file_format)).pixels
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(file_format):
    """Adobe's CMYK JPEGs, as Pillow writes them too, are stored inverted; TIFFs are not."""
    inks = Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in (255, 0, 0, 0)])
    red, green, blue = read(saved(inks, file_format)).pixels[8, 8].tolist()
    assert red < 30
    assert min(green, blue) > 225


def test_decodes_ycbcr_tiff():
    photo = read(saved(Image.fromarray(UPRIGHT).convert("YCbCr"), "TIFF"))
    assert far_off(photo.pixels, UPRIGHT) <= 3


def test_decodes_lab_tiff():
    assert (
        far_off(
            read(saved(Image.new("LAB", (4, 4), (128, 128, 128)), "TIFF")).pixels, np.full((4, 4, 3), 119)
        )
        <= 1
    )


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_decodes_the_first_frame(file_format):
    frames = [Image.new("RGB", (24, 16), colour) for colour in ("red", "lime", "blue")]
    photo = read(saved(frames[0], file_format, save_all=True, append_images=frames[1:]))
    assert (photo.width, photo.height) == (24, 16)
    assert far_off(photo.pixels, np.full((16, 24, 3), (255, 0, 0), np.uint8)) <= 4


def test_decodes_a_transparent_gif():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    photo = read(saved(image, "GIF", transparency=1))
    assert photo.alpha.tolist() == [[255, 0]]
    assert photo.pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize("tail", [b"PK\3\4 an archive", b"<script>", bytes(10_000)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_ignores_data_appended_to_a_picture(tail, file_format):
    data = saved(UPRIGHT, file_format)
    assert far_off(read(data + tail).pixels, read(data).pixels) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_decodes_any_shape(size, file_format):
    photo = read(saved(Image.new("RGB", size, "white"), file_format))
    assert (photo.width, photo.height) == size


def test_rejects_one_pixel_over_the_limit():
    at_limit = saved(Image.new("L", (1000, 1000)), "PNG")
    assert decode(at_limit, LIMITS).width == 1000
    with pytest.raises(TooManyPixels, match="999,999"):
        decode(at_limit, PixelLimits(max_pixels=999_999, max_side=10_000))


def test_rejects_a_side_over_the_limit():
    with pytest.raises(TooManyPixels, match="10,001 px"):
        decode(saved(Image.new("L", (10_001, 2)), "PNG"), LIMITS)
