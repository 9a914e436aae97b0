import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpen_backend.restoration.align import template
from gpen_backend.restoration.mask import face_mask


@pytest.mark.parametrize("size", [64, 256, 512])
def test_mask_is_1_on_all_landmarks(size):
    mask = face_mask(template(size), size)
    for x, y in template(size).round().astype(int):
        assert mask[y, x] == 1


@settings(deadline=None, max_examples=50)
@given(
    landmarks=arrays(np.float32, (5, 2), elements=st.floats(-100, 400, width=32)),
    size=st.integers(16, 300),
)
def test_mask_is_0_at_the_crops_border_for_any_landmarks(landmarks, size):
    mask = face_mask(landmarks, size)
    assert mask.shape == (size, size)
    assert mask.dtype == np.float32
    assert np.isfinite(mask).all()
    assert mask.min() >= 0
    assert mask.max() <= 1
    inside = np.zeros_like(mask, bool)
    border = int(np.ceil(size * 0.05))
    inside[border : size - border, border : size - border] = True
    assert not mask[~inside].any()


def test_mask_has_no_step():
    mask = face_mask(template(512), 512)
    steepest = max(np.abs(np.diff(mask, axis=axis)).max() for axis in (0, 1))
    assert steepest < 0.05


def test_mask_reaches_chin_and_forehead_but_not_the_shoulders():
    mask = face_mask(template(512), 512)
    assert mask[430, 256] > 0.5  # chin
    assert mask[150, 256] > 0.5  # forehead
    assert mask[300, 20] == mask[300, 492] == mask[500, 256] == 0


def test_mask_keeps_its_width_on_a_turned_head():
    landmarks = template(512).copy()
    landmarks[:, 0] = 256 + 0.3 * (landmarks[:, 0] - 256)
    mask = face_mask(landmarks, 512)
    assert (mask[300] > 0.5).sum() > 200
