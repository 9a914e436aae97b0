"""Any bytes give a photo or a GatewayError, at a bounded cost."""

import io
import json
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.errors import DamagedPicture, GatewayError, TooManyPixels, UnsupportedPicture
from gateway.imaging.decoder import Photo, PixelLimits, decode
from gateway.imaging.jpeg_scans import count_scans

LIMITS = PixelLimits(max_pixels=64_000_000, max_side=32_000)
NOISE = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def saved(picture: Image.Image | np.ndarray, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, file_format, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, before: bytes = b"", bits: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(width: int, height: int, data: bytes, *tags: tuple[int, int]) -> bytes:
    """A grey TIFF of 8 bits. tags: additional ones; a value of None is the offset of `data`."""
    plain = [(256, width), (257, height), (258, 8), (262, 1), (277, 1), *tags]
    start = 14 + 12 * len(plain)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if v is None else v) for tag, v in sorted(plain))
    return b"II*\0" + struct.pack("<IH", 8, len(plain)) + entries + bytes(4) + data


def gif(screen: int, frame: int) -> bytes:
    size = struct.pack("<HHBBB", screen, screen, 0x80, 0, 0)
    return (
        b"GIF89a" + size + bytes(6) + b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\2\2\x4c\1\0;"
    )


def webp(name: bytes, data: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBP" + name + struct.pack("<I", len(data)) + data


def nothing(size: int) -> bytes:
    """`size` squared zeros, deflated to a thousandth."""
    deflate = zlib.compressobj(9)
    return b"".join(deflate.compress(bytes(size)) for _ in range(size)) + deflate.flush()


HUGE = 60_000
TILE = 30_000
BOMBS = {
    "png": png(HUGE, HUGE, bytes(100)),
    "bmp": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 999, 0, 0, 54, 40, HUGE, HUGE, 1, 24, 0, 0, 0, 0, 0, 0)
    + bytes(99),
    "gif": gif(HUGE, HUGE),
    "gif with a frame larger than its screen": gif(10, HUGE),
    "tiff": tiff(HUGE, HUGE, bytes(100), (259, 1), (273, None), (278, HUGE), (279, 100)),
    "tiff with a tile larger than itself": tiff(
        10, 10, nothing(TILE), (259, 8), (322, TILE), (323, TILE), (324, None), (325, 2**20)
    ),
    "webp": webp(b"VP8X", b"\2\0\0\0" + b"\xfe\x3f\0" * 2),
    "lossless webp": webp(b"VP8L", b"\x2f" + struct.pack("<I", 0x3FFF | 0x3FFF << 14) + bytes(5)),
    "just over the limit": png(8001, 8000, bytes(100)),
}

MEASURE = """
import json, resource, sys
from gateway.errors import GatewayError
from gateway.imaging.decoder import PixelLimits, decode

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def measured(data):
    before = peak_mb()
    try:
        decode(data, PixelLimits(max_pixels=64_000_000, max_side=32_000))
        return None, peak_mb() - before
    except GatewayError as error:
        return error.type, peak_mb() - before

print(json.dumps({name: measured(bytes.fromhex(data)) for name, data in json.load(sys.stdin).items()}))
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[str | None, float]]:
    """The error of each bomb, and the growth of a separate process's memory, MB."""
    bombs = json.dumps({name: data.hex() for name, data in BOMBS.items()}).encode()
    return json.loads(subprocess.check_output([sys.executable, "-c", MEASURE], input=bombs))


@pytest.mark.parametrize("name", BOMBS)
def test_rejects_an_oversized_header_without_allocating(name, outcomes):
    error, megabytes = outcomes[name]
    assert error == "too-many-pixels"
    assert megabytes < 30


def test_decodes_a_tile_larger_than_the_picture():
    """Pictures of a few pixels in tiles of 256 are usual."""
    tile = zlib.compress(b"\x30" * 256)
    data = tiff(10, 10, tile, (259, 8), (322, 16), (323, 16), (324, None), (325, len(tile)))
    assert decode(data, LIMITS).pixels[0, 0].tolist() == [0x30] * 3


def test_rejects_a_compressed_text_bomb():
    bomb = chunk(b"zTXt", b"Comment\0\0" + nothing(4000))
    with pytest.raises((UnsupportedPicture, DamagedPicture)):
        decode(png(1, 1, bytes(4), before=bomb), LIMITS)


def with_scans(photo: bytes, scans: int) -> bytes:
    """A progressive JPEG with its last scan, a hundred bytes, repeated `scans` times."""
    last = photo[photo.rindex(b"\xff\xda") : -2]
    return photo[:-2] + last * scans + photo[-2:]


PROGRESSIVE = saved(np.full((1000, 1000, 3), 128, np.uint8), "JPEG", progressive=True)


def test_rejects_a_jpeg_with_too_many_scans():
    """Decoding this file of 2 MB would take minutes."""
    limits = PixelLimits(max_pixels=1_000_000, max_side=1000)
    with pytest.raises(TooManyPixels, match="20,010 scans of 1000x1000 pixels"):
        decode(with_scans(PROGRESSIVE, 20_000), limits)
    assert decode(with_scans(PROGRESSIVE, 20), limits).width == 1000


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}])
def test_counts_scans_outside_metadata_only(options):
    """Not in a profile, a comment, restarts or appended data, such as the video of a phone's photo."""
    tricky = b"\xff\xda\xff\xd9" * 9
    data = saved(NOISE, "JPEG", icc_profile=tricky, comment=tricky, exif=b"Exif\0\0" + tricky, **options)
    assert count_scans(data + tricky) == count_scans(saved(NOISE, "JPEG", **options))
    assert count_scans(data) in (1, 10)


# Formats whose header is recognised even if the end is missing.
WHOLE = {
    "JPEG": saved(NOISE, "JPEG"),
    "PNG": saved(NOISE, "PNG"),
    "BMP": saved(NOISE, "BMP"),
    "TIFF": saved(NOISE, "TIFF"),
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_truncated_picture_is_damaged(data):
    with pytest.raises(DamagedPicture, match="cannot be decoded"):
        decode(data[: len(data) * 2 // 3], LIMITS)


@pytest.mark.parametrize("file_format", ["WEBP", "GIF", "AVIF"])
def test_truncation_at_any_length_is_handled(file_format):
    data = saved(NOISE, file_format)
    for length in range(0, len(data) - 1, 7):
        assert photo_or_error(data[:length]) is not None


NO_PICTURES = {
    "nothing": b"",
    "one byte": b"\xff",
    "text": "ein Foto, nehmt es für eins".encode(),
    "html": b"<!doctype html><html><body><img src='photo.jpg'></body></html>",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9'/></svg>",
    "zip": b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(100),
    "eps": saved(NOISE, "EPS"),
    "pcx": saved(NOISE, "PCX"),
    "ico": saved(NOISE, "ICO"),
    "ppm": saved(NOISE, "PPM"),
    "psd": b"8BPS\0\1\0\0\0\0\0\0\0\3\0\0\0\x10\0\0\0\x10\0\x08\0\3" + bytes(200),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
    "png signature alone": b"\x89PNG\r\n\x1a\n",
    "jpeg marker alone": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("data", NO_PICTURES.values(), ids=NO_PICTURES)
def test_unsupported_files_are_rejected(data):
    with pytest.raises(UnsupportedPicture, match="JPEG, PNG, WEBP"):
        decode(data, LIMITS)


def photo_or_error(data: bytes) -> Photo | GatewayError:
    """Decode `data`, or return its GatewayError. Other exceptions fail the test."""
    try:
        photo = decode(data, PixelLimits(max_pixels=100_000, max_side=5_000))
    except GatewayError as error:
        return error
    assert photo.pixels.shape[2] == 3
    assert photo.pixels.dtype == np.uint8
    return photo


ICC = Image.open(io.BytesIO(saved(NOISE, "PNG", icc_profile=bytes(200)))).info["icc_profile"]
SEEDS = [
    *WHOLE.values(),
    saved(
        NOISE,
        "JPEG",
        progressive=True,
        icc_profile=ICC,
        exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0",
    ),
    saved(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    saved(Image.fromarray(NOISE).quantize(16), "PNG", transparency=b"\0\x80"),
    saved(np.arange(256, dtype=np.uint16).reshape(16, 16), "PNG", transparency=7),
    saved(Image.fromarray(NOISE).quantize(16), "GIF"),
    saved(NOISE, "WEBP"),
    saved(NOISE, "WEBP", lossless=True),
    saved(NOISE, "AVIF"),
    saved(NOISE[..., 0].astype(np.float32), "TIFF"),
    saved(NOISE, "TIFF", compression="tiff_lzw"),
    saved(NOISE, "TIFF", compression="tiff_adobe_deflate"),
    saved(NOISE, "TIFF", compression="jpeg"),
    saved(Image.fromarray(NOISE), "MPO", save_all=True, append_images=[Image.fromarray(NOISE)]),
    saved(Image.fromarray(NOISE), "PNG", save_all=True, append_images=[Image.fromarray(255 - NOISE)]),
]


@given(st.binary(max_size=400), st.sampled_from([b"", *(seed[:24] for seed in SEEDS)]))
@settings(deadline=None, max_examples=300)
@example(b"\0" * 12, b"")
def test_arbitrary_bytes_are_handled(data, start):
    photo_or_error(start + data)


CHANGES = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6)


@pytest.mark.parametrize("pillow_may_warn", [False, True])
@given(st.sampled_from(SEEDS), CHANGES, st.integers(0, 2**16))
@settings(deadline=None, max_examples=400)
def test_damaged_pictures_are_handled(pillow_may_warn, seed, changes, cut):
    """Half of the changes hit the headers. With warnings ignored, as in production, more is decoded."""
    data = bytearray(seed[: max(len(seed) - cut, 30)] if cut % 3 == 0 else seed)
    for place, value in changes:
        data[place % (80 if place % 2 else len(data)) % len(data)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if pillow_may_warn else "error")
        photo_or_error(bytes(data))


def test_error_states_size_and_limit():
    with pytest.raises(TooManyPixels, match=r"8001x8000 pixels; at most 64,000,000"):
        decode(BOMBS["just over the limit"], LIMITS)
