from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.params import EnhanceParams
from gateway.pipeline.paste_windows import RestoredWindow, compose_photo
from gateway.standardise.face_window import cut_window
from gpen_backend.restoration.steps import Work
from gpen_common.geometry import enlarge, invert, scale_of, transform
from gpen_common.types import RestoreParams
from tests.support.restoration import run_steps

PLAIN = {"clahe": "off", "exposure": "off"}


@pytest.fixture(scope="session")
def window_of(face_at):
    """Cuts the window of a face at (x, y)."""

    def cut(photo, x, y, eyes, *, size=512, roll=0.0, **params):
        return cut_window(photo, face_at(x, y, eyes, roll), size, EnhanceParams(**params))

    return cut


def textured(width, height, seed=0, low=40, high=200):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 1.2).astype(np.float32)
    return np.rint((soft - soft.min()) / (np.ptp(soft) + 1e-3) * (high - low) + low).astype(np.uint8)


def unchanged(window, upscale=1):
    return RestoredWindow(window, enlarge(window.pixels, upscale))


def painted(window, colour):
    """A restoration of one colour."""
    return RestoredWindow(window, np.full_like(window.pixels, colour))


@settings(max_examples=60)
@given(data=st.data())
def test_unchanged_windows_give_the_photo_back(data, window_of):
    width, height = data.draw(st.integers(1, 160)), data.draw(st.integers(1, 160))
    photo, upscale = textured(width, height, width), data.draw(st.integers(1, 4))
    windows = [
        window_of(
            photo,
            data.draw(st.floats(-0.3, 1.3)) * width,
            data.draw(st.floats(-0.3, 1.3)) * height,
            data.draw(st.floats(1, 90)),
            size=data.draw(st.sampled_from([16, 40, 512])),
            roll=data.draw(st.floats(-180, 180)),
            clahe=data.draw(st.sampled_from(["auto", "always", "off"])),
            exposure=data.draw(st.sampled_from(["auto", "off"])),
        )
        for _ in range(data.draw(st.integers(0, 3)))
    ]
    composed = compose_photo(photo, [unchanged(window, upscale) for window in windows], upscale)
    np.testing.assert_array_equal(composed, enlarge(photo, upscale))


def test_compose_does_not_modify_the_photo(window_of):
    photo = textured(200, 200)
    photo.setflags(write=False)
    composed = compose_photo(photo, [painted(window_of(photo, 100, 100, 20), 255)], 1)
    assert (composed != photo).any()
    assert compose_photo(photo, [], 1) is not photo


@pytest.mark.parametrize("upscale", [1, 3])
@pytest.mark.parametrize("size", [512, 48], ids=["native", "shrunk"])
def test_change_of_a_disc_stays_inside_it(window_of, size, upscale):
    photo = textured(400, 360)
    window = window_of(photo, 210, 170, 40, size=size, **PLAIN)
    shrunk = size == 48
    assert (max(window.source.shape) == 1.75 * size) == shrunk
    height, width = window.pixels.shape[:2]
    middle, radius = np.float32((0.45 * width, 0.6 * height)), 0.15 * width
    came = enlarge(window.pixels, upscale).copy()
    y, x = np.indices(came.shape[:2]) / upscale
    inside = np.hypot(x - middle[0], y - middle[1]) < radius
    came[inside] = 255 - came[inside]
    composed = compose_photo(photo, [RestoredWindow(window, came)], upscale)
    back = invert(window.matrix)
    x0, y0 = transform(back, middle)
    far = np.hypot(
        *(
            axis / upscale - at
            for axis, at in zip(np.indices(composed.shape[:2])[::-1], (x0, y0), strict=True)
        )
    )
    # Resampling a shrunk window smears by at most two of its pixels.
    smear = 3 if shrunk else 1
    changed = (composed != enlarge(photo, upscale)).any(2)
    assert not changed[far > (radius + smear) * scale_of(back)].any()
    assert changed[far < (radius - smear) * scale_of(back)].mean() > 0.95


def test_unshrunk_window_is_put_back_exactly(window_of):
    """At the photo's scale nothing is resampled."""
    photo = textured(300, 300)
    window = window_of(photo, 150, 150, 30, **PLAIN)
    came = textured(*window.pixels.shape[1::-1], seed=5)
    composed = compose_photo(photo, [RestoredWindow(window, came)], 1)
    x0, y0, x1, y1 = window.box
    np.testing.assert_array_equal(composed[y0:y1, x0:x1], came)


def test_shrunk_window_is_put_back_in_its_place(window_of):
    """A smooth hill in the window keeps its place and height in the photo."""
    photo = np.full((700, 640, 3), 100, np.uint8)
    window = window_of(photo, 320, 350, 100, size=64, **PLAIN)
    assert max(window.source.shape) == 1.75 * 64
    back, middle = invert(window.matrix), np.float32((40, 55))
    y, x = np.indices(window.pixels.shape[:2])
    hill = 80 * np.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / (2 * 8**2))
    came = (window.pixels + hill[..., None]).round().astype(np.uint8)
    grown = compose_photo(photo, [RestoredWindow(window, came)], 1).astype(float)[..., 0] - 100
    y, x = np.indices(grown.shape)
    x0, y0 = transform(back, middle)
    assert (grown * x).sum() / grown.sum() == pytest.approx(x0, abs=0.5)
    assert (grown * y).sum() / grown.sum() == pytest.approx(y0, abs=0.5)
    assert grown.max() == pytest.approx(80, abs=2)


# --- light that was corrected for the model


def detailed(pixels, strength=0.3):
    """Amplify existing detail, as a restorer does."""
    soft = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 3)
    return np.rint(pixels + strength * (pixels - soft)).clip(0, 255).astype(np.uint8)


@pytest.fixture(params=["dark", "bright", "flat", "dark and flat"])
def ill_lit(request, astronaut):
    """A portrait in light that needs correction."""
    ramp = np.arange(256) / 255
    tones = {
        "dark": 15 + 75 * ramp**1.3,
        "bright": 140 + 100 * ramp**0.6,
        "flat": 90 + 60 * ramp,
        "dark and flat": 25 + 50 * ramp,
    }[request.param]
    return cv2.LUT(astronaut, np.rint(tones).astype(np.uint8))


def astronauts_window(window_of, photo, **params):
    window = window_of(photo, 223, 123, 42, **params)
    x, y = window.landmarks[0].mean(0).round().astype(int)
    face = slice(y - 45, y + 46), slice(x - 38, x + 39)
    return window, face


def change_of(photo, window, came):
    x0, y0, x1, y1 = window.box
    composed = compose_photo(photo, [RestoredWindow(window, came)], 1)
    return composed[y0:y1, x0:x1].astype(float) - window.source


def test_light_correction_does_not_change_the_added_detail(window_of, ill_lit):
    (lit, face), (plain, _) = (
        astronauts_window(window_of, ill_lit, **params) for params in ({"clahe": "always"}, PLAIN)
    )
    assert lit.light_plan.changes
    assert not plain.light_plan.changes
    one, other = (change_of(ill_lit, window, detailed(window.pixels))[face] for window in (lit, plain))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.85
    assert one.std() == pytest.approx(other.std(), rel=0.15)


@pytest.mark.parametrize("params", [{}, {"clahe": "always"}, {"clahe": "off"}])
def test_face_keeps_the_photos_tone(window_of, ill_lit, params):
    """The mean of the face changes by less than one level, and of each part by less than 2.5."""
    window, face = astronauts_window(window_of, ill_lit, **params)
    change = change_of(ill_lit, window, detailed(window.pixels))[face]
    assert np.abs(change.mean((0, 1))).max() < 1
    low = cv2.GaussianBlur(change, (0, 0), 10)
    assert np.abs(low).max() < 2.5


def test_adds_the_networks_texture_at_the_photos_contrast(window_of):
    """Exactly if the contrast was not changed; halved if it was doubled."""
    photo = textured(400, 400, low=110, high=150)
    y, x = np.indices((400, 400))
    for raised in (False, True):
        window = window_of(photo, 200, 200, 45, **({"clahe": "always"} if raised else PLAIN))
        texture = np.rint(8 * np.sin(x / 2) * np.sin(y / 2.5))[
            : window.pixels.shape[0], : window.pixels.shape[1]
        ]
        came = (window.pixels.astype(int) + texture[..., None].astype(int)).clip(0, 255).astype(np.uint8)
        change = change_of(photo, window, came)
        gain = window.pixels.std() / window.source.std()
        assert (gain > 1.3) == raised
        gradient = (texture * change[..., 0]).sum() / (texture**2).sum()
        assert gradient == pytest.approx(1 / gain, rel=0.2 if raised else 1e-6)
        assert abs(change.mean()) < 0.3


class Lighter:
    """An engine whose faces have another tone."""

    name, size = "lighter", 128

    def restore(self, faces):
        return cv2.add(faces, np.full_like(faces, 40))


@pytest.mark.parametrize("clahe", ["off", "always"])
def test_window_has_no_visible_border(window_of, astronaut, clahe):
    """The edge of the window equals the photo, whatever the tone of the network's faces."""
    window, _ = astronauts_window(window_of, astronaut, clahe=clahe)
    params = RestoreParams(strength=100, mode="strong", skin_protect=False)
    came = run_steps(Work(window.pixels, window.landmarks, params), Lighter()).image
    change = change_of(astronaut, window, came)
    assert np.abs(change).max() > 5
    frame = np.ones(change.shape[:2], bool)
    frame[6:-6, 6:-6] = False
    # Above this head the photo ends, so the window has no border there.
    frame[:6] = window.box[1] > 0
    assert not change[frame].any()


# --- faces whose windows overlap


def test_pixel_follows_the_nearer_face(window_of):
    photo = np.full((400, 600, 3), 128, np.uint8)
    red, blue = (
        painted(window_of(photo, x, 200, 60, **PLAIN), colour)
        for x, colour in ((240, (255, 0, 0)), (360, (0, 0, 255)))
    )
    composed = compose_photo(photo, [red, blue], 1)
    np.testing.assert_array_equal(composed, compose_photo(photo, [blue, red], 1))
    assert (composed[170:230, 200:285] == (255, 0, 0)).all()
    assert (composed[170:230, 315:400] == (0, 0, 255)).all()


def test_small_face_beside_a_large_one_keeps_its_pixels(window_of):
    """Distances are measured in each face's own size."""
    photo = np.full((600, 600, 3), 128, np.uint8)
    large = painted(window_of(photo, 250, 300, 100, **PLAIN), (255, 0, 0))
    small = painted(window_of(photo, 420, 300, 20, **PLAIN), (0, 0, 255))
    composed = compose_photo(photo, [large, small], 1)
    assert (composed[285:315, 405:435] == (0, 0, 255)).all()
    assert (composed[250:350, 200:360] == (255, 0, 0)).all()


@pytest.mark.parametrize("faces", [2, 3, 5])
def test_overlapping_changes_are_not_added_twice(window_of, faces):
    """Windows that all become 20 levels brighter make the photo 20 levels brighter."""
    photo = np.full((500, 500, 3), 100, np.uint8)
    turns = np.linspace(0, 2 * np.pi, faces, endpoint=False)
    windows = [window_of(photo, 250 + 50 * np.cos(t), 250 + 50 * np.sin(t), 60, **PLAIN) for t in turns]
    composed = compose_photo(photo, [painted(window, 120) for window in windows], 1)
    # Each face rounds separately.
    assert composed.max() <= 121
    common = slice(200, 300), slice(200, 300)
    assert (np.abs(composed[common].astype(int) - 120) <= 1).all()


def test_duplicate_face_is_restored_once(window_of):
    photo = textured(300, 300)
    window = window_of(photo, 150, 150, 40, **PLAIN)
    came = cv2.add(window.pixels, np.full_like(window.pixels, 30))
    once, twice = (
        compose_photo(photo, [RestoredWindow(window, came) for _ in range(times)], 1) for times in (1, 2)
    )
    np.testing.assert_allclose(once.astype(int), twice.astype(int), atol=1)


@pytest.mark.parametrize("eyes", [30, 60, 120])
def test_neighbouring_faces_blend_without_a_seam(window_of, eyes):
    """From black to white the photo rises over at least a ninth of the distance between the eyes."""
    side = 10 * eyes
    photo = np.full((side, side, 3), 128, np.uint8)
    black, white = (
        painted(window_of(photo, side / 2 + off * eyes, side / 2, eyes, **PLAIN), colour)
        for off, colour in ((-1, 0), (1, 255))
    )
    row = compose_photo(photo, [black, white], 1)[side // 2, side // 2 - eyes : side // 2 + eyes, 0]
    steps = [int(b) - int(a) for a, b in pairwise(row)]
    assert min(steps) >= 0
    assert max(steps) <= 255 * 9 / eyes
    assert row[0] == 0
    assert row[-1] == 255


@pytest.mark.parametrize("upscale", [2, 4])
def test_enlarged_photo_blends_at_the_same_places(window_of, upscale):
    photo = np.full((300, 400, 3), 128, np.uint8)
    windows = [window_of(photo, x, 150, 40, **PLAIN) for x in (160, 240)]
    one = compose_photo(photo, [painted(w, c) for w, c in zip(windows, (0, 255), strict=True)], 1)
    large = compose_photo(
        photo,
        [
            RestoredWindow(w, np.full_like(enlarge(w.pixels, upscale), c))
            for w, c in zip(windows, (0, 255), strict=True)
        ],
        upscale,
    )
    back = cv2.resize(large, (400, 300), interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - one)[20:-20, 120:280].max() < 16


def test_distant_windows_are_independent(window_of):
    photo = textured(900, 300)
    one, other = (window_of(photo, x, 150, 25, **PLAIN) for x in (150, 750))
    came = [RestoredWindow(w, textured(*w.pixels.shape[1::-1], seed=3)) for w in (one, other)]
    both = compose_photo(photo, came, 1)
    np.testing.assert_array_equal(both, compose_photo(compose_photo(photo, came[:1], 1), came[1:], 1))
