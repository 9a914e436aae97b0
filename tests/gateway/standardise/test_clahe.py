import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.standardise.clahe import plan_clahe
from gateway.standardise.light import CLAHE_CLIP_LIMIT, Light, LightPlan

NOISES = st.floats(0, 60)
LIGHTS = st.builds(Light, st.floats(0, 255), st.floats(0, 127.5), st.floats(0, 1), st.floats(0, 1))


def light(mean=130.0, spread=50.0):
    return Light(mean, spread, 0.0, 0.0)


def test_face_with_enough_contrast_needs_no_clahe():
    assert not plan_clahe(light(spread=50.0), 0.0, "auto").changes


@given(LIGHTS, NOISES)
def test_plan_stays_within_its_bounds(before, noise):
    plan = plan_clahe(before, noise, "auto")
    assert plan.gamma == 1
    assert 0 <= plan.clahe_weight <= 1
    assert CLAHE_CLIP_LIMIT / 2 <= plan.clip_limit <= CLAHE_CLIP_LIMIT


@given(st.floats(0, 127.5), st.floats(0, 127.5))
def test_flatter_face_never_gets_less_clahe(one, other):
    flat, rich = sorted([one, other])
    weights = [plan_clahe(light(spread=spread), 0, "auto").clahe_weight for spread in (flat, rich)]
    assert weights[0] >= weights[1]


@pytest.mark.parametrize(("spread", "weight"), [(5, 1), (15, 1), (30, 0.5), (45, 0), (80, 0)])
def test_clahe_weight_falls_linearly_with_spread(spread, weight):
    assert plan_clahe(light(spread=spread), 0, "auto").clahe_weight == weight


@given(NOISES, NOISES)
def test_noisier_face_never_gets_a_higher_clip_limit(one, other):
    calm, noisy = sorted([one, other])
    limits = [plan_clahe(light(spread=10), noise, "auto").clip_limit for noise in (calm, noisy)]
    assert limits[0] >= limits[1]


@pytest.mark.parametrize(("noise", "limit"), [(0, 2), (3, 1.5), (6, 1), (50, 1)])
def test_noise_lowers_the_clip_limit_to_half(noise, limit):
    assert plan_clahe(light(spread=10), noise, "auto").clip_limit == limit


@given(LIGHTS, NOISES)
def test_always_plans_the_articles_clahe(before, noise):
    assert plan_clahe(before, noise, "always") == LightPlan(1.0, 1.0, 2.0)


@given(LIGHTS, NOISES)
def test_off_plans_no_change(before, noise):
    assert not plan_clahe(before, noise, "off").changes
