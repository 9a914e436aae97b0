"""What standardising did changes what GPEN should do: asked parameters -> effective parameters.

A pure function over plain data; every rule that changed something is told.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.faces import Face
from gateway.linkage.auto_strength import auto_strength, why_auto
from gateway.params import EnhanceParams
from gateway.standardise.light import LightPlan
from gateway.standardise.portrait import YAW_LIMIT
from gateway.standardise.quality import Quality
from gpen_common.types import ModelInfo, RestoreParams

# Halving brightness and dropping 60 % of contrast after a full CLAHE is the article's advice.
_CLAHE_TAKES_BRIGHTNESS, _CLAHE_TAKES_CONTRAST = 0.5, 0.6
YAW_END = 45.0
"""Degrees of yaw at which strength has fallen to its least.

Landmark methods err by 4 to 6 degrees, so the limit is the start of a band and no cliff; past it a frontal
network starts to invent.
"""

_YAW_SHARE = 0.4
# What of the parameters of a restoration a caller may ask for, and what holds for the others.
_BOTH = set(RestoreParams.model_fields) & set(EnhanceParams.model_fields)
_DEFAULTS = RestoreParams().model_dump()


class Standardised(Protocol):
    """What linkage must know of a portrait, or of a window of a whole photo."""

    @property
    def face(self) -> Face | None:
        """The face it is centred on."""

    @property
    def light_plan(self) -> LightPlan:
        """How its light was corrected."""

    @property
    def quality(self) -> Quality:
        """How good the face is."""


@dataclass(frozen=True, slots=True)
class AppliedRule:
    """One rule that changed a parameter.

    asked: what the caller asked. effective: what holds after this rule.
    """

    rule: str
    parameter: str
    asked: Any
    effective: Any
    because: str


def link(
    asked: EnhanceParams, done: Standardised, model: ModelInfo
) -> tuple[RestoreParams, tuple[AppliedRule, ...]]:
    """The parameters of a restoration by `model` of what is `done`, and the rules that made them.

    With `linkage=false` only these apply: `no_face`, for a face that nobody found is never restored, and
    `quality`, which was asked for by `strength=auto`.
    """
    linking = _Linking(asked)
    if asked.strength == "auto" and done.face is not None:
        linking.set("quality", "strength", auto_strength(done.quality), why_auto(done.quality))
    if done.face is None:
        linking.set("no_face", "strength", 0.0, "no face was found: nothing may be made up")
    if asked.linkage:
        _link_alignment(linking, done)
        _link_size(linking, model)
        _link_yaw(linking, asked, done)
        _link_light(linking, done)
    return linking.effective, tuple(linking.rules)


def _link_alignment(linking: "_Linking", done: Standardised) -> None:
    if done.face is not None:
        linking.set("centred", "auto_align", False, "the landmarks are known and travel with the picture")


def _link_size(linking: "_Linking", model: ModelInfo) -> None:
    if model.size is not None:
        linking.set(
            "fixed_size", "inference_size", model.size, f"every portrait has one size; {model.name}'s own"
        )


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
        because = f"CLAHE of weight {plan.clahe_weight:.2f} has raised the local contrast already"
        linking.scale("clahe", "brightness", 1 - _CLAHE_TAKES_BRIGHTNESS * plan.clahe_weight, because)
        linking.scale("clahe", "contrast", 1 - _CLAHE_TAKES_CONTRAST * plan.clahe_weight, because)
    if plan.gamma != 1.0:
        direction = "raised" if plan.gamma < 1 else "lowered"
        # A gamma of 2 or 1/2 and beyond leaves no brightening to ask for.
        share = max(0.0, 1 - abs(math.log2(plan.gamma)))
        linking.scale(
            "exposure", "brightness", share, f"the exposure was {direction} by a gamma of {plan.gamma:.2f}"
        )


class _Linking:
    """The parameters as the rules change them, one after the other."""

    def __init__(self, asked: EnhanceParams) -> None:
        self._asked = {**_DEFAULTS, **asked.model_dump(include=_BOTH)}
        self._values = dict(self._asked)
        self.rules: list[AppliedRule] = []

    @property
    def effective(self) -> RestoreParams:
        """The parameters by now."""
        return RestoreParams(**self._values)

    def set(self, rule: str, parameter: str, value: Any, because: str) -> None:  # noqa: ANN401
        """Notes and applies `rule`, unless it changes nothing."""
        if self._values[parameter] != value:
            self._values[parameter] = value
            self.rules.append(AppliedRule(rule, parameter, self._asked[parameter], value, because))

    def scale(self, rule: str, parameter: str, share: float, because: str) -> None:
        """Multiplies a scale of 0 to 100 by `share`, 0 to 1."""
        before = self._values[parameter]
        # Rounding may not raise what was asked.
        self.set(rule, parameter, min(round(before * share, 2), before), because)
