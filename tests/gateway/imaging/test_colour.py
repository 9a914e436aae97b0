"""ICC profiles are applied; unusable ones are a warning, not an error."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from gateway.imaging.decoder import Photo, PixelLimits, decode

LIMITS = PixelLimits(max_pixels=1_000_000, max_side=10_000)

# Colorants adapted to D50 by the Bradford transform, rows of X, Y, Z.
# Sources: IEC 61966-2-1, and Adobe RGB (1998).
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
D50 = (0.9642, 1.0, 0.8249)


def xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma_curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A display profile by ICC.1:2001-04: 128 bytes of header, the table of tags, the tags."""
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": xyz(D50), **tags}
    table, data = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12x4s24x",
        132 + len(table) - 4 + len(data),
        b"test",
        0x02400000,
        b"mntr",
        space,
        b"XYZ ",
        b"acsp",
    )
    return (
        (header + struct.pack(">3i", *(round(value * 65536) for value in D50))).ljust(128, b"\0")
        + table
        + data
    )


def rgb_profile(colorants: np.ndarray, gamma: float) -> bytes:
    curves = {name: gamma_curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return profile(
        b"RGB ", {**curves, **dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, colorants.T), strict=True))}
    )


ADOBE = rgb_profile(ADOBE_RGB, 563 / 256)
GREY = profile(b"GRAY", {b"kTRC": gamma_curve(1.8)})
STANDARD = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(image: Image.Image, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def read(data: bytes) -> Photo:
    return decode(data, LIMITS)


def srgb_encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light, 0 to 1, as sRGB of 0 to 255. Source: IEC 61966-2-1."""
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# Within sRGB's gamut even when they are Adobe RGB.
COLOURS = np.random.default_rng(5).integers(90, 170, (8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_converts_wide_gamut_to_srgb(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    photo = read(saved(Image.fromarray(COLOURS), file_format, icc_profile=ADOBE, **options))
    linear = (COLOURS / 255) ** (563 / 256) @ (np.linalg.inv(SRGB) @ ADOBE_RGB).T
    assert np.abs(photo.pixels - srgb_encoded(linear)).max() <= 2
    assert np.abs(photo.pixels.astype(int) - COLOURS).max() > 10, "the profile must matter"
    assert photo.warnings == ()


@pytest.mark.parametrize("file_format", ["JPEG", "AVIF"])
def test_converts_wide_gamut_of_lossy_files_to_srgb(file_format):
    image = Image.new("RGB", (16, 16), (60, 200, 60))
    with_profile = read(saved(image, file_format, quality=100, icc_profile=ADOBE)).pixels[8, 8]
    without = read(saved(image, file_format, quality=100)).pixels[8, 8]
    assert without[0] - with_profile[0].astype(int) > 40, "Adobe's green is greener than sRGB's"


def test_srgb_profile_changes_nothing():
    photo = read(saved(Image.fromarray(COLOURS), "PNG", icc_profile=STANDARD))
    assert np.abs(photo.pixels.astype(int) - COLOURS).max() <= 1
    assert photo.warnings == ()


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
EXPECTED_RAMP = srgb_encoded((RAMP / 255) ** 1.8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RAMP),
        Image.fromarray(RAMP.astype(np.uint16) * 257),
        Image.merge("LA", [Image.fromarray(RAMP), Image.new("L", (16, 16), 254)]),
    ],
    ids=["8 bit", "16 bit", "with alpha"],
)
def test_applies_grey_profiles_to_all_grey_modes(image):
    photo = read(saved(image, "PNG", icc_profile=GREY))
    assert np.abs(photo.pixels[..., 0] - EXPECTED_RAMP).max() < 3
    assert photo.warnings == ()


def test_profile_does_not_change_transparency():
    alpha = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    image = Image.fromarray(COLOURS)
    plain = read(saved(image, "PNG", icc_profile=ADOBE)).pixels
    image.putalpha(alpha)
    photo = read(saved(image, "PNG", icc_profile=ADOBE))
    assert (photo.alpha == np.asarray(alpha)).all()
    share = np.asarray(alpha)[..., None] / 255
    assert np.abs(photo.pixels - (plain * share + 255 * (1 - share))).max() <= 1


BROKEN = {
    "noise": bytes(range(256)) * 3,
    "one byte": b"\0",
    "cut": ADOBE[:200],
    "table of lies": STANDARD[:128] + b"\xff" * (len(STANDARD) - 128),
    "lab": ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    "xyz": ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes(),
    "grey in a colour picture": GREY,
    "no curves": profile(b"RGB ", {}),
}


@pytest.mark.parametrize("icc_profile", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_unusable_profile_is_a_warning(icc_profile, file_format):
    image = Image.fromarray(COLOURS)
    photo = read(saved(image, file_format, icc_profile=icc_profile))
    assert (photo.pixels == read(saved(image, file_format)).pixels).all()
    assert [warning.partition(":")[0] for warning in photo.warnings] == ["icc"]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_profile_of_another_colour_space_is_a_warning(mode):
    photo = read(saved(Image.new(mode, (16, 16)), "JPEG", icc_profile=ADOBE))
    assert [warning.partition(":")[0] for warning in photo.warnings] == ["icc"]


@given(
    st.sampled_from([ADOBE, GREY, STANDARD]),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(deadline=None, max_examples=150)
def test_any_profile_leaves_the_photo_readable(icc_profile, changes):
    data = bytearray(icc_profile)
    for place, value in changes:
        data[place % len(data)] = value
    mode = "L" if icc_profile is GREY else "RGB"
    photo = read(saved(Image.new(mode, (4, 4), "grey"), "TIFF", icc_profile=bytes(data)))
    assert photo.pixels.shape == (4, 4, 3)
