"""`output=photo` over HTTP: the whole photo at its own geometry with every face restored."""

import asyncio
import base64
import io
import shutil
import sys

import httpx
import numpy as np
import pytest
from PIL import ExifTags, Image

from gateway.faces.yunet import YunetFinder
from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode
from gateway.settings import LimitSettings, Settings
from gateway.standardise.face_window import find_window_box
from tests.support.faces import GivenFinder

pytestmark = pytest.mark.anyio

LIMITS = PixelLimits(max_pixels=64_000_000, max_side=32_000)
AS_JSON = {"Accept": "application/json"}


def textured(width, height, seed=0):
    return np.random.default_rng(seed).integers(20, 230, (height, width, 3)).astype(np.uint8)


async def ask(client, data, headers=None, **params):
    return await client.post(
        "/v1/enhance", params={"output": "photo", **params}, content=data, headers=headers, timeout=120
    )


def picture(answer):
    assert answer.status_code == 200, answer.text
    return decode(answer.content, LIMITS).pixels


def parse_report(answer):
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["report"], decode(base64.b64decode(body["image_base64"]), LIMITS).pixels


@pytest.mark.parametrize("file_format", ["png", "webp", "jpeg"])
async def test_photo_keeps_its_size_and_format(serving, echo_backend, face_at, file_format):
    photo = textured(211, 157)
    async with serving(echo_backend(), GivenFinder([face_at(100, 80, 25)])) as client:
        answer = await ask(client, encode(photo, file_format, 90))
    assert answer.headers["Content-Type"] == f"image/{file_format}"
    assert answer.headers["X-Faces"] == "1"
    assert picture(answer).shape == photo.shape
    if file_format == "png":
        np.testing.assert_array_equal(picture(answer), photo)


@pytest.mark.parametrize("upscale", [1, 2, 4])
async def test_upscale_multiplies_the_photos_size(serving, echo_backend, face_at, upscale):
    backend = echo_backend()
    async with serving(backend, GivenFinder([face_at(60, 50, 20)])) as client:
        answer = await ask(client, encode(textured(120, 90), "png", 90), upscale=upscale)
    assert picture(answer).shape == (90 * upscale, 120 * upscale, 3)
    assert [asked.parameters["upscale"] for asked in backend.asked] == [upscale]


async def test_report_lists_restored_and_left_alone_faces(serving, echo_backend, face_at):
    faces = [face_at(80, 100, 30), face_at(250, 100, 8), face_at(330, 100, 30, yaw=60)]
    async with serving(echo_backend(), GivenFinder(faces)) as client:
        report, _ = parse_report(await ask(client, encode(textured(400, 200), "png", 90), AS_JSON))
    assert [face["landmarks5"][0] for face in report["faces"]] == [
        pytest.approx(faces[0].landmarks5[0].tolist(), abs=0.01)
    ]
    assert [one["reason"][:5] for one in report["left_alone"]] == ["too s", "turne"]
    assert report["left_alone"][0]["bbox"] == pytest.approx(faces[1].bbox)
    assert report["portrait"] is None
    assert report["quality"]["interocular_px"] == pytest.approx(30, abs=0.1)
    assert any("2 of 3 faces" in warning for warning in report["warnings"])


@pytest.mark.parametrize("refuse", [{"no_face": "reject"}, {"yaw": "reject"}])
async def test_policies_reject_a_photo(serving, echo_backend, face_at, refuse):
    finder = GivenFinder([] if "no_face" in refuse else [face_at(60, 50, 20, yaw=40)])
    async with serving(echo_backend(), finder) as client:
        answer = await ask(client, encode(textured(120, 90), "png", 90), **refuse)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_photo_without_a_face_is_unchanged_with_a_warning(serving, echo_backend):
    photo = textured(120, 90)
    async with serving(echo_backend(), GivenFinder()) as client:
        report, pixels = parse_report(await ask(client, encode(photo, "png", 90), AS_JSON))
    np.testing.assert_array_equal(pixels, photo)
    assert report["faces"] == []
    assert report["face"] is None
    assert report["engine"] == "echo"
    assert report["warnings"][0].startswith("no_face:")


async def test_every_orientation_gives_the_same_upright_photo(serving, echo_backend, face_at):
    upright = Image.fromarray(textured(150, 110))
    lying = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    async with serving(echo_backend(), GivenFinder([face_at(75, 50, 20)])) as client:
        for orientation, turn in lying.items():
            exif, file = Image.Exif(), io.BytesIO()
            exif[ExifTags.Base.Orientation] = orientation
            (upright if turn is None else upright.transpose(turn)).save(file, "png", exif=exif)
            answer = await ask(client, file.getvalue())
            np.testing.assert_array_equal(picture(answer), np.asarray(upright))
            assert ExifTags.Base.Orientation not in Image.open(io.BytesIO(answer.content)).getexif()


@pytest.mark.parametrize(("keep", "kept"), [("safe", False), ("all", True)])
async def test_keeps_the_location_only_if_asked(serving, echo_backend, keep, kept):
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAltitude] = 400.0
    Image.fromarray(textured(40, 30)).save(file, "jpeg", exif=exif)
    async with serving(echo_backend(), GivenFinder()) as client:
        answer = await ask(client, file.getvalue(), keep_metadata=keep)
    written = Image.open(io.BytesIO(answer.content)).getexif()
    assert written[ExifTags.Base.Make] == "Maker"
    assert bool(written.get_ifd(ExifTags.IFD.GPSInfo)) == kept


async def test_transparent_photo_stays_transparent_except_as_jpeg(serving, echo_backend, face_at):
    pixels, file = np.dstack([textured(120, 90), textured(120, 90, 1)[..., 0]]), io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    async with serving(echo_backend(), GivenFinder([face_at(60, 45, 20)])) as client:
        answer = await ask(client, file.getvalue())
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), pixels)
        as_jpeg = await ask(client, file.getvalue(), format="jpeg")
        assert Image.open(io.BytesIO(as_jpeg.content)).mode == "RGB"


# --- limits


@pytest.mark.parametrize("size", [(200, 150), (300, 20)], ids=["pixels", "side"])
async def test_rejects_a_result_over_the_limits_before_restoring(serving, echo_backend, face_at, size):
    backend, settings = echo_backend(), Settings(limits=LimitSettings(max_pixels=100_000, max_side=500))
    data = encode(textured(*size), "png", 90)
    async with serving(backend, GivenFinder([face_at(60, 15, 20)]), settings) as client:
        refused = await ask(client, data, upscale=2)
        assert refused.status_code == 422
        assert "upscale" in refused.json()["detail"]
        assert not backend.asked
        assert (await ask(client, data)).status_code == 200


@pytest.mark.parametrize(("width", "upscale"), [(16_400, 1), (8_200, 2)])
async def test_rejects_a_photo_too_wide_for_webp_only_as_webp(serving, echo_backend, width, upscale):
    data = encode(textured(width, 3), "png", 90)
    async with serving(echo_backend(), GivenFinder()) as client:
        refused = await ask(client, data, format="webp", upscale=upscale)
        assert refused.status_code == 422
        assert "webp" in refused.json()["detail"]
        for output_format in ("png", "jpeg"):
            answer = await ask(client, data, format=output_format, upscale=upscale)
            assert picture(answer).shape[1] == width * upscale


async def test_deadline_during_restoration_cancels_every_face(serving, echo_backend, face_at):
    started, given_up = [], []

    async def silent(request):
        started.append(request)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            given_up.append(request)
            raise

    faces = [face_at(40 + 60 * x, 50, 15) for x in range(12)]
    async with serving(echo_backend(answer=silent), GivenFinder(faces)) as client:
        answer = await ask(client, encode(textured(760, 100), "png", 90), timeout_s=0.5)
    assert answer.status_code == 504
    assert len(started) == len(given_up)
    # A waiting face may have started when the first was cancelled; the others never start.
    assert 8 <= len(started) < 12


async def test_failure_of_one_face_fails_the_request(serving, echo_backend, face_at):
    calls = []

    async def fails_once(request):
        calls.append(request)
        if len(calls) == 3:
            return httpx.Response(400, json={"error": "no such thing"})
        await asyncio.sleep(60)

    faces = [face_at(40 + 60 * x, 50, 15) for x in range(6)]
    async with serving(echo_backend(answer=fails_once), GivenFinder(faces)) as client:
        answer = await ask(client, encode(textured(400, 100), "png", 90))
    assert answer.status_code == 502
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_portrait_sends_at_most_64_faces(serving, echo_backend, fixed_finder):
    backend = echo_backend()
    async with serving(backend, fixed_finder(faces=70)) as client:
        answer = await ask(client, encode(textured(300, 300), "png", 90), AS_JSON, output="portrait")
    report, _ = parse_report(answer)
    assert backend.asked[0].tensor("landmarks").shape == (64, 5, 2)
    assert len(report["faces"]) == 64
    assert any("of 70 faces" in warning and "64" in warning for warning in report["warnings"])


# --- the real thing


@pytest.fixture(scope="module")
def group_1927(shared):
    path = shared / "portraits" / "old-group-1927.png"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path.read_bytes()


def away_from(faces, shape):
    """Mask, (height, width) bool, of the pixels outside every face's window."""
    away = np.ones(shape[:2], bool)
    for face in faces:
        x0, y0, x1, y1 = find_window_box(np.float32(face["landmarks5"]), shape[1], shape[0])
        away[y0:y1, x0:x1] = False
    return away


def check_group(data, answer):
    report, enhanced = parse_report(answer)
    photo = decode(data, LIMITS).pixels
    assert report["finder"] == "yunet"
    assert 26 <= len(report["faces"]) + len(report["left_alone"]) <= 31
    assert len(report["faces"]) >= 26
    assert enhanced.shape == photo.shape
    assert (enhanced != photo).any()
    away = away_from(report["faces"], photo.shape)
    assert away.mean() > 0.2
    np.testing.assert_array_equal(enhanced[away], photo[away])


async def test_group_photo_changes_only_at_its_faces(serving, yunet_path, group_1927):
    async with serving(finder=YunetFinder(yunet_path)) as client:
        check_group(group_1927, await ask(client, group_1927, AS_JSON))


@pytest.mark.slow
async def test_group_photo_over_a_socket(server_process, yunet_path, group_1927, tmp_path):
    shutil.copy(yunet_path, tmp_path)
    environment = {
        "GATEWAY_FACE_FINDER": "yunet",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_MODELS_DIR": str(tmp_path),
        "PYTHONWARNINGS": "error",
    }
    command = [sys.executable, "-m", "gateway", "serve", "--port", "0"]
    with server_process(command, environment, tmp_path) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            check_group(group_1927, await ask(client, group_1927, AS_JSON))
