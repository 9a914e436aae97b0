import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evaluate.degrade import DOWNSCALE, JPEG, NOISE, SIGMA, Degradation, degrade, draw
from gateway.standardise.quality import estimate_noise

NOTHING = Degradation(sigma=(0.1, 0.1), angle=0.0, downscale=1.0, noise=0.0, jpeg=100, seed=0)


@pytest.fixture
def sharp():
    return np.kron(
        np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8), np.ones((4, 4, 1), np.uint8)
    )


@given(st.integers(0, 2**31), st.text(max_size=20))
def test_draws_are_within_the_published_ranges(seed, name):
    how = draw(seed, name)
    assert all(SIGMA[0] <= sigma <= SIGMA[1] for sigma in how.sigma)
    assert DOWNSCALE[0] <= how.downscale <= DOWNSCALE[1]
    assert NOISE[0] <= how.noise <= NOISE[1]
    assert JPEG[0] <= how.jpeg <= JPEG[1]


def test_same_seed_and_name_give_the_same_degradation(sharp):
    how = draw(7, "a/b.jpg")
    assert how == draw(7, "a/b.jpg")
    np.testing.assert_array_equal(degrade(sharp, how), degrade(sharp, draw(7, "a/b.jpg")))


def test_another_seed_or_name_gives_another_degradation():
    assert len({draw(7, "a.jpg"), draw(8, "a.jpg"), draw(7, "b.jpg")}) == 3


def test_half_of_all_blurs_are_anisotropic():
    draws = [draw(1, str(number)) for number in range(400)]
    assert 150 < sum(how.sigma[0] != how.sigma[1] for how in draws) < 250


@given(st.integers(0, 50))
def test_degrading_keeps_the_size(seed):
    sharp = np.full((37, 53, 3), 99, np.uint8)
    degraded = degrade(sharp, draw(seed, "x"))
    assert degraded.shape == sharp.shape
    assert degraded.dtype == np.uint8


def test_neutral_degradation_changes_almost_nothing(sharp):
    assert np.abs(degrade(sharp, NOTHING).astype(int) - sharp).mean() < 3


def test_every_step_has_its_effect(sharp):
    grey = np.full((96, 96, 3), 128, np.uint8)
    noisy = degrade(grey, Degradation((0.1, 0.1), 0.0, 1.0, 10.0, 100, 3))
    assert estimate_noise(noisy[..., 1].astype(np.float32)) == pytest.approx(10, rel=0.2)
    blurred = degrade(sharp, Degradation((4.0, 4.0), 0.0, 1.0, 0.0, 100, 3))
    shrunk = degrade(sharp, Degradation((0.1, 0.1), 0.0, 8.0, 0.0, 100, 3))
    assert max(blurred.std(), shrunk.std()) < 0.7 * sharp.std()


def test_anisotropic_blur_smears_along_its_angle():
    """A point becomes a horizontal stroke at angle 0 and a vertical one at a right angle."""
    point = np.zeros((61, 61, 3), np.uint8)
    point[28:33, 28:33] = 255
    for angle, (wide, narrow) in {0.0: (1, 0), np.pi / 2: (0, 1)}.items():
        smeared = degrade(point, Degradation((8.0, 0.5), angle, 1.0, 0.0, 100, 0))[..., 1].astype(float)
        extent = [np.count_nonzero(smeared.sum(1 - axis) > 100) for axis in (0, 1)]
        assert extent[wide] > 2 * extent[narrow]
