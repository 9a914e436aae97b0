import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gateway.standardise.framing import (
    FACE_EYES,
    PORTRAIT_SIDE,
    SHORT_EDGE,
    cut,
    cut_face,
    fit_face_matrix,
    measure_outside_share,
    place_article_window,
)
from gpen_common.geometry import DegenerateLandmarks, invert, transform

SIDES = st.integers(1, 20_000)
SHARES = st.floats(-0.5, 1.5)
SIZES = [
    (512, 512),
    (250, 250),
    (3000, 2000),
    (1024, 1024),
    (1500, 1024),
    (100, 20_000),
    (5000, 40),
    (33, 47),
]


def blob(width, height, at, sigma):
    """A black photo with one soft spot."""
    photo = np.zeros((height, width, 3), np.uint8)
    reach = int(4 * sigma) + 1
    x0, y0 = max(int(at[0]) - reach, 0), max(int(at[1]) - reach, 0)
    part = photo[y0 : int(at[1]) + reach + 1, x0 : int(at[0]) + reach + 1]
    y, x = np.indices(part.shape[:2])
    spot = 250 * np.exp(-((x + x0 - at[0]) ** 2 + (y + y0 - at[1]) ** 2) / (2 * sigma**2))
    part[...] = np.round(spot)[..., None]
    return photo


def centroid(portrait):
    weight = portrait[..., 0].astype(np.float64)
    y, x = np.indices(weight.shape)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@given(SIDES, SIDES, st.none() | st.tuples(SHARES, SHARES))
@example(1, 5000, None)
@example(100, 20_000, (0.5, 1.0))
@example(1, 1, (0.0, 0.0))
@example(32_000, 32_000, (1.0, 1.0))
def test_window_lies_in_the_photo_at_the_articles_scale(width, height, place):
    window = place_article_window(width, height, place and (place[0] * width, place[1] * height))
    x0, y0, x1, y1 = window.box
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    scaled = width * window.scale[0], height * window.scale[1]
    assert min(scaled) == pytest.approx(SHORT_EDGE, abs=1e-6)
    assert scaled == pytest.approx((round(scaled[0]), round(scaled[1])), rel=1e-12)
    assert window.scale[0] == pytest.approx(window.scale[1], rel=0.5 / SHORT_EDGE)
    assert ((x1 - x0) * window.scale[0], (y1 - y0) * window.scale[1]) == pytest.approx(
        (PORTRAIT_SIDE,) * 2, rel=1e-6
    )


@given(SIDES, SIDES, SHARES, SHARES)
def test_matrix_maps_window_corners_to_portrait_corners(width, height, x, y):
    window = place_article_window(width, height, (x * width, y * height))
    corners = np.array(window.box).reshape(2, 2) - 0.5
    seen = corners @ window.matrix[:, :2].T + window.matrix[:, 2]
    np.testing.assert_allclose(seen, [[-0.5, -0.5], [PORTRAIT_SIDE - 0.5] * 2], atol=1e-4)


def test_window_is_centred_on_a_face_in_the_middle():
    window = place_article_window(3000, 2000, (1500, 1000))
    assert transform(window.matrix, np.array([1500, 1000], np.float32)) == pytest.approx((448, 448), abs=1.1)


@pytest.mark.parametrize(
    ("centre", "corner"), [((0, 0), (0, 0)), ((2999, 1999), (1250, 250)), (None, (625, 125))]
)
def test_window_moves_inwards_at_an_edge(centre, corner):
    x0, y0, x1, y1 = place_article_window(3000, 2000, centre).box
    assert (x1 - x0, y1 - y0) == pytest.approx((1750, 1750))
    assert (x0, y0) == pytest.approx(corner, abs=1)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.31, 0.64)])
def test_cut_pixels_match_the_matrix(width, height, place):
    at = (place[0] * width, place[1] * height)
    window = place_article_window(width, height, at)
    middle = np.array(window.box).reshape(2, 2).mean(0) - 0.5
    at = middle + np.array([0.13, -0.21]) * (window.box[2] - window.box[0])
    sigma = max(0.7, 8 / window.scale[0])
    portrait = cut(blob(width, height, at, sigma), window)
    assert portrait.shape == (PORTRAIT_SIDE, PORTRAIT_SIDE, 3)
    np.testing.assert_allclose(centroid(portrait), transform(window.matrix, at), atol=0.5)


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40), SHARES, SHARES, st.integers(0, 255))
def test_uniform_photo_stays_uniform(width, height, x, y, level):
    """Nothing from outside the photo bleeds in at the edges."""
    photo = np.full((height, width, 3), level, np.uint8)
    window = place_article_window(width, height, (x * width, y * height))
    assert (cut(photo, window) == level).all()
    if width > 1 or height > 1:
        eyes = np.array([[width / 4, height / 3], [width / 2, height / 2]], np.float32)
        assert (cut_face(photo, fit_face_matrix(eyes)) == level).all()


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 5000), (5000, 1), (2, 3), (100, 20_000), (32_000, 3)]
)
@pytest.mark.parametrize("centre", [None, (0.0, 0.0), (1e4, 1e4)])
def test_extreme_shapes_make_a_portrait(width, height, centre):
    photo = np.zeros((height, width, 3), np.uint8)
    assert cut(photo, place_article_window(width, height, centre)).shape == (PORTRAIT_SIDE, PORTRAIT_SIDE, 3)


def test_cut_reads_only_the_window():
    """A panorama takes no longer than a portrait: only the rows of the window are read."""

    class Watched(np.ndarray):
        def __getitem__(self, key):
            read.append(key)
            return np.asarray(self)[key]

        def __array__(self, *args, **kwargs):
            pytest.fail("the whole photo was copied")

    read = []
    photo = np.broadcast_to(np.zeros(3, np.uint8), (30_000, 1200, 3)).view(Watched)
    cut(photo, place_article_window(1200, 30_000, (600, 20_000)))
    rows = [rows for rows, _ in read]
    assert max(part.stop for part in rows) - min(part.start for part in rows) < 1100


@pytest.mark.parametrize("factor", [1.2, 1.5, 3])
def test_cut_does_not_alias(factor):
    """A pattern too fine for the portrait becomes its mean, not another pattern."""
    side = round(SHORT_EDGE * factor)
    y, x = np.indices((side, side))
    photo = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, -1)
    portrait = cut(photo, place_article_window(side, side, None))
    assert portrait.mean() == pytest.approx(127.5, abs=1)
    assert portrait.std() < 10, "a kernel of fixed width leaves a standard deviation of over 60"


def test_cut_equals_resizing_the_whole_photo(astronaut):
    """Passing Pillow only the window and a margin changes no pixel."""
    photo = cv2.resize(astronaut, (2700, 3500), interpolation=cv2.INTER_CUBIC)
    window = place_article_window(2700, 3500, (1200, 900))
    whole = Image.fromarray(photo).resize((896, 896), Image.Resampling.LANCZOS, window.box)
    assert np.abs(cut(photo, window).astype(int) - np.asarray(whole)).max() <= 1


def test_enlarging_keeps_edges_without_distant_ringing():
    photo = np.full((128, 128, 3), 40, np.uint8)
    photo[:, 64:] = 200
    portrait = cut(photo, place_article_window(128, 128, None)).astype(int)
    assert (portrait[:, :400] == 40).all()
    assert (portrait[:, -400:] == 200).all()
    assert (np.abs(np.diff(portrait[448, :, 0])).argmax() - 447) in (-1, 0, 1)


def test_cut_at_scale_one_is_a_crop(astronaut):
    photo = cv2.resize(astronaut, (SHORT_EDGE, SHORT_EDGE))
    np.testing.assert_array_equal(
        cut(photo, place_article_window(SHORT_EDGE, SHORT_EDGE, None)), photo[64:960, 64:960]
    )


EYES = hnp.arrays(np.float32, (2, 2), elements=st.floats(0, 4000, width=32))


@given(EYES)
def test_face_matrix_maps_the_eyes_to_face_eyes(eyes):
    assume(np.hypot(*(eyes[1] - eyes[0])) > 1)
    landmarks5 = np.vstack([eyes, eyes.mean(0) + 1, eyes.mean(0) + 2, eyes.mean(0) + 3]).astype(np.float32)
    np.testing.assert_allclose(transform(fit_face_matrix(landmarks5), eyes), FACE_EYES, atol=1e-2)


def test_face_eyes_are_level_at_the_template_distance():
    left, right = FACE_EYES
    assert left[1] == right[1]
    assert left[0] < PORTRAIT_SIDE / 2 < right[0]
    assert right[0] - left[0] == pytest.approx(107.39 * 896 / 512 * 0.8, abs=0.01)


def test_face_cut_shows_the_eyes_at_face_eyes():
    at = np.array([[430.0, 260.0], [520.0, 305.0]])
    photo = blob(900, 700, at[0], 5)
    matrix = fit_face_matrix(at.astype(np.float32))
    np.testing.assert_allclose(centroid(cut_face(photo, matrix)), FACE_EYES[0], atol=0.5)


def test_rejects_coinciding_eyes():
    with pytest.raises(DegenerateLandmarks):
        fit_face_matrix(np.ones((5, 2), np.float32))


@pytest.mark.parametrize(
    ("shift", "share"),
    [
        ((0, 0), 0), ((-2000, 0), 1), ((2000, 0), 1), ((0, 3000), 1), ((-448, 0), 0.5), ((0, 448), 0.5),
        ((448, 448), 0.75),
    ],
)  # fmt: skip
def test_measures_the_share_outside_the_photo(shift, share):
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    assert measure_outside_share(matrix, PORTRAIT_SIDE, PORTRAIT_SIDE) == pytest.approx(share, abs=0.02)


@given(SIDES, SIDES, SHARES, SHARES)
def test_article_window_is_never_outside_the_photo(width, height, x, y):
    window = place_article_window(width, height, (x * width, y * height))
    assume(max(window.scale) < 900)  # float32 cannot represent the edge of larger pixels
    assert measure_outside_share(window.matrix, width, height) == 0


@given(EYES)
def test_outside_share_is_between_zero_and_one(eyes):
    assume(np.hypot(*(eyes[1] - eyes[0])) > 1)
    matrix = fit_face_matrix(eyes)
    assert 0 <= measure_outside_share(matrix, 4000, 4000) <= 1
    assert np.isfinite(invert(matrix)).all()
