import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.standardise.exposure import (
    EXPOSURE_KEEP,
    EXPOSURE_TARGET,
    apply_curve,
    compute_exposure_goal,
    retone,
    solve_gamma,
)

BOUNDS = (0.4, 2.5)
GAMMAS = st.floats(*BOUNDS)
LEVELS = np.linspace(0, 1, 256)


def test_face_at_the_target_stays_there():
    assert compute_exposure_goal(EXPOSURE_TARGET) == EXPOSURE_TARGET


@given(st.floats(0, 255), st.floats(0, 255))
def test_exposure_goal_keeps_the_order_of_faces(one, other):
    """Light may be evened out, skin tones may not."""
    darker, lighter = sorted([one, other])
    assert compute_exposure_goal(darker) <= compute_exposure_goal(lighter)
    assert compute_exposure_goal(lighter) - compute_exposure_goal(darker) == pytest.approx(
        EXPOSURE_KEEP * (lighter - darker), abs=1e-6
    )


@given(st.floats(0, 255))
def test_exposure_goal_never_passes_the_target(mean):
    low, high = sorted([mean, EXPOSURE_TARGET])
    assert low <= compute_exposure_goal(mean) <= high


@given(GAMMAS)
def test_curve_is_increasing_from_black_to_white(gamma):
    toned = apply_curve(LEVELS, gamma)
    assert toned[[0, -1]] == pytest.approx([0, 1])
    assert (np.diff(toned) > 0).all()


def test_gamma_of_one_is_the_identity():
    np.testing.assert_allclose(apply_curve(LEVELS, 1.0), LEVELS, atol=1e-12)


@given(GAMMAS)
def test_curve_has_a_bounded_slope(gamma):
    """The slope of a plain gamma at black is infinite, which amplifies noise there."""
    assert np.diff(apply_curve(LEVELS, gamma)).max() * 255 < 6


@given(GAMMAS, hnp.arrays(np.uint8, 200, elements=st.integers(30, 220)))
def test_solves_for_a_known_gamma(gamma, lightness):
    goal = float(apply_curve(lightness / 255, gamma).mean()) * 255
    assert solve_gamma(lightness, goal, BOUNDS) == pytest.approx(gamma, abs=0.004)


@pytest.mark.parametrize(("level", "gamma"), [(0, 0.4), (10, 0.4), (255, 2.5), (252, 2.5)])
def test_solved_gamma_stops_at_its_bounds(level, gamma):
    assert solve_gamma(np.full(9, level, np.uint8), 145.0, BOUNDS) == pytest.approx(gamma, abs=0.002)


@given(hnp.arrays(np.uint8, (5, 7, 3)))
def test_retone_without_a_change_keeps_the_pixels(pixels):
    again = retone(pixels, None, 1.0)
    assert np.abs(again.astype(int) - pixels).max() <= 1


def test_strips_of_a_tall_picture_have_no_seams():
    pixels = np.random.default_rng(1).integers(0, 256, (600, 8, 3), np.uint8)
    whole = retone(pixels, None, 0.6)
    for top in (0, 250, 300):
        np.testing.assert_array_equal(retone(pixels[top:], None, 0.6), whole[top:])


def test_adds_a_local_change_to_lightness():
    grey = np.full((4, 4, 3), 100, np.uint8)
    change = np.zeros((4, 4), np.float32)
    change[:, 2:] = 20
    changed = retone(grey, change, 1.0)
    np.testing.assert_array_equal(changed[:, :2], 100)
    assert (changed[:, 2:] > 110).all()
