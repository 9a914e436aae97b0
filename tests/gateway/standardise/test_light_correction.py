import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.standardise.exposure import (
    EXPOSURE_TARGET,
    GAMMA_RANGE,
    compute_exposure_goal,
)
from gateway.standardise.light import measure_light
from gateway.standardise.light_correction import correct_light
from gateway.standardise.quality import estimate_noise

WHOLE = np.ones((96, 96), bool)
PICTURES = hnp.arrays(np.uint8, (96, 96, 3), elements=st.integers(0, 255), fill=st.integers(0, 255))
NOISES = st.floats(0, 60)


def picture(mean, spread, side=96):
    """A grey gradient with about this mean and spread of lightness."""
    ramp = np.linspace(-1.73, 1.73, side * side).reshape(side, side)
    lab = np.full((side, side, 3), 128, np.uint8)
    lab[..., 0] = np.clip(mean + spread * ramp, 0, 255)
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def lightness(pixels):
    return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[..., 0])


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_portrait_with_good_light_is_unchanged(mode):
    portrait = picture(EXPOSURE_TARGET, 55)
    corrected, before, after, plan = correct_light(portrait, WHOLE, 0.0, mode, mode)
    np.testing.assert_array_equal(corrected, portrait)
    assert before == after
    assert not plan.changes


@pytest.mark.parametrize("side", [256, 896])
def test_always_equals_the_articles_recipe(side):
    portrait = picture(60, 30, side)
    lab = cv2.cvtColor(portrait, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(lab[..., 0])
    corrected, *_ = correct_light(portrait, np.ones((side, side), bool), 9.0, "off", "always")
    np.testing.assert_array_equal(corrected, cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


@pytest.mark.parametrize("clahe", ["off", "auto", "always"])
@given(mean=st.floats(90, 200), spread=st.floats(0, 30))
def test_exposure_reaches_its_goal_after_clahe(clahe, mean, spread):
    portrait = picture(mean, spread)
    _, before, after, plan = correct_light(portrait, WHOLE, 0.0, "auto", clahe)
    assert GAMMA_RANGE[0] < plan.gamma < GAMMA_RANGE[1]
    # A difference of one level is not corrected, and OpenCV rounds L up by at most one.
    assert after.mean == pytest.approx(compute_exposure_goal(before.mean), abs=2.5)


@given(st.floats(0, 255), st.floats(0, 80))
def test_exposure_never_moves_the_mean_past_the_target(mean, spread):
    portrait = picture(mean, spread)
    _, before, after, plan = correct_light(portrait, WHOLE, 0.0, "auto", "off")
    if plan.gamma < 1:
        assert before.mean - 0.5 <= after.mean <= EXPOSURE_TARGET + 0.5
    elif plan.gamma > 1:
        assert EXPOSURE_TARGET - 0.5 <= after.mean <= before.mean + 0.5
    else:
        assert after.mean == before.mean


@given(st.floats(0, 255), st.floats(0, 255), st.floats(0, 60))
def test_darker_of_two_faces_stays_darker(one, other, spread):
    darker, lighter = sorted([one, other])
    means = [correct_light(picture(mean, spread), WHOLE, 0.0, "auto", "off")[2].mean
             for mean in (darker, lighter)]  # fmt: skip
    # Up to the rounding of the gamma.
    assert means[0] <= means[1] + 1


def test_exposure_clips_no_pixels():
    portrait = np.clip(picture(70, 25), 1, 254)
    portrait[..., 0] = np.clip(portrait[..., 0].astype(int) + 40, 1, 254)
    corrected, *_ = correct_light(portrait, WHOLE, 0.0, "auto", "off")
    assert ((corrected > 0) & (corrected < 255)).all()


def test_exposure_keeps_the_hue():
    skin = np.full((96, 96, 3), (90, 60, 45), np.uint8)
    corrected, _, _, plan = correct_light(skin, WHOLE, 0.0, "auto", "off")
    assert plan.gamma < 1
    linear = [(p[0, 0] / 255.0) ** 2.2 for p in (skin, corrected)]
    np.testing.assert_allclose(linear[1] / linear[1].sum(), linear[0] / linear[0].sum(), atol=0.03)


def test_auto_adds_less_noise_than_always():
    calm = picture(145, 12, side=256)
    noisy = np.clip(calm + np.random.default_rng(3).normal(0, 3, calm.shape), 0, 255).astype(np.uint8)
    region = np.ones((256, 256), bool)
    auto, always = (
        estimate_noise(cv2.cvtColor(correct_light(noisy, region, 0.0, "off", clahe)[0], cv2.COLOR_RGB2GRAY))
        for clahe in ("auto", "always")
    )
    was = estimate_noise(cv2.cvtColor(noisy, cv2.COLOR_RGB2GRAY))
    assert auto < 1.25 * was < 1.5 * was < always


@given(PICTURES, st.sampled_from(["auto", "off"]), st.sampled_from(["auto", "always", "off"]), NOISES)
def test_any_picture_has_finite_light_and_valid_pixels(pixels, exposure, clahe, noise):
    original = pixels.copy()
    corrected, before, after, _ = correct_light(pixels, WHOLE, noise, exposure, clahe)
    np.testing.assert_array_equal(pixels, original)
    assert corrected.shape == pixels.shape
    assert corrected.dtype == np.uint8
    for measured in (before, after):
        assert 0 <= measured.mean <= 255
        assert 0 <= measured.spread <= 127.5
        assert 0 <= measured.shadows <= 1
        assert 0 <= measured.highlights <= 1


@pytest.mark.parametrize("level", [0, 60, 128, 200, 255])
@pytest.mark.parametrize("clahe", ["auto", "always"])
def test_uniform_grey_stays_uniform(level, clahe):
    portrait = np.full((96, 96, 3), level, np.uint8)
    corrected, before, _, _ = correct_light(portrait, WHOLE, 0.0, "auto", clahe)
    assert before.spread == 0
    assert len(np.unique(corrected)) == 1


@pytest.mark.parametrize("side", [32, 96, 200, 400])
@pytest.mark.parametrize("level", [80, 128, 200])
def test_clahe_keeps_flat_pictures_of_any_size(level, side):
    portrait = np.full((side, side, 3), level, np.uint8)
    _, before, after, _ = correct_light(portrait, np.ones((side, side), bool), 0.0, "off", "always")
    assert abs(after.mean - before.mean) < 12


@given(st.floats(20, 240), st.floats(1, 70), st.sampled_from(["auto", "always"]))
def test_reported_light_matches_the_pixels(mean, spread, clahe):
    portrait = picture(mean, spread)
    corrected, before, after, _ = correct_light(portrait, WHOLE, 0.0, "auto", clahe)
    assert before == measure_light(lightness(portrait), WHOLE)
    assert after == measure_light(lightness(corrected), WHOLE)


@given(PICTURES)
def test_reported_light_matches_pixels_of_extreme_colours(pixels):
    """Some colours clip at the target lightness; the report has the result."""
    corrected, _, after, _ = correct_light(pixels, WHOLE, 0.0, "auto", "always")
    assert after == measure_light(lightness(corrected), WHOLE)


def test_measures_only_the_region():
    portrait = picture(130, 50)
    portrait[:48] = 0
    region = np.zeros((96, 96), bool)
    region[48:] = True
    _, before, _, _ = correct_light(portrait, region, 0.0, "auto", "off")
    assert before == measure_light(lightness(portrait)[48:], WHOLE[48:])
