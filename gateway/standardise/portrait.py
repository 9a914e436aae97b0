"""Turn a photo into a portrait: find faces, check the pose, frame, measure, correct the light."""

from dataclasses import dataclass, replace

import numpy as np

from gateway.errors import HeadTurned, NoFace
from gateway.faces import Face, FaceFinder
from gateway.imaging.decoder import Photo
from gateway.params import Framing, PreprocessParams
from gateway.standardise.framing import (
    PORTRAIT_SIDE,
    cut,
    cut_face,
    fit_face_matrix,
    measure_outside_share,
    place_article_window,
)
from gateway.standardise.light import Light, LightPlan, find_face_region
from gateway.standardise.light_correction import correct_light
from gateway.standardise.quality import Quality, measure_quality
from gateway.timings import Timings
from gpen_common.geometry import DegenerateLandmarks, compose, invert, resize_matrix, transform
from gpen_common.types import Matrix, Pixels, Points

YAW_LIMIT = 25.0
"""Degrees of yaw past which a head counts as turned. Source: the article."""

_MIDDLE = PORTRAIT_SIDE / 2
# Larger shares of filled-in surroundings are reported.
_VISIBLE_FILL = 0.02
# Smaller interocular distances, px, give the network too little detail.
_SMALL_FACE = 24


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A standardised portrait and how it was made.

    pixels: (896, 896, 3) uint8 RGB. matrix: (2, 3), photo px -> portrait px. face: the face it is centred on,
    in photo px, or None. faces: all faces that lie completely in the portrait, that one first, in photo px.
    off_centre_px: distance of the point between the eyes from its intended place, portrait px; None without a
    face. short_edge: length of the photo's shorter edge at the portrait's scale, px. light_before,
    light_after, light_plan: around the face. quality: before the correction. warnings: for the report.
    """

    pixels: Pixels
    matrix: Matrix
    face: Face | None
    faces: tuple[Face, ...]
    off_centre_px: float | None
    short_edge: float
    light_before: Light
    light_after: Light
    light_plan: LightPlan
    quality: Quality
    warnings: tuple[str, ...]

    @property
    def landmarks(self) -> Points:
        """The landmarks of `faces` in portrait px: (F, 5, 2) float32."""
        mapped = [transform(self.matrix, face.landmarks5) for face in self.faces]
        return np.array(mapped, np.float32).reshape(-1, 5, 2)


def standardise(photo: Photo, params: PreprocessParams, finder: FaceFinder, timings: Timings) -> Portrait:
    """Make the portrait of `photo`. Raises NoFace and HeadTurned if `params` reject such photos."""
    with timings.stage("find_faces"):
        found = finder.find(photo.pixels)
    face = choose_face(found, params, finder.name)
    with timings.stage("frame"):
        framed = _frame(photo, face, params.framing)
    # The main face always counts, even if it is larger than the window.
    faces = tuple(other for other in found if other is face or _is_inside(framed.matrix, other))
    with timings.stage("light"):
        landmarks5 = None if face is None else transform(framed.matrix, face.landmarks5)
        quality = measure_quality(photo.pixels, None if face is None else face.landmarks5)
        region = find_face_region((PORTRAIT_SIDE, PORTRAIT_SIDE), landmarks5)
        corrected, before, after, plan = correct_light(
            framed.pixels, region, quality.noise_sigma, params.exposure, params.clahe
        )
    matrix = framed.matrix
    if photo.file_size is not None:
        # Report coordinates in px of the file, not of the reduced decoding.
        to_file = resize_matrix((photo.width, photo.height), photo.file_size)
        matrix = compose(matrix, invert(to_file))
        faces = tuple(other.map_to(to_file) for other in faces)
    in_file = faces[0] if face is not None else None
    warnings = [*photo.warnings, *_face_warnings(in_file, params, finder.name)]
    return Portrait(
        pixels=corrected,
        matrix=matrix,
        face=in_file,
        faces=faces,
        off_centre_px=framed.off_centre_px,
        short_edge=framed.short_edge,
        light_before=before,
        light_after=after,
        light_plan=plan,
        quality=replace(quality, interocular_px=None if in_file is None else in_file.interocular),
        warnings=(*warnings, *framed.warnings),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _FramedPhoto:
    pixels: Pixels
    matrix: Matrix
    off_centre_px: float | None
    short_edge: float
    warnings: tuple[str, ...] = ()


def choose_face(found: list[Face], params: PreprocessParams, finder: str) -> Face | None:
    """Return the face to centre on, the best of `found`. finder: its name, for messages.

    Raises NoFace and HeadTurned by the policies in `params`.
    """
    if not found:
        if params.no_face == "reject":
            raise NoFace(
                f"the face finder {finder!r} found no face; send a photo with a larger or more frontal face, "
                "or use no_face=centre to get the centre of the photo"
            )
        return None
    best, pose = found[0], found[0].pose
    if params.yaw == "reject" and pose and abs(pose.yaw) > YAW_LIMIT:
        raise HeadTurned(
            f"the head is turned {abs(pose.yaw):.0f}° to the side, more than {YAW_LIMIT:.0f}°; send a more "
            "frontal photo, or use yaw=warn to restore it with less strength"
        )
    return best


def _face_warnings(face: Face | None, params: PreprocessParams, finder: str) -> list[str]:
    if face is None:
        return [
            f"no_face: the face finder {finder!r} found no face; the photo's centre is adjusted, not restored"
        ]
    warnings = []
    if params.yaw != "off":
        if face.pose is None:
            warnings.append(
                f"yaw: the face finder {finder!r} cannot measure the pose; the yaw was not checked"
            )
        elif abs(face.pose.yaw) > YAW_LIMIT:
            warnings.append(f"yaw: the head is turned {abs(face.pose.yaw):.0f}°, more than {YAW_LIMIT:.0f}°")
    if face.interocular < _SMALL_FACE:
        warnings.append(
            f"small_face: the eyes are only {face.interocular:.0f} px apart; the likeness may suffer"
        )
    return warnings


def _frame(photo: Photo, face: Face | None, framing: Framing) -> _FramedPhoto:
    if framing == "face" and face is not None:
        try:
            return _frame_face(photo, face)
        except DegenerateLandmarks:
            pass
    window = place_article_window(photo.width, photo.height, face.eye_centre if face else None)
    off_centre = None
    if face is not None:
        eyes = transform(window.matrix, np.array(face.eye_centre, np.float32))
        off_centre = round(float(np.hypot(*(eyes - _MIDDLE))), 1)
    short_edge = round(min(photo.width * window.scale[0], photo.height * window.scale[1]))
    return _FramedPhoto(cut(photo.pixels, window), window.matrix, off_centre, short_edge)


def _frame_face(photo: Photo, face: Face) -> _FramedPhoto:
    matrix = fit_face_matrix(face.landmarks5)
    outside = measure_outside_share(matrix, photo.width, photo.height)
    short_edge = round(min(photo.width, photo.height) * float(np.hypot(*matrix[:, 0])), 1)
    warning = f"framing: {outside:.0%} of the portrait lies outside the photo and was filled by reflection"
    warnings = (warning,) if outside > _VISIBLE_FILL else ()
    return _FramedPhoto(cut_face(photo.pixels, matrix), matrix, 0.0, short_edge, warnings)


def _is_inside(matrix: Matrix, face: Face) -> bool:
    """Whether all five landmarks of `face` lie in the portrait."""
    points = transform(matrix, face.landmarks5)
    return bool(((points >= 0) & (points <= PORTRAIT_SIDE - 1)).all())
