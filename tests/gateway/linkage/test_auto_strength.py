from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.linkage.auto_strength import LEAST, MOST, choose_strength, explain_strength
from gateway.params import EnhanceParams
from gateway.standardise.quality import Quality

EYES, SHARPNESS, NOISE = st.floats(0, 5000), st.floats(0, 5000), st.floats(0, 128)
QUALITIES = st.builds(Quality, st.none() | EYES, SHARPNESS, NOISE)


@given(QUALITIES)
def test_strength_stays_within_its_bounds(quality):
    assert LEAST <= choose_strength(quality) <= MOST


@given(QUALITIES, EYES, EYES)
def test_smaller_face_never_gets_less_strength(quality, one, other):
    small, large = sorted([one, other])
    strengths = [choose_strength(replace(quality, interocular_px=px)) for px in (small, large)]
    assert strengths[0] >= strengths[1]


@given(QUALITIES, SHARPNESS, SHARPNESS)
def test_softer_face_never_gets_less_strength(quality, one, other):
    soft, sharp = sorted([one, other])
    strengths = [choose_strength(replace(quality, sharpness=value)) for value in (soft, sharp)]
    assert strengths[0] >= strengths[1]


@given(QUALITIES, NOISE, NOISE)
def test_noisier_face_never_gets_less_strength(quality, one, other):
    calm, noisy = sorted([one, other])
    strengths = [choose_strength(replace(quality, noise_sigma=sigma)) for sigma in (noisy, calm)]
    assert strengths[0] >= strengths[1]


@given(QUALITIES)
def test_strength_is_deterministic(quality):
    assert choose_strength(quality) == choose_strength(quality)


@pytest.mark.parametrize(
    ("quality", "strength"),
    [
        (Quality(200.0, 400.0, 0.5), 25.0),
        (Quality(None, 400.0, 0.5), 25.0),
        (Quality(24.0, 400.0, 0.5), 70.5),
        (Quality(200.0, 10.0, 0.5), 83.5),
        (Quality(200.0, 400.0, 6.0), 64.0),
        (Quality(10.0, 1.0, 30.0), 89.2),
    ],
)
def test_strength_at_the_ends_of_each_measure(quality, strength):
    """The ends of the documented curve."""
    assert choose_strength(quality) == strength


def test_explanation_states_the_measures():
    assert (
        explain_strength(Quality(41.7, 12.3, 2.04)) == "42 px between the eyes, sharpness 12, noise sigma 2.0"
    )
    assert explain_strength(Quality(None, 12.3, 2.04)) == "sharpness 12, noise sigma 2.0"


@pytest.mark.parametrize(("given_as", "understood"), [("auto", "auto"), ("40", 40), (40.5, 40.5), (0, 0)])
def test_accepts_a_percentage_or_auto(given_as, understood):
    assert EnhanceParams(strength=given_as).strength == understood


@pytest.mark.parametrize("wrong", ["automatic", "", -1, "101", None, "nan"])
def test_rejects_other_values_with_one_error(wrong):
    with pytest.raises(ValidationError) as caught:
        EnhanceParams(strength=wrong)
    assert [error["loc"] for error in caught.value.errors()] == [("strength",)]
