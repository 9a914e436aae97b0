import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gateway.errors import HeadTurned, NoFace
from gateway.faces import Face, Pose, make_finder
from gateway.faces.yunet import YunetFinder
from gateway.imaging.decoder import Photo, PixelLimits, decode
from gateway.params import PreprocessParams
from gateway.standardise import standardise
from gateway.standardise.framing import FACE_EYES
from gateway.standardise.light import find_face_region, measure_light
from gateway.timings import Timings
from gpen_common.geometry import transform
from tests.support.faces import GivenFinder

LIMITS = PixelLimits(max_pixels=64_000_000, max_side=32_000)
UNIT = np.array([(0.35, 0.4), (0.65, 0.4), (0.5, 0.57), (0.38, 0.75), (0.62, 0.75)])


def face(middle, side, pose=None):
    (x, y), half = middle, side / 2
    landmarks5 = (UNIT * side + (x - half, y - half)).astype(np.float32)
    return Face((x - half, y - half, x + half, y + half), landmarks5, 0.9, pose)


def photo_of(pixels, warnings=()):
    return Photo(pixels, None, "PNG", warnings)


def portrait_of(photo, *faces, **params):
    return standardise(photo, PreprocessParams(**params), GivenFinder(list(faces)), Timings())


def lightness(pixels):
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[..., 0]


@pytest.fixture(scope="module")
def photo():
    y, x = np.indices((800, 1200))
    pixels = np.stack([60 + x // 10, 90 + y // 10, 100 + (x + y) // 40], -1)
    return photo_of((pixels + np.random.default_rng(0).integers(-20, 20, pixels.shape)).astype(np.uint8))


# --- faces and policies


def test_face_away_from_the_edges_is_centred(photo):
    portrait = portrait_of(photo, face((600, 400), 200))
    assert portrait.off_centre_px < 4
    np.testing.assert_allclose(portrait.landmarks[0][:2].mean(0), (448, 448), atol=4)


def test_reports_the_offset_of_a_face_at_the_edge(photo):
    seen = face((130, 150), 200)
    portrait = portrait_of(photo, seen)
    eyes = transform(portrait.matrix, np.array(seen.eye_centre, np.float32))
    assert portrait.off_centre_px == pytest.approx(np.hypot(*(eyes - 448)), abs=0.06)
    assert portrait.off_centre_px > 250


def test_without_a_face_the_centre_is_cut_at_the_same_scale(photo):
    portrait = portrait_of(photo)
    assert portrait.face is None
    assert portrait.faces == ()
    assert portrait.off_centre_px is None
    assert portrait.landmarks.shape == (0, 5, 2)
    assert portrait.short_edge == 1024
    np.testing.assert_allclose(transform(portrait.matrix, np.array([599.5, 399.5])), (447.5, 447.5), atol=1)
    assert any(warning.startswith("no_face:") for warning in portrait.warnings)


def test_rejects_a_photo_without_a_face_if_asked(photo):
    with pytest.raises(NoFace, match=r"'given' found no face.*no_face=centre"):
        portrait_of(photo, no_face="reject")


@pytest.mark.parametrize("yaw", [25.5, -40.0])
def test_yaw_policy_decides_about_a_turned_head(photo, yaw):
    seen = face((600, 400), 200, Pose(yaw, 0, 0))
    assert any(warning.startswith("yaw: the head is turned") for warning in portrait_of(photo, seen).warnings)
    assert portrait_of(photo, seen, yaw="off").warnings == ()
    with pytest.raises(HeadTurned, match="yaw=warn"):
        portrait_of(photo, seen, yaw="reject")


@pytest.mark.parametrize("yaw", [25.0, -24.9, 0.0])
def test_frontal_head_passes_every_policy(photo, yaw):
    for policy in ("warn", "reject", "off"):
        assert portrait_of(photo, face((600, 400), 200, Pose(yaw, 40, 40)), yaw=policy).warnings == ()


@pytest.mark.parametrize("policy", ["warn", "reject"])
def test_unknown_pose_is_a_warning_under_every_policy(photo, policy):
    warnings = portrait_of(photo, face((600, 400), 200), yaw=policy).warnings
    assert any("the yaw was not checked" in warning for warning in warnings)


def test_small_face_is_a_warning(photo):
    small, large = face((600, 400), 79), face((600, 400), 81)
    assert any(warning.startswith("small_face:") for warning in portrait_of(photo, small).warnings)
    assert not any(warning.startswith("small_face:") for warning in portrait_of(photo, large).warnings)


def test_keeps_the_photos_warnings(photo):
    assert "icc: odd" in portrait_of(photo_of(photo.pixels, ("icc: odd",))).warnings


def test_portrait_has_the_faces_completely_inside(photo):
    best, beside, cut_through, far = (
        face(at, 90) for at in ((400, 400), (600, 400), (745, 400), (1100, 400))
    )
    portrait = portrait_of(photo, best, beside, cut_through, far)
    assert portrait.face is best
    assert portrait.faces == (best, beside)
    for mapped, seen in zip(portrait.landmarks, (best, beside), strict=True):
        np.testing.assert_allclose(mapped, transform(portrait.matrix, seen.landmarks5))


def test_main_face_counts_even_if_larger_than_the_window(photo):
    huge, small = face((600, 400), 1900), face((600, 300), 60)
    portrait = portrait_of(photo, huge, small)
    assert portrait.faces[0] is huge
    assert (portrait.landmarks[0] > 896).any()


@pytest.mark.parametrize("framing", ["article", "face"])
def test_coinciding_eyes_still_make_a_portrait(photo, framing):
    seen = replace(face((600, 400), 200), landmarks5=np.full((5, 2), 300, np.float32))
    portrait = portrait_of(photo, seen, framing=framing)
    assert portrait.pixels.shape == (896, 896, 3)
    assert portrait.short_edge == 1024


@settings(max_examples=40)
@given(
    hnp.arrays(np.float32, (5, 2), elements=st.floats(-100, 140, width=32)),
    st.sampled_from(["article", "face"]),
)
def test_any_landmarks_make_a_portrait(landmarks5, framing):
    seen = replace(face((20, 20), 10), landmarks5=landmarks5)
    portrait = portrait_of(photo_of(np.full((40, 50, 3), 90, np.uint8)), seen, framing=framing)
    assert portrait.pixels.shape == (896, 896, 3)


def test_face_framing_levels_the_eyes(photo):
    turn = cv2.getRotationMatrix2D((600, 400), 30, 1)
    upright = face((600, 400), 200)
    seen = replace(upright, landmarks5=transform(turn, upright.landmarks5))
    portrait = portrait_of(photo, seen, framing="face")
    np.testing.assert_allclose(portrait.landmarks[0][:2], FACE_EYES, atol=1e-2)
    assert portrait.off_centre_px == 0
    assert portrait.short_edge == pytest.approx(800 * np.hypot(*(FACE_EYES[1] - FACE_EYES[0])) / 60, abs=0.1)


def test_face_framing_warns_about_the_filled_share(photo):
    inside, corner = face((600, 400), 200), face((100, 120), 200)
    assert not any("reflection" in warning for warning in portrait_of(photo, inside, framing="face").warnings)
    (warning,) = [w for w in portrait_of(photo, corner, framing="face").warnings if "reflection" in w]
    assert 20 < int(warning.split()[1].rstrip("%")) < 80


def test_light_is_measured_around_the_face(photo):
    seen = face((600, 400), 300)
    dark = photo_of((photo.pixels // 4).astype(np.uint8))
    untouched = portrait_of(dark, seen, exposure="off", clahe="off")
    portrait = portrait_of(dark, seen)
    region = find_face_region((896, 896), portrait.landmarks[0])
    assert portrait.light_plan.gamma < 1
    assert untouched.light_before == untouched.light_after == portrait.light_before
    assert portrait.light_before == measure_light(lightness(untouched.pixels), region)
    assert portrait.light_after == measure_light(lightness(portrait.pixels), region)


def test_records_the_time_of_each_stage(photo):
    timings = Timings()
    standardise(photo, PreprocessParams(), GivenFinder(), timings)
    assert list(timings.finish()) == ["find_faces", "frame", "light", "total"]


def test_does_not_modify_the_photo(astronaut):
    """The pixels may be shared; writing to these would raise."""
    assert not astronaut.flags.writeable
    portrait_of(photo_of(astronaut), face((224, 120), 130), clahe="always")


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3), (20_000, 100)])
def test_extreme_shapes_make_a_portrait(shape):
    finder = make_finder("haar", None)
    pixels = np.full((*shape, 3), 40, np.uint8)
    for framing in ("article", "face"):
        portrait = standardise(photo_of(pixels), PreprocessParams(framing=framing), finder, Timings())
        assert portrait.pixels.shape == (896, 896, 3)


# --- EXIF orientation

# The transposition that stores an upright picture with each orientation (EXIF 2.32, tag 0x0112).
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored(pixels, orientation, image_format):
    image = Image.fromarray(pixels)
    if (turn := STORED[orientation]) is not None:
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    image.save(data, image_format, exif=exif, quality=95)
    return data.getvalue()


def numbers_of(portrait):
    """All numbers of a portrait's report."""
    landmarks5 = portrait.face.landmarks5.ravel().tolist()
    quality, plan = portrait.quality, portrait.light_plan
    return [
        *portrait.matrix.ravel(),
        *landmarks5,
        *portrait.face.bbox,
        portrait.off_centre_px,
        portrait.short_edge,
        portrait.light_before.mean,
        portrait.light_before.spread,
        portrait.light_after.mean,
        portrait.light_after.spread,
        plan.gamma,
        plan.clahe_weight,
        plan.clip_limit,
        quality.interocular_px,
        quality.noise_sigma,
    ]


@pytest.fixture(scope="module")
def upright(astronaut):
    # Not square, so that a wrong turn shows; sides are multiples of JPEG blocks.
    return np.ascontiguousarray(astronaut[:, :400])


@pytest.mark.parametrize("orientation", STORED)
def test_every_png_orientation_gives_the_same_portrait(orientation, upright):
    finder = make_finder("haar", None)
    expected = standardise(photo_of(upright), PreprocessParams(), finder, Timings())
    decoded = decode(stored(upright, orientation, "PNG"), LIMITS)
    portrait = standardise(decoded, PreprocessParams(), finder, Timings())
    np.testing.assert_array_equal(portrait.pixels, expected.pixels)
    assert numbers_of(portrait) == numbers_of(expected)
    assert (portrait.quality, portrait.warnings) == (expected.quality, expected.warnings)


@pytest.mark.parametrize("orientation", STORED)
def test_every_jpeg_orientation_gives_the_same_portrait(orientation, upright, yunet_path):
    """Up to the rounding of JPEG, whose order differs."""
    finder = YunetFinder(yunet_path)
    expected, portrait = (
        standardise(decode(stored(upright, turned, "JPEG"), LIMITS), PreprocessParams(), finder, Timings())
        for turned in (1, orientation)
    )
    assert numbers_of(portrait) == pytest.approx(numbers_of(expected), rel=0.01, abs=1.5)
    shift = cv2.phaseCorrelate(*(np.float32(lightness(p.pixels)) for p in (portrait, expected)))[0]
    assert np.hypot(*shift) < 1.5
    assert np.abs(portrait.pixels.astype(int) - expected.pixels).mean() < 1.5
    assert portrait.warnings == expected.warnings


# --- the article's recipe


def articles_recipe(path, eyes):
    """The portrait by the article's recipe. eyes: the point between them, photo px."""
    rgb = np.asarray(Image.open(path).convert("RGB"))
    height, width = rgb.shape[:2]
    scale = 1024 / min(height, width)
    rgb = cv2.resize(rgb, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_LANCZOS4)
    height, width = rgb.shape[:2]
    x0 = min(max(int(eyes[0] * scale - 448), 0), width - 896)
    y0 = min(max(int(eyes[1] * scale - 448), 0), height - 896)
    window = rgb[y0 : y0 + 896, x0 : x0 + 896]
    lab = cv2.cvtColor(window, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def differences(portraits, yunet_path):
    """Mean absolute difference of each upright portrait from the article's recipe, of 255."""
    finder, params = YunetFinder(yunet_path), PreprocessParams(clahe="always", exposure="off")
    found = []
    for shared in portraits:
        with Image.open(shared.path) as image:
            if image.getexif().get(0x0112, 1) != 1 or image.mode not in ("RGB", "L"):
                continue
        portrait = standardise(shared.photo(), params, finder, Timings())
        if portrait.face is not None:
            recipe = articles_recipe(shared.path, portrait.face.eye_centre)
            found.append(float(np.abs(portrait.pixels.astype(int) - recipe).mean()))
    return found


def test_portrait_matches_the_articles_recipe(some_portraits, yunet_path):
    found = differences(some_portraits[::2], yunet_path)
    assert len(found) >= 14
    assert np.median(found) < 2


@pytest.mark.slow
def test_portrait_matches_the_articles_recipe_on_all_photos(catalog, yunet_path):
    found = differences(catalog, yunet_path)
    assert len(found) > 120
    print(f"median {np.median(found):.2f}, 90 % under {np.quantile(found, 0.9):.2f}, worst {max(found):.2f}")
    assert np.median(found) < 2
    assert np.quantile(found, 0.9) < 5
