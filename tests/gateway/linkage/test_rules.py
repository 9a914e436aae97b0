import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.faces import Face, Pose
from gateway.imaging.decoder import Photo
from gateway.linkage.auto_strength import choose_strength
from gateway.linkage.rules import link
from gateway.params import EnhanceParams, PreprocessParams
from gateway.standardise import standardise
from gateway.standardise.face_window import cut_window
from gateway.standardise.light import LightPlan
from gateway.standardise.quality import Quality
from gateway.timings import Timings
from gpen_common.types import ModelInfo, RestoreParams
from tests.support.faces import GivenFinder

FIVE = np.array([[40, 45], [70, 45], [55, 60], [42, 75], [68, 75]], np.float32)
SCALES = ("strength", "denoise", "sharpen", "brightness", "contrast")
SIZELESS = ModelInfo("foreign", ready=True, engine="x")


DETAILED = np.kron(np.indices((64, 64)).sum(0)[..., None] % 2 * 120 + 60, np.ones((2, 2, 3))).astype(np.uint8)
BLURRED = cv2.GaussianBlur(DETAILED, (0, 0), 4)


PLAIN = standardise(
    Photo(np.full((128, 128, 3), 128, np.uint8), None, "PNG"),
    PreprocessParams(clahe="off"),
    GivenFinder([Face((30, 20, 80, 90), FIVE, 0.9, Pose(0, 0, 0))]),
    Timings(),
)


def portrait(yaw=0.0, weight=0.0, gamma=1.0, seen=True, pose_known=True):
    pose = Pose(yaw, 0, 0) if pose_known else None
    face = replace(PLAIN.face, pose=pose) if seen else None
    return replace(
        PLAIN, face=face, faces=(face,) if face else (), light_plan=LightPlan(gamma, weight, clip_limit=2.0)
    )


def model(size=None):
    return ModelInfo("gpen-bfr-512", ready=True, engine="torch", size=size)


def changes(rules, rule):
    """{parameter: (asked, effective)} of one rule."""
    return {r.parameter: (r.asked, r.effective) for r in rules if r.rule == rule}


def test_without_linkage_parameters_are_unchanged():
    asked = EnhanceParams(
        strength=33, mode="detail", denoise=1, sharpen=2, brightness=3, contrast=4, skin_protect=False,
        detail_enhance=True, linkage=False,
    )  # fmt: skip
    effective, rules = link(asked, portrait(yaw=40, weight=1, gamma=0.5), model(512))
    assert rules == ()
    assert effective == RestoreParams(
        strength=33, mode="detail", denoise=1, sharpen=2, brightness=3, contrast=4, skin_protect=False,
        detail_enhance=True, auto_align=True, inference_size=None,
    )  # fmt: skip


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_clahe_lowers_brightness_and_contrast_by_its_weight(weight):
    effective, rules = link(EnhanceParams(brightness=40, contrast=60), portrait(weight=weight), model())
    assert effective.brightness == pytest.approx(40 * (1 - 0.5 * weight), abs=0.005)
    assert effective.contrast == pytest.approx(60 * (1 - 0.6 * weight), abs=0.005)
    expected = {"brightness": (40, effective.brightness), "contrast": (60, effective.contrast)}
    assert changes(rules, "clahe") == (expected if weight else {})


def test_known_landmarks_turn_auto_align_off():
    effective, rules = link(EnhanceParams(), portrait(), model())
    assert effective.auto_align is False
    assert changes(rules, "centred") == {"auto_align": (True, False)}


def test_inference_size_is_the_models_native_size():
    effective, rules = link(EnhanceParams(), portrait(), model(1024))
    assert effective.inference_size == 1024
    assert changes(rules, "fixed_size") == {"inference_size": (None, 1024)}


def test_model_of_unknown_size_has_no_inference_size():
    effective, rules = link(EnhanceParams(), portrait(), SIZELESS)
    assert effective.inference_size is None
    assert changes(rules, "fixed_size") == {}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("yaw", "share"), [(0, 1), (25, 1), (26, 0.97), (30, 0.85), (35, 0.7), (44, 0.43), (45, 0.4), (80, 0.4)]
)
def test_strength_falls_linearly_from_25_to_45_degrees_of_yaw(yaw, share, sign):
    effective, rules = link(EnhanceParams(strength=100), portrait(yaw=sign * yaw), model())
    assert effective.strength == pytest.approx(100 * share, abs=0.01)
    assert bool(changes(rules, "large_yaw")) == (share < 1)


@pytest.mark.parametrize("asked", [EnhanceParams(yaw="off"), EnhanceParams(linkage=False)])
def test_yaw_off_or_no_linkage_keeps_strength(asked):
    assert link(asked, portrait(yaw=60), model())[0].strength == 70


def test_unknown_pose_keeps_strength():
    assert link(EnhanceParams(), portrait(yaw=60, pose_known=False), model())[0].strength == 70


@pytest.mark.parametrize(
    ("gamma", "share"), [(1, 1), (0.5, 0), (2, 0), (2**-0.5, 0.5), (2**0.5, 0.5), (2**0.25, 0.75)]
)
def test_exposure_correction_lowers_brightness(gamma, share):
    effective, rules = link(EnhanceParams(brightness=80), portrait(gamma=gamma), model())
    assert effective.brightness == pytest.approx(80 * share, abs=0.01)
    reasons = [rule.because for rule in rules if rule.rule == "exposure"]
    assert len(reasons) == (gamma != 1)
    assert all(("raised" if gamma < 1 else "lowered") in because for because in reasons)


@pytest.mark.parametrize("linkage", [True, False])
def test_without_a_face_strength_is_zero(linkage):
    effective, rules = link(EnhanceParams(strength=100, linkage=linkage), portrait(seen=False), model(512))
    assert effective.strength == 0
    assert changes(rules, "no_face") == {"strength": (100, 0)}
    assert effective.auto_align is True
    assert changes(rules, "centred") == {}


def test_rules_on_one_parameter_are_applied_in_order():
    """Each lists the requested value and the value after the rule."""
    effective, rules = link(
        EnhanceParams(brightness=80, contrast=50), portrait(yaw=35, weight=0.5, gamma=2**-0.5), model(512)
    )
    assert [(rule.rule, rule.parameter, rule.asked, rule.effective) for rule in rules] == [
        ("centred", "auto_align", True, False),
        ("fixed_size", "inference_size", None, 512),
        ("large_yaw", "strength", 70, pytest.approx(49)),
        ("clahe", "brightness", 80, 60),
        ("clahe", "contrast", 50, 35),
        ("exposure", "brightness", 80, pytest.approx(30)),
    ]
    assert effective == RestoreParams(
        strength=49, brightness=30, contrast=35, auto_align=False, inference_size=512
    )
    assert all(rule.because for rule in rules)


def test_rules_that_change_nothing_are_not_listed():
    _, rules = link(EnhanceParams(strength=0), portrait(yaw=45, weight=1, gamma=0.5), SIZELESS)
    assert [rule.rule for rule in rules] == ["centred"]


SOFT, CRISP = Quality(40.0, 8.0, 0.5), Quality(300.0, 400.0, 0.5)


@pytest.mark.parametrize("linkage", [True, False])
@pytest.mark.parametrize("quality", [SOFT, CRISP])
def test_auto_strength_follows_quality_with_or_without_linkage(quality, linkage):
    """It is requested explicitly, so linkage=false keeps it."""
    done = replace(portrait(), quality=quality)
    effective, rules = link(EnhanceParams(strength="auto", linkage=linkage), done, SIZELESS)
    assert effective.strength == choose_strength(quality)
    listed = [rule for rule in rules if rule.rule == "quality"]
    assert [(rule.parameter, rule.asked, rule.effective) for rule in listed] == [
        ("strength", "auto", effective.strength)
    ]
    assert f"sharpness {quality.sharpness:.0f}" in listed[0].because


def test_auto_strength_is_listed_even_if_equal_to_the_default(monkeypatch):
    monkeypatch.setattr("gateway.linkage.rules.choose_strength", lambda quality: 70.0)
    _, rules = link(EnhanceParams(strength="auto"), portrait(), SIZELESS)
    assert changes(rules, "quality") == {"strength": ("auto", 70.0)}


def test_auto_strength_is_lowered_for_a_turned_head():
    done = replace(portrait(yaw=35), quality=SOFT)
    effective, rules = link(EnhanceParams(strength="auto"), done, SIZELESS)
    assert effective.strength == pytest.approx(0.7 * choose_strength(SOFT), abs=0.01)
    assert changes(rules, "large_yaw") == {"strength": ("auto", effective.strength)}


def test_auto_strength_without_a_face_is_zero():
    effective, rules = link(EnhanceParams(strength="auto"), portrait(seen=False), SIZELESS)
    assert effective.strength == 0
    assert [(rule.rule, rule.asked) for rule in rules] == [("no_face", "auto")]


def test_auto_strength_is_chosen_for_each_face():
    windows = [
        cut_window(pixels, Face((30, 20, 80, 90), FIVE, 0.9, None), 512, PreprocessParams())
        for pixels in (BLURRED, DETAILED)
    ]
    strengths = [link(EnhanceParams(strength="auto"), window, SIZELESS)[0].strength for window in windows]
    assert strengths[0] > strengths[1]


PERCENTS = st.floats(0, 100)
ASKED = st.builds(
    EnhanceParams,
    **dict.fromkeys(SCALES, PERCENTS),
    linkage=st.booleans(),
    yaw=st.sampled_from(["warn", "off"]),
    mode=st.sampled_from(["natural", "strong", "detail"]),
)
PORTRAITS = st.builds(
    portrait, st.floats(-90, 90), st.floats(0, 1), st.floats(0.5, 2), st.booleans(), st.booleans()
)
MODELS = st.builds(model, st.sampled_from([None, 256, 512, 1024, 2048]))


@given(ASKED, PORTRAITS, MODELS)
def test_effective_parameters_are_valid_and_never_larger(asked, seen, chosen):
    effective, _ = link(asked, seen, chosen)
    assert RestoreParams.model_validate(effective.model_dump()) == effective
    for name in SCALES:
        assert 0 <= getattr(effective, name) <= getattr(asked, name)
        assert math.isfinite(getattr(effective, name))


@given(ASKED, PORTRAITS, MODELS)
def test_listed_rules_explain_every_change(asked, seen, chosen):
    effective, rules = link(asked, seen, chosen)
    before = RestoreParams(**asked.model_dump(include=set(RestoreParams.model_fields)))
    holds = before.model_dump()
    for rule in rules:
        assert rule.asked == getattr(before, rule.parameter)
        assert rule.effective != holds[rule.parameter], "a rule that changed nothing is not listed"
        holds[rule.parameter] = rule.effective
    assert RestoreParams(**holds) == effective


@given(ASKED, PORTRAITS, MODELS)
def test_linking_is_deterministic(asked, seen, chosen):
    assert link(asked, seen, chosen) == link(asked, seen, chosen)
