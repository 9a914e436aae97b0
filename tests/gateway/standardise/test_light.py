import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.standardise.light import find_face_region, measure_light

FIVE = np.array([[340, 420], [556, 420], [448, 540], [360, 640], [536, 640]], np.float32)


def test_shadows_and_highlights_are_shares_of_the_region():
    values = np.array([[0, 5, 6, 128], [249, 250, 255, 128]], np.uint8)
    measured = measure_light(values, np.ones((2, 4), bool))
    assert (measured.shadows, measured.highlights) == (0.25, 0.25)


def test_region_without_a_face_is_the_whole_picture():
    assert find_face_region((20, 10), None).shape == (10, 20)
    assert find_face_region((20, 10), None).all()


def test_region_covers_the_face_but_not_the_background():
    region = find_face_region((896, 896), FIVE)
    for x, y in FIVE.astype(int):
        assert region[y, x]
    assert not region[100, 100]
    assert not region[448, 100]
    assert region[700, 448], "the chin"
    assert not region[820, 448], "the collar"
    assert 0.05 < region.mean() < 0.4


@pytest.mark.parametrize("degrees", [90, 180, 37])
def test_region_turns_with_the_face(degrees):
    turn = cv2.getRotationMatrix2D((447.5, 447.5), degrees, 1)
    turned = find_face_region((896, 896), (FIVE @ turn[:, :2].T + turn[:, 2]).astype(np.float32))
    expected = cv2.warpAffine(find_face_region((896, 896), FIVE).astype(np.uint8), turn, (896, 896)) > 0
    assert (turned == expected).mean() > 0.98


@given(hnp.arrays(np.float32, (5, 2), elements=st.floats(-3000, 3000, width=32)))
def test_region_is_never_empty(landmarks5):
    region = find_face_region((96, 64), landmarks5)
    assert region.shape == (64, 96)
    assert region.any()
