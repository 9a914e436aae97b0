import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.faces.face import Face, reduce, sort_best_first
from gpen_common.geometry import transform

FIVE = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)


def face(middle, side, score=0.9):
    (x, y), half = middle, side / 2
    landmarks5 = FIVE / 100 * side + (x - half, y - half)
    return Face((x - half, y - half, x + half, y + half), landmarks5.astype(np.float32), score, None)


FACES = st.builds(
    face,
    st.tuples(st.integers(0, 1000), st.integers(0, 600)),
    st.sampled_from([20.0, 100.0, 101.0, 300.0]),
    st.sampled_from([0.5, 0.9]),
)


def test_face_has_eye_centre_and_interocular_distance():
    found = face((50, 50), 100)
    assert found.eye_centre == (50, 40)
    assert found.interocular == 40


def test_larger_face_sorts_first():
    small, large = face((400, 300), 100), face((600, 300), 120)
    assert sort_best_first([small, large], 1000, 600)[0] is large


def test_central_face_sorts_first():
    aside, middle = face((100, 100), 100), face((480, 310), 100)
    assert sort_best_first([aside, middle], 1000, 600)[0] is middle


def test_face_with_higher_score_sorts_first():
    left, right = face((400, 300), 100, score=0.7), face((600, 300), 100, score=0.8)
    assert sort_best_first([left, right], 1000, 600)[0] is right


@pytest.mark.parametrize(("area", "wins"), [(1.9, False), (2.1, True)])
def test_face_in_a_corner_has_half_the_weight(area, wins):
    middle, corner = face((500, 300), 100), face((1000, 600), 100 * area**0.5)
    assert (sort_best_first([middle, corner], 1000, 600)[0] is corner) == wins


def test_face_outside_the_photo_has_half_the_weight():
    beyond, middle = face((1500, 900), 150), face((500, 300), 100)
    assert sort_best_first([middle, beyond], 1000, 600)[0] is beyond


@given(st.lists(FACES, max_size=4, unique_by=lambda face: face.bbox))
def test_sorting_is_independent_of_input_order(faces):
    expected = sort_best_first(faces, 1000, 600)
    for shuffled in itertools.permutations(faces):
        assert sort_best_first(list(shuffled), 1000, 600) == expected


@given(st.integers(1, 3000), st.integers(1, 40) | st.integers(250, 1000), st.integers(1, 600), st.booleans())
def test_reduce_fits_the_side_and_its_matrix_maps_corners_back(long, short, side, tall):
    shape = (long, short, 3) if tall else (short, long, 3)
    small, back = reduce(np.zeros(shape, np.uint8), side)
    height, width = small.shape[:2]
    assert max(height, width) <= max(side, 1)
    assert small.shape <= shape
    corners = transform(back, np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]], np.float32))
    # Of large photos an odd last row or column may be left out.
    np.testing.assert_allclose(corners[0], (-0.5, -0.5), atol=1e-3)
    np.testing.assert_allclose(corners[1], (shape[1] - 0.5, shape[0] - 0.5), rtol=1 / 128, atol=1e-3)


def test_reduce_returns_a_small_photo_unchanged(astronaut):
    small, back = reduce(astronaut, 512)
    assert small is astronaut
    np.testing.assert_array_equal(back, [[1, 0, 0], [0, 1, 0]])


def test_reduce_matrix_maps_a_spot_back_to_the_photo():
    photo = np.zeros((900, 1300, 3), np.uint8)
    photo[400:421, 700:721] = 255
    small, back = reduce(photo, 320)
    y, x = np.indices(small.shape[:2])
    weight = small[..., 0] / small[..., 0].sum()
    centre = np.array([(x * weight).sum(), (y * weight).sum()], np.float32)
    np.testing.assert_allclose(transform(back, centre), (710, 410), atol=0.2)
