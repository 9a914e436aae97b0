import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.standardise.quality import estimate_noise, measure_quality

# Where the astronaut's eyes, nose and mouth are, px.
ASTRONAUT = np.array([[205, 102], [246, 102], [229, 126], [210, 142], [246, 142]], np.float32)
SIDE = 512


def smooth_face(side=SIDE):
    """A smooth picture like skin out of focus: a lit ball with soft dark eyes."""
    y, x = np.indices((side, side)) / side - 0.5
    level = 190 - 250 * (x**2 + y**2)
    for eye in (-0.11, 0.11):
        level -= 70 * np.exp(-((x - eye) ** 2 + (y + 0.1) ** 2) / 0.002)
    return np.repeat(level[..., None], 3, -1)


def noisy(level, sigma, seed=3):
    noise = np.random.default_rng(seed).normal(0, sigma, level.shape[:2])[..., None]
    return np.clip(np.round(level + noise), 0, 255).astype(np.uint8)


def landmarks_at(interocular, side=SIDE):
    unit = np.array([[-0.5, 0], [0.5, 0], [0, 0.6], [-0.4, 1.1], [0.4, 1.1]])
    return (unit * interocular + (side / 2, side * 0.4)).astype(np.float32)


@pytest.mark.parametrize("sigma", [1.5, 3, 6, 12, 25])
@pytest.mark.parametrize("interocular", [None, 20, 50, 100])
def test_measures_added_noise(sigma, interocular):
    landmarks5 = None if interocular is None else landmarks_at(interocular)
    measured = measure_quality(noisy(smooth_face(), sigma), landmarks5)
    assert measured.noise_sigma == pytest.approx(sigma, rel=0.25)


def test_clean_picture_has_only_rounding_noise():
    assert measure_quality(noisy(smooth_face(), 0), landmarks_at(60)).noise_sigma < 0.5


def test_measures_noise_before_enlarging_a_small_face():
    """Enlarged noise would look like texture and count for less."""
    small = cv2.resize(smooth_face(), (128, 128), interpolation=cv2.INTER_AREA)
    measured = measure_quality(noisy(small, 8), landmarks_at(25, 128))
    assert measured.noise_sigma == pytest.approx(8, rel=0.25)


def test_measures_less_noise_in_a_large_face():
    """The noise at the network's scale counts."""
    assert measure_quality(noisy(smooth_face(1024), 12), landmarks_at(400, 1024)).noise_sigma < 8


def test_detail_is_not_noise(astronaut):
    assert measure_quality(astronaut, ASTRONAUT).noise_sigma < 3


def test_sharpness_falls_with_every_step_of_blur(astronaut):
    blurred = [astronaut] + [cv2.GaussianBlur(astronaut, (0, 0), sigma) for sigma in (0.7, 1.2, 2, 4, 8)]
    measured = [measure_quality(picture, ASTRONAUT).sharpness for picture in blurred]
    assert measured == sorted(measured, reverse=True)
    assert measured[0] > 4 * measured[3]


def test_small_face_counts_as_soft(astronaut):
    small = cv2.resize(astronaut, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    at_hand = measure_quality(small, ((ASTRONAUT + 0.5) / 4 - 0.5).astype(np.float32))
    assert at_hand.interocular_px == pytest.approx(41 / 4, rel=0.01)
    assert at_hand.sharpness < measure_quality(astronaut, ASTRONAUT).sharpness / 2


def test_measures_the_centre_without_a_face():
    picture = np.zeros((1200, 1600, 3), np.uint8)
    picture[344:856, 544:1056] = noisy(smooth_face(), 5)
    measured = measure_quality(picture, None)
    assert measured.interocular_px is None
    assert measured.noise_sigma == pytest.approx(5, rel=0.25)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 2), (9, 9), (3, 3)])
@pytest.mark.parametrize("with_face", [True, False])
def test_measures_tiny_pictures(shape, with_face):
    picture = np.full((*shape, 3), 77, np.uint8)
    landmarks5 = landmarks_at(3, min(shape)) if with_face else None
    measured = measure_quality(picture, landmarks5)
    assert measured.sharpness == pytest.approx(0, abs=1e-3)
    assert measured.noise_sigma == pytest.approx(0, abs=1e-3)


def test_coinciding_eyes_are_measured_as_no_face():
    picture = noisy(smooth_face(), 5)
    measured = measure_quality(picture, np.full((5, 2), 200, np.float32))
    assert measured.interocular_px == 0
    assert (measured.sharpness, measured.noise_sigma) == (
        (without := measure_quality(picture, None)).sharpness,
        without.noise_sigma,
    )


@given(hnp.arrays(np.float32, (5, 2), elements=st.floats(-500, 500, width=32)))
def test_any_landmarks_have_finite_quality(landmarks5):
    measured = measure_quality(noisy(smooth_face(64), 4), landmarks5)
    assert np.isfinite([measured.interocular_px, measured.sharpness, measured.noise_sigma]).all()


def test_picture_smaller_than_the_kernel_has_no_noise():
    assert estimate_noise(np.zeros((2, 50), np.float32)) == 0
