"""Encoding pixels, and edited photos with the features of their original files."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image, ImageCms

from gateway.imaging.colour import is_srgb
from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode, encode_photo
from gateway.imaging.original import Original
from gpen_common.geometry import enlarge

LIMITS = PixelLimits(max_pixels=10_000_000, max_side=20_000)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def icc_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A colour profile of version 2 by hand. Source: ICC.1:2001-04, clauses 6 and 7."""
    directory, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        directory += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = (
        struct.pack(">I", start + len(body)) + b"test" + struct.pack(">I", 0x02400000) + b"mntr" + space
        + b"XYZ " + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
        + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    )  # fmt: skip
    return head + struct.pack(">I", len(tags)) + directory + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def described(words: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(words) + 1) + words + b"\0" + bytes(78)


GAMMA = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256))
WHITE = xyz(0.9642, 1.0, 0.8249)
WIDE = icc_profile(
    b"RGB ",
    {
        b"desc": described(b"wide gamut for a test"),
        b"wtpt": WHITE,
        # The primaries of Adobe RGB (1998), adapted to D50.
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        b"rTRC": GAMMA,
        b"gTRC": GAMMA,
        b"bTRC": GAMMA,
    },
)
GREY = icc_profile(b"GRAY", {b"desc": described(b"grey for a test"), b"wtpt": WHITE, b"kTRC": GAMMA})


def colours(width=40, height=30, bands=3, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, bands)).astype(np.uint8)
    return values if bands > 1 else values[..., 0]


def file_of(pixels, file_format="png", **options):
    data = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(data, file_format, **options)
    return data.getvalue()


def back(photo, pixels=None, output_format="png", quality=95, keep_gps=False):
    """Encode the photo with `pixels` or its own, and open the result."""
    pixels = photo.pixels if pixels is None else pixels
    data = encode_photo(pixels, photo.pixels, photo.original, output_format, quality, keep_gps)
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


# --- encode


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
@settings(deadline=None, max_examples=50)
def test_png_is_lossless_and_deterministic(pixels):
    data = encode(pixels, "png", 95)
    assert data == encode(pixels, "png", 95)
    np.testing.assert_array_equal(decode(data, LIMITS).pixels, pixels)


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
@pytest.mark.parametrize("quality", [1, 50, 89, 90, 95, 100])
def test_lossy_formats_stay_close_and_are_deterministic(astronaut, output_format, quality):
    data = encode(astronaut, output_format, quality)
    assert data == encode(astronaut, output_format, quality)
    photo = decode(data, LIMITS)
    assert photo.format == output_format.upper()
    assert np.abs(photo.pixels.astype(int) - astronaut).mean() < (4 if quality >= 50 else 20)


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_higher_quality_has_more_bytes(astronaut, output_format):
    sizes = [len(encode(astronaut, output_format, quality)) for quality in (10, 50, 95)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]


def test_encoding_does_not_modify_the_pixels():
    pixels = colours()
    expected = pixels.copy()
    pixels.setflags(write=False)
    for output_format in ("png", "jpeg", "webp"):
        encode(pixels, output_format, 80)
    np.testing.assert_array_equal(pixels, expected)


# --- encode_photo: colours


@pytest.mark.parametrize("profile", [None, SRGB, WIDE, b"nonsense"], ids=["none", "srgb", "wide", "broken"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_unchanged_pixels_equal_those_of_the_file(profile, alpha, file_format):
    """Converting to sRGB and back would round."""
    pixels = colours(bands=4 if alpha else 3)
    options = {"lossless": True, "exact": True} if file_format == "webp" else {}
    photo = decode(file_of(pixels, file_format, icc_profile=profile, **options), LIMITS)
    written = back(photo)
    np.testing.assert_array_equal(np.asarray(written), pixels)
    assert written.info.get("icc_profile") == (profile if profile != b"nonsense" else None)


def test_recognises_srgb_profiles():
    assert is_srgb(SRGB)
    assert not is_srgb(WIDE)
    assert not is_srgb(b"nonsense")
    pixels = np.full((8, 8, 3), (60, 160, 90), np.uint8)
    assert (decode(file_of(pixels, icc_profile=WIDE), LIMITS).pixels != pixels).any()
    assert decode(file_of(pixels, icc_profile=SRGB), LIMITS).original.pixels is None


def test_original_has_no_pixels_if_decoding_changed_none():
    assert decode(file_of(colours()), LIMITS).original.pixels is None
    assert decode(file_of(colours(bands=4)), LIMITS).original.pixels is not None


@pytest.mark.parametrize("profile", [SRGB, WIDE], ids=["srgb", "wide"])
def test_changed_pixels_are_converted_to_the_files_profile(profile):
    soft = np.linspace((70, 90, 80), (170, 150, 160), 40)[None].repeat(30, 0).astype(np.uint8)
    photo = decode(file_of(soft, icc_profile=profile), LIMITS)
    changed = photo.pixels.copy()
    changed[5:20, 10:30] = photo.pixels[5:20, 10:30] // 2 + 60
    written = back(photo, changed)
    seen = decode(file_of(written, icc_profile=written.info["icc_profile"]), LIMITS).pixels
    np.testing.assert_allclose(seen[5:20, 10:30].astype(int), changed[5:20, 10:30], atol=2)
    untouched = np.ones(soft.shape[:2], bool)
    untouched[5:20, 10:30] = False
    np.testing.assert_array_equal(np.asarray(written)[untouched], soft[untouched])


@pytest.mark.parametrize("upscale", [2, 3])
@pytest.mark.parametrize("profile", [None, WIDE], ids=["none", "wide"])
def test_enlarged_photo_keeps_profile_and_transparency(upscale, profile):
    pixels = np.full((24, 32, 4), (90, 140, 110, 200), np.uint8)
    pixels[:, 16:, 3] = 255
    photo = decode(file_of(pixels, icc_profile=profile), LIMITS)
    written = back(photo, enlarge(photo.pixels, upscale))
    assert written.mode == "RGBA"
    assert written.size == (32 * upscale, 24 * upscale)
    assert written.info.get("icc_profile") == profile
    values = np.asarray(written).astype(int)
    for half, alpha in ((values[:, : 12 * upscale], 200), (values[:, 20 * upscale :], 255)):
        np.testing.assert_allclose(half, np.broadcast_to((90, 140, 110, alpha), half.shape), atol=2)


@pytest.mark.parametrize("profile", [None, GREY], ids=["none", "grey"])
def test_grey_photo_is_written_as_grey_srgb(profile):
    grey = colours(bands=1)
    photo = decode(file_of(grey, icc_profile=profile), LIMITS)
    written = back(photo)
    assert "icc_profile" not in written.info
    np.testing.assert_array_equal(np.asarray(written), photo.pixels)
    assert (np.ptp(photo.pixels.astype(int), axis=2) <= 1).all()


def test_cmyk_photo_is_written_in_srgb():
    image = Image.fromarray(colours(64, 48)).convert("CMYK")
    photo = decode(file_of(image, "jpeg", quality=95), LIMITS)
    written = back(photo)
    assert written.mode == "RGB"
    assert "icc_profile" not in written.info
    np.testing.assert_array_equal(np.asarray(written), photo.pixels)


def test_16_bit_and_palette_photos_are_written_as_decoded():
    deep = Image.fromarray(colours(bands=1).astype(np.uint16) * 257)
    palette = Image.fromarray(colours()).quantize(64)
    for image in (deep, palette):
        photo = decode(file_of(image), LIMITS)
        np.testing.assert_array_equal(np.asarray(back(photo)), photo.pixels)
    np.testing.assert_array_equal(decode(file_of(palette), LIMITS).pixels, np.asarray(palette.convert("RGB")))


# --- encode_photo: transparency


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_keeps_transparency(output_format):
    pixels = colours(bands=4)
    photo = decode(file_of(pixels), LIMITS)
    written = back(photo, output_format=output_format)
    assert written.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(written)[..., 3], pixels[..., 3])


def test_keeps_transparency_of_a_palette():
    palette = Image.fromarray(colours()).quantize(16)
    photo = decode(file_of(palette, transparency=3), LIMITS)
    np.testing.assert_array_equal(np.asarray(back(photo))[..., 3], np.where(np.asarray(palette) == 3, 0, 255))


@settings(max_examples=30)
@given(alpha=st.integers(16, 254), colour=st.tuples(*[st.integers(0, 255)] * 3), change=st.integers(-60, 60))
def test_change_looks_the_same_over_white_after_encoding(alpha, colour, change):
    """Up to the rounding of colours at low alpha."""
    pixels = np.full((4, 5, 4), (*colour, alpha), np.uint8)
    photo = decode(file_of(pixels), LIMITS)
    wanted = (photo.pixels[:2].astype(int) + change).clip(255 - alpha, 255)
    changed = photo.pixels.copy()
    changed[:2] = wanted
    written = np.asarray(back(photo, changed)).astype(float)
    over_white = written[..., :3] * alpha / 255 + 255 - alpha
    np.testing.assert_allclose(over_white[:2], wanted, atol=1.01)
    np.testing.assert_array_equal(written[2:], pixels[2:])
    assert (written[..., 3] == alpha).all()


def test_jpeg_composites_transparency_over_white():
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, 16:] = (200, 30, 40, 255)
    written = back(decode(file_of(pixels), LIMITS), output_format="jpeg")
    assert written.mode == "RGB"
    np.testing.assert_allclose(np.asarray(written)[:, :14].astype(int), 255, atol=3)
    np.testing.assert_allclose(np.asarray(written)[:, 18:].astype(int).mean((0, 1)), (200, 30, 40), atol=3)


@pytest.mark.parametrize("profile", [SRGB, WIDE], ids=["srgb", "wide"])
@pytest.mark.parametrize("output_format", ["jpeg", "webp", "png"])
def test_keeps_the_profile_in_every_format(profile, output_format):
    photo = decode(file_of(np.full((16, 16, 3), (90, 140, 110), np.uint8), icc_profile=profile), LIMITS)
    written = back(photo, output_format=output_format)
    assert written.info["icc_profile"] == profile
    np.testing.assert_allclose(np.asarray(written)[4:12, 4:12].mean((0, 1)), (90, 140, 110), atol=3)


# --- encode_photo: EXIF


def exif_block(orientation=6):
    """An EXIF block with maker, date, orientation, location and a thumbnail."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.DateTime] = "2020:01:02 03:04:05"
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] = 2.8
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (47.0, 22.0, 30.0)
    return with_thumbnail(exif.tobytes(), file_of(np.zeros((8, 8, 3), np.uint8), "jpeg"))


def with_thumbnail(block, thumbnail):
    """Append a second directory with a thumbnail, as cameras write it."""
    tiff = bytearray(block.removeprefix(b"Exif\0\0"))
    order = ">" if tiff[:2] == b"MM" else "<"
    first = struct.unpack_from(order + "I", tiff, 4)[0]
    entries = struct.unpack_from(order + "H", tiff, first)[0]
    struct.pack_into(order + "I", tiff, first + 2 + 12 * entries, len(tiff))
    data_at = len(tiff) + 2 + 3 * 12 + 4
    tiff += struct.pack(order + "H", 3)
    for tag, kind, value in ((0x0103, 4, 6), (0x0201, 4, data_at), (0x0202, 4, len(thumbnail))):
        tiff += struct.pack(order + "HHII", tag, kind, 1, value)
    return b"Exif\0\0" + bytes(tiff) + struct.pack(order + "I", 0) + thumbnail


@pytest.mark.parametrize("output_format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("input_format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("keep_gps", [False, True])
def test_keeps_exif_without_orientation_thumbnail_and_location(input_format, output_format, keep_gps):
    block = exif_block()
    source = Image.open(io.BytesIO(file_of(colours(40, 24), input_format, exif=block))).getexif()
    assert source.get_ifd(ExifTags.IFD.IFD1)
    assert source.get_ifd(ExifTags.IFD.GPSInfo)
    photo = decode(file_of(colours(40, 24), input_format, exif=block), LIMITS)
    written = back(photo, output_format=output_format, keep_gps=keep_gps)
    exif = written.getexif()
    assert written.size == (24, 40)
    assert exif[ExifTags.Base.Make] == "Maker"
    assert exif[ExifTags.Base.DateTime] == "2020:01:02 03:04:05"
    assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == pytest.approx(2.8)
    assert ExifTags.Base.Orientation not in exif
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert exif.get_ifd(ExifTags.IFD.GPSInfo) == (
        {ExifTags.GPS.GPSLatitude: (47.0, 22.0, 30.0)} if keep_gps else {}
    )
    assert b"\xff\xd8" not in written.info["exif"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_writes_every_orientation_upright(orientation):
    upright = Image.fromarray(colours())
    lying = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = upright if lying is None else upright.transpose(lying)
    written = back(decode(file_of(stored, exif=exif_block(orientation), icc_profile=WIDE), LIMITS))
    np.testing.assert_array_equal(np.asarray(written), np.asarray(upright))
    assert ExifTags.Base.Orientation not in written.getexif()


@pytest.mark.parametrize("output_format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0junk",
        b"nothing of the kind",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        exif_block()[:60],
        exif_block()[:-40].replace(b"Maker", b"\xff\xfe\0\0\0"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_does_not_fail_encoding(block, output_format):
    pixels = colours()
    original = Original(exif=block)
    data = encode_photo(pixels, pixels, original, output_format, 95, keep_gps=False)
    assert Image.open(io.BytesIO(data)).size == (40, 30)


def test_drops_maker_notes_of_exif_too_long_for_jpeg():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = bytes(70_000)
    photo = decode(file_of(colours(), exif=exif.tobytes()), LIMITS)
    assert back(photo, output_format="jpeg").getexif()[ExifTags.Base.Make] == "Maker"
    assert len(back(photo, output_format="webp").info["exif"]) > 70_000
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    photo = decode(file_of(colours(), exif=exif.tobytes()), LIMITS)
    assert "exif" not in back(photo, output_format="jpeg").info


def test_encoding_a_photo_is_deterministic():
    photo = decode(file_of(colours(bands=4), exif=exif_block(), icc_profile=WIDE), LIMITS)
    for output_format in ("png", "jpeg", "webp"):
        files = {
            encode_photo(photo.pixels, photo.pixels, photo.original, output_format, 90, False) for _ in "123"
        }
        assert len(files) == 1


def test_quality_changes_jpeg_and_webp_but_not_png():
    pixels = colours(200, 150)
    for output_format, smaller in (("jpeg", True), ("webp", True), ("png", False)):
        low, high = (encode_photo(pixels, pixels, Original(), output_format, q, False) for q in (30, 95))
        assert (len(low) < len(high)) == smaller
