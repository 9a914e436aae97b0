"""The experiment on one photo: every column, measured."""

import asyncio
from dataclasses import dataclass, field

import cv2
import numpy as np

from gateway.evaluate.asking import LIMITS, Answer, Gateway, Unusable
from gateway.evaluate.columns import COLUMNS, SHARP_COLUMNS, STANDARDISED
from gateway.evaluate.degrade import Degradation, degrade, draw
from gateway.evaluate.fidelity import Fidelity, Perceptual, compare, crop, crop_matrix
from gateway.evaluate.measure import Place, Tone, measure_place, measure_tone
from gateway.imaging.encoder import encode
from gateway.imaging.photo import decode
from gateway.schemas.reports import QualityReport
from gpen_common.geometry import resize_matrix, transform
from gpen_common.types import Pixels, Points

# What a column is before it is standardised: framed alike, its light left alone.
_UNLIT = {"clahe": "off", "exposure": "off"}
# A face seen again further off, in distances between the eyes, is another one.
_SAME_FACE = 0.5
# GPEN's template has 107 px between the eyes; with fewer than the second a photo is no truth at its scale.
_TRUTH_EYES, _LEAST_TRUTH_EYES = 107.4, 80.0


@dataclass(frozen=True, slots=True)
class Treated:
    """A portrait as it was standardised. place: by the transform that made it. seen: where the finder sees
    the face in the portrait; None where it does not. tone: of the portrait. untouched: before its light was
    corrected."""

    place: Place
    seen: Place | None
    tone: Tone
    untouched: Tone


@dataclass(frozen=True, slots=True, eq=False)
class PhotoOutcome:
    """A photo of which nothing better is known.

    input, tone: place and light of its face, the light at the portrait's scale. treated: by column. enhanced:
    the light of the enhanced face, by column. warnings: of the default column. pictures: as they were made,
    RGB, small, for the report.
    """

    name: str
    width: int
    height: int
    quality: QualityReport | None = None
    input: Place | None = None
    tone: Tone | None = None
    treated: dict[str, Treated] = field(default_factory=dict)
    enhanced: dict[str, Tone] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    pictures: dict[str, Pixels] = field(default_factory=dict)

    @property
    def has_face(self) -> bool:
        """Whether the gateway's finder saw one."""
        return self.input is not None


@dataclass(frozen=True, slots=True, eq=False)
class SharpOutcome:
    """A sharp photo, degraded and restored. fidelity: by column, `degraded` among them. missing: columns with
    no fidelity, and why. pictures: the compared parts, RGB."""

    name: str
    how: Degradation
    fidelity: dict[str, Fidelity]
    missing: dict[str, str]
    pictures: dict[str, Pixels]


async def photo_outcome(gateway: Gateway, name: str, data: bytes, side: int) -> PhotoOutcome:
    """What every column makes of the photo `data`. side: of the pictures that are kept, px.

    Raises Unusable, GatewayGone, Refused.
    """
    framed = {
        framing: await gateway.preprocess(data, {**_UNLIT, "framing": framing})
        for framing in ("article", "face")
    }
    photo = await asyncio.to_thread(_opened, data)
    height, width = photo.shape[:2]
    plain = framed["article"]
    quality = plain.report.quality
    if plain.face is None:
        return PhotoOutcome(name, width, height, quality, warnings=tuple(plain.report.warnings))
    pictures = {"input": await asyncio.to_thread(_thumbnail, photo, side)}
    treated: dict[str, Treated] = {}
    for column in STANDARDISED:
        portrait = await gateway.preprocess(data, column.standardise or {})
        untouched = framed[(column.standardise or {}).get("framing", "article")]
        treated[column.name] = await _treated(gateway, portrait, untouched)
        pictures[f"{column.name} portrait"] = await asyncio.to_thread(_thumbnail, portrait.pixels, side)
    enhanced: dict[str, Tone] = {}
    warnings: tuple[str, ...] = ()
    for column in COLUMNS:
        answer = await gateway.enhance(data, column.params)
        enhanced[column.name] = await asyncio.to_thread(
            measure_tone, answer.pixels, transform(answer.matrix, plain.face)
        )
        pictures[column.name] = await asyncio.to_thread(_thumbnail, answer.pixels, side)
        if column.name == "ours":
            warnings = tuple(answer.report.warnings)
    return PhotoOutcome(
        name=name,
        width=width,
        height=height,
        quality=quality,
        input=measure_place(plain.face, width, height),
        tone=treated["ours"].untouched,
        treated=treated,
        enhanced=enhanced,
        warnings=warnings,
        pictures=pictures,
    )


async def sharp_outcome(
    gateway: Gateway, name: str, data: bytes, seed: int, perceptual: Perceptual | None
) -> SharpOutcome:
    """What every column makes of the sharp photo `data`, degraded by the draw of `seed` and `name`.

    Raises Unusable, GatewayGone, Refused.
    """
    found = await gateway.preprocess(data, _UNLIT)
    if found.face is None:
        raise Unusable("no face: a truth needs one")
    truth, landmarks5 = await asyncio.to_thread(_truth, data, found.face)
    how = draw(seed, name)
    degraded = await asyncio.to_thread(degrade, truth, how)
    picture = await asyncio.to_thread(encode, degraded, "png", 100)
    to_crop = crop_matrix(landmarks5)
    true_part = crop(truth, np.eye(2, 3), to_crop)
    if true_part is None:
        raise Unusable("the face is cut off by the photo's edge")
    pictures = {"truth": true_part}
    fidelity: dict[str, Fidelity] = {}
    missing: dict[str, str] = {}
    results = {"degraded": (degraded, np.eye(2, 3), True)}
    for column in SHARP_COLUMNS:
        answer = await gateway.enhance(picture, column.params)
        results[column.name] = (answer.pixels, answer.matrix, answer.face is not None)
    for column_name, (pixels, matrix, seen) in results.items():
        part = await asyncio.to_thread(crop, pixels, matrix, to_crop)
        if not seen:
            missing[column_name] = "no face was found in the degraded photo"
        if part is None:
            missing[column_name] = "the portrait does not show the whole face"
            continue
        pictures[column_name] = part
        fidelity[column_name] = await asyncio.to_thread(compare, part, true_part, perceptual)
    return SharpOutcome(name, how, fidelity, missing, pictures)


def _truth(data: bytes, landmarks5: Points) -> tuple[Pixels, Points]:
    """The photo at the scale of GPEN's template, never enlarged, and the face in it."""
    pixels = _opened(data)
    across = float(np.hypot(*(landmarks5[1] - landmarks5[0])))
    if across < _LEAST_TRUTH_EYES:
        raise Unusable(
            f"{across:.0f} px between the eyes: a truth needs {_LEAST_TRUTH_EYES:.0f} at GPEN's scale"
        )
    scale = min(_TRUTH_EYES / across, 1.0)
    if scale == 1:
        return pixels, landmarks5
    height, width = pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, transform(resize_matrix((width, height), size), landmarks5)


async def _treated(gateway: Gateway, portrait: Answer, untouched: Answer) -> Treated:
    height, width = portrait.pixels.shape[:2]
    landmarks5 = _landmarks(portrait)
    assert landmarks5 is not None, "a face that was found once is found again in the same photo"  # noqa: S101
    again = await gateway.preprocess(await asyncio.to_thread(encode, portrait.pixels, "png", 100), _UNLIT)
    seen = again.face
    if seen is not None:
        off = float(np.hypot(*(seen[:2].mean(0) - landmarks5[:2].mean(0))))
        if off > _SAME_FACE * float(np.hypot(*(landmarks5[1] - landmarks5[0]))):
            seen = None
    return Treated(
        place=measure_place(landmarks5, width, height),
        seen=None if seen is None else measure_place(seen, width, height),
        tone=await asyncio.to_thread(measure_tone, portrait.pixels, landmarks5),
        untouched=await asyncio.to_thread(measure_tone, untouched.pixels, _landmarks(untouched)),
    )


def _landmarks(answer: Answer) -> Points | None:
    """The best face in the answer's own px."""
    return None if answer.face is None else transform(answer.matrix, answer.face)


def _opened(data: bytes) -> Pixels:
    return decode(data, LIMITS).pixels


def _thumbnail(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(side / max(height, width), 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
