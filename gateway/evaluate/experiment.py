"""Run the experiment on one photo: process it in every column and measure the results."""

import asyncio
from dataclasses import dataclass, field

import cv2
import numpy as np

from gateway.evaluate.columns import COLUMNS, SHARP_COLUMNS, STANDARDISED
from gateway.evaluate.degrade import Degradation, degrade, draw
from gateway.evaluate.fidelity import Fidelity, Perceptual, compare, crop, crop_matrix
from gateway.evaluate.measure import Place, Tone, measure_place, measure_tone
from gateway.evaluate.picture_client import LIMITS, PictureClient, ProcessedPicture, UnusablePicture
from gateway.imaging.decoder import decode
from gateway.imaging.encoder import encode
from gateway.schemas.reports import QualityReport
from gpen_common.geometry import resize_matrix, transform
from gpen_common.types import Pixels, Points

# Framing without light correction: the baseline of a standardised column.
_UNLIT = {"clahe": "off", "exposure": "off"}
# A face that is found again at a larger distance, in eye distances, counts as another face.
_SAME_FACE = 0.5
# Eye distance of GPEN's template, and the smallest one of a sharp photo that serves as ground truth, px.
_TRUTH_EYES, _LEAST_TRUTH_EYES = 107.4, 80.0


@dataclass(frozen=True, slots=True)
class Treated:
    """A standardised portrait.

    place: of the face by the portrait's transform. seen: of the face as the finder sees it in the portrait;
    None if it finds none. tone: light of the portrait. untouched: light before the correction.
    """

    place: Place
    seen: Place | None
    tone: Tone
    untouched: Tone


@dataclass(frozen=True, slots=True, eq=False)
class PhotoOutcome:
    """The measurements of a photo without ground truth.

    input, tone: place and light of its face, the light at the portrait's scale. treated: portraits by column.
    enhanced: light of the enhanced face by column. warnings: of the default column. pictures: thumbnails for
    the report, RGB.
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
        """Whether the gateway found a face."""
        return self.input is not None


@dataclass(frozen=True, slots=True, eq=False)
class SharpOutcome:
    """A sharp photo, degraded and restored.

    fidelity: by column, including `degraded`. missing: columns without fidelity, with the reason.
    pictures: the compared crops, RGB.
    """

    name: str
    how: Degradation
    fidelity: dict[str, Fidelity]
    missing: dict[str, str]
    pictures: dict[str, Pixels]


async def process_photo(client: PictureClient, name: str, data: bytes, side: int) -> PhotoOutcome:
    """Process the photo `data` in every column. side: longer side of the thumbnails, px.

    Raises UnusablePicture, GatewayGone, Refused.
    """
    framed = {
        framing: await client.preprocess(data, {**_UNLIT, "framing": framing})
        for framing in ("article", "face")
    }
    photo = await asyncio.to_thread(_decode, data)
    height, width = photo.shape[:2]
    plain = framed["article"]
    quality = plain.report.quality
    if plain.face is None:
        return PhotoOutcome(name, width, height, quality, warnings=tuple(plain.report.warnings))
    pictures = {"input": await asyncio.to_thread(_thumbnail, photo, side)}
    treated: dict[str, Treated] = {}
    for column in STANDARDISED:
        portrait = await client.preprocess(data, column.standardise or {})
        untouched = framed[(column.standardise or {}).get("framing", "article")]
        treated[column.name] = await _measure_portrait(client, portrait, untouched)
        pictures[f"{column.name} portrait"] = await asyncio.to_thread(_thumbnail, portrait.pixels, side)
    enhanced: dict[str, Tone] = {}
    warnings: tuple[str, ...] = ()
    for column in COLUMNS:
        answer = await client.enhance(data, column.params)
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


async def process_sharp_photo(
    client: PictureClient, name: str, data: bytes, seed: int, perceptual: Perceptual | None
) -> SharpOutcome:
    """Degrade the sharp photo `data` as drawn from `seed` and `name`, and restore it in every column.

    Raises UnusablePicture, GatewayGone, Refused.
    """
    found = await client.preprocess(data, _UNLIT)
    if found.face is None:
        raise UnusablePicture("no face was found; ground truth needs one")
    truth, landmarks5 = await asyncio.to_thread(_scale_truth, data, found.face)
    how = draw(seed, name)
    degraded = await asyncio.to_thread(degrade, truth, how)
    picture = await asyncio.to_thread(encode, degraded, "png", 100)
    to_crop = crop_matrix(landmarks5)
    truth_crop = crop(truth, np.eye(2, 3), to_crop)
    if truth_crop is None:
        raise UnusablePicture("the edge of the photo cuts off the face")
    pictures = {"truth": truth_crop}
    fidelity: dict[str, Fidelity] = {}
    missing: dict[str, str] = {}
    results = {"degraded": (degraded, np.eye(2, 3), True)}
    for column in SHARP_COLUMNS:
        answer = await client.enhance(picture, column.params)
        results[column.name] = (answer.pixels, answer.matrix, answer.face is not None)
    for column_name, (pixels, matrix, seen) in results.items():
        part = await asyncio.to_thread(crop, pixels, matrix, to_crop)
        if not seen:
            missing[column_name] = "no face was found in the degraded photo"
        if part is None:
            missing[column_name] = "the portrait does not show the whole face"
            continue
        pictures[column_name] = part
        fidelity[column_name] = await asyncio.to_thread(compare, part, truth_crop, perceptual)
    return SharpOutcome(name, how, fidelity, missing, pictures)


def _scale_truth(data: bytes, landmarks5: Points) -> tuple[Pixels, Points]:
    """Return the photo at the scale of GPEN's template, never enlarged, and its landmarks5 (5, 2)."""
    pixels = _decode(data)
    across = float(np.hypot(*(landmarks5[1] - landmarks5[0])))
    if across < _LEAST_TRUTH_EYES:
        raise UnusablePicture(
            f"{across:.0f} px between the eyes; ground truth at GPEN's scale needs {_LEAST_TRUTH_EYES:.0f}"
        )
    scale = min(_TRUTH_EYES / across, 1.0)
    if scale == 1:
        return pixels, landmarks5
    height, width = pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, transform(resize_matrix((width, height), size), landmarks5)


async def _measure_portrait(
    client: PictureClient, portrait: ProcessedPicture, untouched: ProcessedPicture
) -> Treated:
    height, width = portrait.pixels.shape[:2]
    landmarks5 = _landmarks(portrait)
    assert landmarks5 is not None, "finding a face in the same photo is deterministic"  # noqa: S101
    again = await client.preprocess(await asyncio.to_thread(encode, portrait.pixels, "png", 100), _UNLIT)
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


def _landmarks(answer: ProcessedPicture) -> Points | None:
    """Return the best face in px of the processed picture, (5, 2)."""
    return None if answer.face is None else transform(answer.matrix, answer.face)


def _decode(data: bytes) -> Pixels:
    return decode(data, LIMITS).pixels


def _thumbnail(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(side / max(height, width), 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
