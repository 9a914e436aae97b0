"""Adapt the requested GPEN parameters to the result of standardising, by rules listed in the report."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.faces import Face
from gateway.linkage.auto_strength import choose_strength, explain_strength
from gateway.params import EnhanceParams
from gateway.standardise.light import LightPlan
from gateway.standardise.portrait import YAW_LIMIT
from gateway.standardise.quality import Quality
from gpen_common.types import ModelInfo, RestoreParams

# Shares of brightness and contrast that a full CLAHE replaces. Source: the article.
_CLAHE_TAKES_BRIGHTNESS, _CLAHE_TAKES_CONTRAST = 0.5, 0.6
YAW_END = 45.0
"""Degrees of yaw from which strength has its minimum.

Strength falls linearly from YAW_LIMIT, where a network for frontal faces starts to invent detail. A step
would be wrong, because landmark methods err by 4 to 6 degrees.
"""

# Share of the strength that is left from YAW_END on.
_YAW_SHARE = 0.4
# Restoration parameters that callers can set. The others have their defaults.
_SETTABLE = set(RestoreParams.model_fields) & set(EnhanceParams.model_fields)
_DEFAULTS = RestoreParams().model_dump()


class Standardised(Protocol):
    """The input of linkage: a portrait, or a window of a whole photo."""

    @property
    def face(self) -> Face | None:
        """The main face, or None."""

    @property
    def light_plan(self) -> LightPlan:
        """The light correction."""

    @property
    def quality(self) -> Quality:
        """The quality of the face before the correction."""


@dataclass(frozen=True, slots=True)
class AppliedRule:
    """A rule that changed a parameter.

    asked: the value in the request. effective: the value after this rule. because: the reason.
    """

    rule: str
    parameter: str
    asked: Any
    effective: Any
    because: str


def link(
    asked: EnhanceParams, done: Standardised, model: ModelInfo
) -> tuple[RestoreParams, tuple[AppliedRule, ...]]:
    """Adapt `asked` to the standardised image `done` and to `model`.

    Returns the effective parameters and the rules that changed any. Two rules apply even with
    `linkage=false`: `no_face`, because nothing is restored without a face, and `quality`, which
    `strength=auto` requests.
    """
    linking = _Linking(asked)
    if asked.strength == "auto" and done.face is not None:
        linking.set("quality", "strength", choose_strength(done.quality), explain_strength(done.quality))
    if done.face is None:
        linking.set("no_face", "strength", 0.0, "no face was found, so nothing is restored")
    if asked.linkage:
        _link_alignment(linking, done)
        _link_size(linking, model)
        _link_yaw(linking, asked, done)
        _link_light(linking, done)
    return linking.effective, tuple(linking.rules)


def _link_alignment(linking: "_Linking", done: Standardised) -> None:
    if done.face is not None:
        linking.set("centred", "auto_align", False, "the landmarks are known and are sent to the backend")


def _link_size(linking: "_Linking", model: ModelInfo) -> None:
    if model.size is not None:
        linking.set("fixed_size", "inference_size", model.size, f"the native size of {model.name}")


def _link_yaw(linking: "_Linking", asked: EnhanceParams, done: Standardised) -> None:
    pose = done.face and done.face.pose
    if not pose or asked.yaw == "off" or abs(pose.yaw) <= YAW_LIMIT:
        return
    past = min((abs(pose.yaw) - YAW_LIMIT) / (YAW_END - YAW_LIMIT), 1.0)
    linking.scale(
        "large_yaw", "strength", 1 - (1 - _YAW_SHARE) * past, f"the head is turned {abs(pose.yaw):.0f}°"
    )


def _link_light(linking: "_Linking", done: Standardised) -> None:
    plan = done.light_plan
    if plan.clahe_weight > 0:
        because = f"CLAHE of weight {plan.clahe_weight:.2f} has already raised the local contrast"
        linking.scale("clahe", "brightness", 1 - _CLAHE_TAKES_BRIGHTNESS * plan.clahe_weight, because)
        linking.scale("clahe", "contrast", 1 - _CLAHE_TAKES_CONTRAST * plan.clahe_weight, because)
    if plan.gamma != 1.0:
        direction = "raised" if plan.gamma < 1 else "lowered"
        # A gamma of 2 or 1/2 and beyond replaces all of the requested brightening.
        share = max(0.0, 1 - abs(math.log2(plan.gamma)))
        linking.scale(
            "exposure", "brightness", share, f"the exposure was {direction} by a gamma of {plan.gamma:.2f}"
        )


class _Linking:
    """The parameters, and the rules applied to them so far."""

    def __init__(self, asked: EnhanceParams) -> None:
        self._asked = {**_DEFAULTS, **asked.model_dump(include=_SETTABLE)}
        self._values = dict(self._asked)
        self.rules: list[AppliedRule] = []

    @property
    def effective(self) -> RestoreParams:
        """The parameters after the rules so far."""
        return RestoreParams(**self._values)

    def set(self, rule: str, parameter: str, value: Any, because: str) -> None:  # noqa: ANN401
        """Apply and record `rule`, unless it changes nothing."""
        if self._values[parameter] != value:
            self._values[parameter] = value
            self.rules.append(AppliedRule(rule, parameter, self._asked[parameter], value, because))

    def scale(self, rule: str, parameter: str, share: float, because: str) -> None:
        """Multiply a parameter with a scale of 0 to 100 by `share`, 0 to 1."""
        before = self._values[parameter]
        # Rounding must not raise the value.
        self.set(rule, parameter, min(round(before * share, 2), before), because)
