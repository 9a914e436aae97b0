import asyncio
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BackendAway, HeadTurned, NoFace
from gateway.imaging.decoder import Photo, PixelLimits
from gateway.imaging.original import Original
from gateway.params import EnhanceParams
from gateway.pipeline.photo_enhancer import PhotoEnhancer
from gateway.pipeline.picture_bytes import Picture
from gateway.pipeline.picture_request import PictureRequest
from gateway.timings import Timings
from gpen_common.geometry import enlarge
from gpen_common.threads import Threads
from gpen_common.types import ModelInfo, Restored
from tests.support.faces import GivenFinder


@dataclass
class StandIn:
    """A backend that applies `paint` to every window after `slow` turns of the event loop.

    asked: (pixels, landmarks, params) of every request. full: set at eight concurrent requests.
    at_once: maximum of concurrent requests. cancelled: number of cancelled requests.
    """

    paint: object = None
    slow: int = 0
    size: int | None = 512
    asked: list = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    now: int = 0
    at_once: int = 0
    cancelled: int = 0

    @property
    def model(self):
        return ModelInfo("gpen-bfr-512", ready=True, engine="stand-in", size=self.size)

    async def restore(self, pixels, landmarks, params):
        self.asked.append((pixels, landmarks, params))
        self.now += 1
        self.at_once = max(self.at_once, self.now)
        if self.now == 8:
            self.full.set()
        try:
            for _ in range(self.slow):
                await asyncio.sleep(0)
            came = enlarge(pixels, params.upscale)
            came = self.paint(came, params) if self.paint else came
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1
        return Restored(came, "stand-in", "gpen-bfr-512", 0 if landmarks is None else len(landmarks), 1)


LIMITS = PixelLimits(max_pixels=10**9, max_side=32_000)


def enhance(pixels, found, backend, threads, **params):
    photo = Photo(pixels, Original(), "PNG")
    wanted = EnhanceParams(output="photo", **params)
    asked = PictureRequest(Picture(b"", ""), wanted, "id", 60, Timings())
    return PhotoEnhancer(GivenFinder(found), threads, LIMITS).restore_faces(photo, asked, backend)


@pytest.fixture(scope="module")
def whole():
    """Enhances a photo with given faces."""
    threads = Threads(2)

    def run(pixels, found, backend=None, **params):
        return asyncio.run(enhance(pixels, found, backend or StandIn(), threads, **params))

    yield run
    threads.close()


def textured(width, height, seed=0):
    return np.random.default_rng(seed).integers(20, 230, (height, width, 3)).astype(np.uint8)


def crowd(face_at, columns, rows, eyes=16.0, apart=64):
    """A photo full of faces, and the faces."""
    faces = [face_at(apart * (x + 0.5), apart * (y + 0.5), eyes) for y in range(rows) for x in range(columns)]
    return textured(apart * columns, apart * rows), faces


@settings(max_examples=25)
@given(data=st.data())
def test_identity_backend_gives_the_photo_back(data, whole, face_at):
    width, height = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    photo, upscale = textured(width, height), data.draw(st.integers(1, 4))
    places = st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2), st.floats(1, 150), st.floats(-180, 180))
    faces = [
        face_at(x * width, y * height, eyes, roll)
        for x, y, eyes, roll in data.draw(st.lists(places, max_size=4))
    ]
    done = whole(
        photo,
        faces,
        StandIn(size=data.draw(st.sampled_from([None, 32, 512]))),
        upscale=upscale,
        clahe=data.draw(st.sampled_from(["auto", "always", "off"])),
        exposure=data.draw(st.sampled_from(["auto", "off"])),
    )
    np.testing.assert_array_equal(done.pixels, enlarge(photo, upscale))


# --- which faces


def test_sends_one_window_with_landmarks_per_face(whole, face_at):
    photo, faces = crowd(face_at, 3, 2)
    backend = StandIn()
    done = whole(photo, faces, backend, clahe="off", exposure="off")
    assert [window.face for window in done.windows] == faces
    assert len(done.restored) == len(backend.asked) == 6
    for window, (pixels, landmarks, params) in zip(done.windows, backend.asked, strict=True):
        x0, y0, x1, y1 = window.box
        np.testing.assert_array_equal(pixels, photo[y0:y1, x0:x1])
        np.testing.assert_allclose(landmarks[0] + (x0, y0), window.face.landmarks5, atol=1e-3)
        assert params.auto_align is False
    assert done.warnings == ()


def test_faces_best_restores_only_the_main_face(whole, face_at):
    photo, faces = crowd(face_at, 3, 1)
    done = whole(photo, faces, faces="best")
    assert [window.face for window in done.windows] == faces[:1]
    assert done.left_alone == ()


def test_tiny_face_is_left_alone_and_reported(whole, face_at):
    photo = textured(300, 200)
    tiny, fair = face_at(60, 60, 11.5), face_at(200, 100, 12.5)
    done = whole(photo, [fair, tiny], StandIn(paint=lambda pixels, _: 255 - pixels))
    assert [window.face for window in done.windows] == [fair]
    (left,) = done.left_alone
    assert left.face is tiny
    assert left.reason.startswith("too small: 1")
    assert any("1 of 2 faces" in warning for warning in done.warnings)
    np.testing.assert_array_equal(done.pixels[40:80, 40:80], photo[40:80, 40:80])


@pytest.mark.parametrize("yaw", [50.0, -46.0])
@pytest.mark.parametrize(("policy", "left"), [("warn", 1), ("reject", 1), ("off", 0)])
def test_turned_head_is_left_alone_and_reported(whole, face_at, yaw, policy, left):
    photo = textured(400, 200)
    faces = [face_at(100, 100, 30, yaw=yaw), face_at(300, 100, 30)]
    done = whole(photo, faces, yaw=policy)
    assert [one.face for one in done.left_alone] == faces[:left]
    assert all(f"turned by {abs(yaw):.0f}°" in one.reason for one in done.left_alone)


def test_slightly_turned_head_has_less_strength_or_is_left_alone(whole, face_at):
    photo, face = textured(300, 200), face_at(100, 100, 30, yaw=35)
    others = [face_at(220, 100, 30)]
    softened = whole(photo, [face, *others], backend := StandIn(), yaw="warn", strength=80)
    assert softened.left_alone == ()
    assert [params.strength for *_, params in backend.asked] == [56, 80]
    assert [[rule.rule for rule in rules if rule.parameter == "strength"] for rules in softened.rules] == [
        ["large_yaw"],
        [],
    ]
    assert len(whole(photo, [face, *others], yaw="reject").left_alone) == 1


def test_rejects_a_photo_of_turned_heads_only(whole, face_at):
    turned = [face_at(100, 100, 30, yaw=yaw) for yaw in (30, -60)]
    with pytest.raises(HeadTurned, match="yaw=warn"):
        whole(textured(300, 200), turned, yaw="reject")
    with pytest.raises(HeadTurned):
        whole(textured(300, 200), [turned[0], face_at(220, 100, 30)], yaw="reject", faces="best")


def test_photo_without_a_face_is_unchanged_with_a_warning(whole):
    photo = textured(90, 60)
    done = whole(photo, [], backend := StandIn(), upscale=2)
    np.testing.assert_array_equal(done.pixels, enlarge(photo, 2))
    assert backend.asked == []
    assert done.warnings == ("no_face: the face finder 'given' found no face; nothing was restored",)
    with pytest.raises(NoFace):
        whole(photo, [], no_face="reject")


# --- many at once


def test_restores_at_most_eight_faces_at_a_time(whole, face_at):
    photo, faces = crowd(face_at, 6, 5)
    done = whole(photo, faces[:29], backend := StandIn(slow=50))
    assert len(done.restored) == 29
    assert backend.at_once == 8


def test_slow_windows_are_put_back_in_their_places(whole, face_at):
    """The order of the answers does not matter."""
    photo, faces = crowd(face_at, 4, 3, eyes=13)
    marks = iter(range(10, 130, 10))
    seen = {}

    def mark(pixels, _):
        colour = seen.setdefault(pixels.tobytes(), next(marks))
        return np.full_like(pixels, colour)

    done = whole(photo, faces, StandIn(paint=mark, slow=7), clahe="off", exposure="off")
    for window in done.windows:
        x, y = window.face.landmarks5.mean(0).astype(int)
        assert (done.pixels[y - 4 : y + 5, x - 4 : x + 5] == seen[window.pixels.tobytes()]).all()


def test_failure_of_one_window_cancels_the_others(whole, face_at):
    photo, faces = crowd(face_at, 6, 5)

    def fail(pixels, _):
        if len(backend.asked) >= 8 and not backend.cancelled:
            raise BackendAway("gone")
        return pixels

    backend = StandIn(paint=fail, slow=3)
    with pytest.raises(BackendAway, match="gone"):
        whole(photo, faces, backend)
    assert backend.cancelled
    assert backend.now == 0
    # Windows that waited for a place were never sent.
    assert len(backend.asked) <= 16


def test_cancellation_cancels_every_window(face_at):
    photo, faces = crowd(face_at, 5, 3)
    backend, threads = StandIn(slow=10**9), Threads(2)

    async def leave():
        work = asyncio.create_task(enhance(photo, faces, backend, threads))
        await backend.full.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(leave())
    threads.close()
    assert backend.cancelled == 8
    assert len(backend.asked) == 8


# --- the picture as a whole


def test_adjusts_the_whole_photo_once_after_the_faces(whole, face_at):
    photo, faces = crowd(face_at, 3, 2)
    wanted = {
        "denoise": 10.0, "sharpen": 20.0, "brightness": 30.0, "contrast": 40.0, "detail_enhance": True,
    }  # fmt: skip

    def paint(pixels, params):
        return cv2.add(pixels, np.full_like(pixels, 20)) if params.brightness else pixels

    done = whole(photo, faces, backend := StandIn(paint=paint), upscale=2, **wanted)
    *windows, (pixels, landmarks, params) = backend.asked
    assert len(windows) == len(faces)
    for _, _, asked in windows:
        assert asked.model_dump(include=set(wanted)) == {
            **dict.fromkeys(wanted, 0.0),
            "detail_enhance": False,
        }
    assert params.model_dump(include=set(wanted)) == wanted
    assert landmarks is None
    assert params.strength == 0
    assert params.upscale == 1
    assert pixels.shape == (256, 384, 3)
    # The same change of tone everywhere, without borders of windows.
    np.testing.assert_array_equal(done.pixels, cv2.add(enlarge(photo, 2), np.full_like(pixels, 20)))


def test_adjusts_a_photo_without_a_face(whole):
    done = whole(textured(90, 60), [], backend := StandIn(), denoise=50)
    assert len(backend.asked) == len(done.restored) == 1


def test_light_correction_does_not_change_the_photo(whole, face_at):
    photo = (textured(300, 300) * 0.25).astype(np.uint8)
    done = whole(photo, [face_at(150, 150, 40)], backend := StandIn())
    ((sent, *_),) = backend.asked
    x0, y0, x1, y1 = done.windows[0].box
    assert sent.mean() > 1.5 * photo[y0:y1, x0:x1].mean()
    np.testing.assert_array_equal(done.pixels, photo)


# --- what it costs


def test_large_photo_sends_only_windows_of_bounded_size(whole, face_at):
    """Of twelve megapixels filled with one face, 0.05 are sent for a network of 128 px."""
    photo = np.zeros((3000, 4000, 3), np.uint8)
    done = whole(photo, [face_at(2000, 1500, 600), face_at(300, 300, 20)], backend := StandIn(size=128))
    assert done.pixels.shape == photo.shape
    large, small = (pixels.shape[0] * pixels.shape[1] for pixels, *_ in backend.asked)
    assert large <= (1.75 * 128 + 1) ** 2
    assert small <= 20**2 * 6**2


_FIFTY_MEGAPIXELS = """
    import asyncio, resource, sys
    import numpy as np
    from gateway.faces import Face
    from gateway.imaging.original import Original
    from gateway.params import EnhanceParams
    from gateway.imaging.decoder import Photo, PixelLimits
    from gpen_common.threads import Threads
    from gateway.timings import Timings
    from gateway.pipeline.picture_bytes import Picture
    from gateway.pipeline.picture_request import PictureRequest
    from gateway.pipeline.photo_enhancer import PhotoEnhancer
    from gpen_common.types import ModelInfo, Restored

    def face(x, eyes):
        unit = np.array([(-0.5, -0.5), (0.5, -0.5), (0, 0), (-0.4, 0.6), (0.4, 0.6)])
        return Face((x - eyes, 3000, x + eyes, 5000), (eyes * unit + (x, 3600)).astype(np.float32), 0.9, None)

    class Finder:
        name = "given"
        def find(self, pixels):
            return [face(2600, 900.0), face(4400, 900.0)]

    class Inverts:
        model = ModelInfo("m", True, "inverts", size=512)
        async def restore(self, pixels, landmarks, params):
            return Restored(255 - pixels, "inverts", "m", 1, 1)

    pixels = np.full((7200, 7000, 3), 60, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    photo, params = Photo(pixels, Original(), "PNG"), EnhanceParams(output="photo")
    asked = PictureRequest(Picture(b"", ""), params, "id", 600, Timings())
    enhancer = PhotoEnhancer(Finder(), Threads(2), PixelLimits(10**9, 10**5))
    done = asyncio.run(enhancer.restore_faces(photo, asked, Inverts()))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert (done.pixels[3600] != 60).any()
"""


@pytest.mark.slow
def test_faces_filling_fifty_megapixels_need_bounded_memory():
    """The result has 151 MB; floats for all channels of one window would take 300 MB more."""
    if sys.platform != "linux":
        pytest.skip("peak memory is measured in KiB on Linux alone")
    code = textwrap.dedent(_FIFTY_MEGAPIXELS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 250 * 1024
