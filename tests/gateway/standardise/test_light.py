import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.standardise.light import (
    CLAHE_CLIP_LIMIT,
    Light,
    LightPlan,
    correct_light,
    face_region,
    measure_light,
    plan_light,
)

LOW, HIGH = 105.0, 165.0
WHOLE = np.ones((96, 96), bool)
PICTURES = hnp.arrays(np.uint8, (96, 96, 3), elements=st.integers(0, 255), fill=st.integers(0, 255))
NOISES = st.floats(0, 60)
LIGHTS = st.builds(Light, st.floats(0, 255), st.floats(0, 127.5), st.floats(0, 1), st.floats(0, 1))


def light(mean=130.0, spread=50.0):
    return Light(mean, spread, 0.0, 0.0)


def picture(mean, spread, side=96):
    """A grey picture of about this lightness, which runs evenly from dark to light."""
    ramp = np.linspace(-1.73, 1.73, side * side).reshape(side, side)
    lab = np.full((side, side, 3), 128, np.uint8)
    lab[..., 0] = np.clip(mean + spread * ramp, 0, 255)
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def lightness(pixels):
    return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[..., 0])


# --- the plan


@pytest.mark.parametrize("mean", [LOW, 130.0, HIGH])
def test_good_light_needs_nothing(mean):
    plan = plan_light(light(mean), 0.0, "auto", "auto")
    assert not plan.changes
    assert (plan.gamma, plan.clahe_weight) == (1.0, 0.0)


@given(LIGHTS, NOISES)
def test_a_plan_is_always_within_its_bounds(before, noise):
    plan = plan_light(before, noise, "auto", "auto")
    assert 0.5 <= plan.gamma <= 2
    assert 0 <= plan.clahe_weight <= 1
    assert CLAHE_CLIP_LIMIT / 2 <= plan.clip_limit <= CLAHE_CLIP_LIMIT


@given(st.floats(0, 255), st.floats(0, 255))
def test_the_darker_face_is_never_raised_less(one, other):
    darker, lighter = sorted([one, other])
    gammas = [plan_light(light(mean), 0, "auto", "off").gamma for mean in (darker, lighter)]
    assert gammas[0] <= gammas[1]


@given(st.floats(0, 255))
def test_gamma_raises_below_the_band_and_lowers_above_it(mean):
    gamma = plan_light(light(mean), 0, "auto", "off").gamma
    assert (gamma < 1) == (gamma != 1 and mean < LOW)
    assert (gamma > 1) == (gamma != 1 and mean > HIGH)
    if LOW <= mean <= HIGH:
        assert gamma == 1


@given(st.floats(0, 127.5), st.floats(0, 127.5))
def test_the_flatter_face_never_gets_less_clahe(one, other):
    flat, rich = sorted([one, other])
    weights = [plan_light(light(spread=spread), 0, "off", "auto").clahe_weight for spread in (flat, rich)]
    assert weights[0] >= weights[1]


@pytest.mark.parametrize(("spread", "weight"), [(5, 1), (15, 1), (26.5, 0.5), (38, 0), (80, 0)])
def test_clahe_falls_from_full_weight_on_flat_faces_to_none_on_rich_ones(spread, weight):
    assert plan_light(light(spread=spread), 0, "auto", "auto").clahe_weight == weight


@given(NOISES, NOISES)
def test_the_noisier_face_never_gets_a_higher_clip_limit(one, other):
    calm, noisy = sorted([one, other])
    limits = [plan_light(light(spread=10), noise, "off", "auto").clip_limit for noise in (calm, noisy)]
    assert limits[0] >= limits[1]


@pytest.mark.parametrize(("noise", "limit"), [(0, 2), (3, 1.5), (6, 1), (50, 1)])
def test_noise_halves_the_clip_limit(noise, limit):
    assert plan_light(light(spread=10), noise, "auto", "auto").clip_limit == limit


@given(LIGHTS, NOISES)
def test_always_is_the_articles_clahe_whatever_the_light(before, noise):
    assert plan_light(before, noise, "off", "always") == LightPlan(1.0, 1.0, 2.0)


@given(LIGHTS, NOISES)
def test_off_is_off(before, noise):
    assert not plan_light(before, noise, "off", "off").changes


# --- the correction


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_portrait_that_needs_nothing_comes_back_bit_by_bit(mode):
    portrait = picture(130, 55)
    corrected, before, after, plan = correct_light(portrait, WHOLE, 0.0, mode, mode)
    np.testing.assert_array_equal(corrected, portrait)
    assert before == after
    assert not plan.changes


def test_always_equals_the_articles_recipe():
    portrait = picture(60, 30)
    lab = cv2.cvtColor(portrait, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(lab[..., 0])
    corrected, *_ = correct_light(portrait, WHOLE, 9.0, "off", "always")
    np.testing.assert_array_equal(corrected, cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


@given(st.floats(0, 255), st.floats(0, 80))
def test_exposure_moves_the_mean_towards_the_band_and_never_past_it(mean, spread):
    portrait = picture(mean, spread)
    _, before, after, plan = correct_light(portrait, WHOLE, 0.0, "auto", "off")
    # The gamma has three digits and the table rounds to whole levels.
    if plan.gamma < 1:
        assert before.mean - 0.5 <= after.mean <= LOW + 0.5
    elif plan.gamma > 1:
        assert HIGH - 0.5 <= after.mean <= before.mean + 0.5
    else:
        assert after.mean == before.mean


@given(PICTURES, st.sampled_from(["auto", "off"]), st.sampled_from(["auto", "always", "off"]), NOISES)
def test_any_picture_is_corrected_into_numbers(pixels, exposure, clahe, noise):
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
def test_a_picture_of_one_grey_stays_one_grey(level, clahe):
    portrait = np.full((96, 96, 3), level, np.uint8)
    corrected, before, _, _ = correct_light(portrait, WHOLE, 0.0, "auto", clahe)
    assert before.spread == 0
    assert len(np.unique(corrected)) == 1


@given(st.floats(20, 240), st.floats(1, 70), st.sampled_from(["auto", "always"]))
def test_the_report_tells_what_is_in_the_pixels(mean, spread, clahe):
    portrait = picture(mean, spread)
    corrected, before, after, _ = correct_light(portrait, WHOLE, 0.0, "auto", clahe)
    assert before == measure_light(lightness(portrait), WHOLE)
    assert after == measure_light(lightness(corrected), WHOLE)


@given(PICTURES)
def test_the_report_tells_what_is_in_the_pixels_of_the_strangest_colours(pixels):
    """Not every lightness exists in every colour: what is told is what came out."""
    corrected, _, after, _ = correct_light(pixels, WHOLE, 0.0, "auto", "always")
    assert after == measure_light(lightness(corrected), WHOLE)


def test_only_the_region_decides():
    portrait = picture(130, 50)
    portrait[:48] = 0
    region = np.zeros((96, 96), bool)
    region[48:] = True
    _, before, _, _ = correct_light(portrait, region, 0.0, "auto", "off")
    assert before == measure_light(lightness(portrait)[48:], WHOLE[48:])


def test_shadows_and_highlights_are_shares_of_the_region():
    values = np.array([[0, 5, 6, 128], [249, 250, 255, 128]], np.uint8)
    measured = measure_light(values, np.ones((2, 4), bool))
    assert (measured.shadows, measured.highlights) == (0.25, 0.25)


# --- the region

FIVE = np.array([[340, 420], [556, 420], [448, 540], [360, 640], [536, 640]], np.float32)


def test_without_a_face_the_whole_picture_counts():
    assert face_region((20, 10), None).shape == (10, 20)
    assert face_region((20, 10), None).all()


def test_the_region_holds_the_face_and_leaves_the_background_out():
    region = face_region((896, 896), FIVE)
    for x, y in FIVE.astype(int):
        assert region[y, x]
    assert not region[100, 100]
    assert not region[448, 100]
    assert region[700, 448], "the chin"
    assert not region[820, 448], "the collar"
    assert 0.05 < region.mean() < 0.4


@pytest.mark.parametrize("degrees", [90, 180, 37])
def test_the_region_turns_with_the_face(degrees):
    turn = cv2.getRotationMatrix2D((447.5, 447.5), degrees, 1)
    turned = face_region((896, 896), (FIVE @ turn[:, :2].T + turn[:, 2]).astype(np.float32))
    expected = cv2.warpAffine(face_region((896, 896), FIVE).astype(np.uint8), turn, (896, 896)) > 0
    assert (turned == expected).mean() > 0.98


@given(hnp.arrays(np.float32, (5, 2), elements=st.floats(-3000, 3000, width=32)))
def test_the_region_is_never_empty(landmarks5):
    region = face_region((96, 64), landmarks5)
    assert region.shape == (64, 96)
    assert region.any()
