"""A photo becomes a portrait: find faces, check the pose, frame, measure, correct the light."""

from dataclasses import dataclass, replace

import numpy as np

from gateway.errors import HeadTurned, NoFace
from gateway.faces import Face, FaceFinder
from gateway.imaging.photo import Photo
from gateway.params import Framing, PreprocessParams
from gateway.standardise import geometry
from gateway.standardise.light import Light, LightPlan, correct_light, face_region
from gateway.standardise.quality import Quality, measure_quality
from gateway.timings import Timings
from gpen_common.geometry import DegenerateLandmarks, compose, invert, resize_matrix, transform
from gpen_common.types import Matrix, Pixels, Points

YAW_LIMIT = 25.0
"""Degrees past which a head counts as turned (the article's)."""

_SIDE = geometry.PORTRAIT_SIDE
_MIDDLE = _SIDE / 2
# Past this much of made-up surroundings the caller should know.
_WORTH_TELLING = 0.02
# Under this interocular distance, px, even the network has little to go by.
_SMALL_FACE = 24


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A standardised portrait and what was done to get it.

    pixels: (896, 896, 3) uint8 RGB. matrix: (2, 3), photo px -> portrait px. face: the one it is centred on,
    in photo px, or None. faces: all that lie whole in the portrait, that one first, in photo px.
    off_centre_px: distance from the eyes' middle to where it should be, portrait px; None without a face.
    short_edge: what the photo's shorter edge measures at the portrait's scale. light_before, light_after,
    light_plan: around the face. quality: before the correction. warnings: sentences for the caller.
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
        return np.array([transform(self.matrix, face.landmarks5) for face in self.faces], np.float32).reshape(
            -1, 5, 2
        )


def standardise(photo: Photo, params: PreprocessParams, finder: FaceFinder, timings: Timings) -> Portrait:
    """The portrait of `photo`. Raises NoFace and HeadTurned where `params` ask to be told."""
    with timings.stage("find_faces"):
        found = finder.find(photo.pixels)
    face = _best_face(found, params, finder.name)
    with timings.stage("frame"):
        framed = _frame(photo, face, params.framing)
    # The face that the portrait is of belongs to it even where it fills more than the window.
    faces = tuple(other for other in found if other is face or _whole_in(framed.matrix, other))
    with timings.stage("light"):
        landmarks5 = None if face is None else transform(framed.matrix, face.landmarks5)
        quality = measure_quality(photo.pixels, None if face is None else face.landmarks5)
        region = face_region((_SIDE, _SIDE), landmarks5)
        corrected, before, after, plan = correct_light(
            framed.pixels, region, quality.noise_sigma, params.exposure, params.clahe
        )
    matrix = framed.matrix
    if photo.file_size is not None:
        # Whoever sent the photo knows its own pixels, not those it was decoded to.
        to_file = resize_matrix((photo.width, photo.height), photo.file_size)
        matrix = compose(matrix, invert(to_file))
        faces = tuple(other.mapped(to_file) for other in faces)
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
class _Framed:
    pixels: Pixels
    matrix: Matrix
    off_centre_px: float | None
    short_edge: float
    warnings: tuple[str, ...] = ()


def _best_face(found: list[Face], params: PreprocessParams, finder: str) -> Face | None:
    if not found:
        if params.no_face == "reject":
            raise NoFace(
                f"the finder {finder!r} sees no face; send a photo with a larger or more frontal face, or "
                "no_face=centre to get the middle of the picture"
            )
        return None
    best, pose = found[0], found[0].pose
    if params.yaw == "reject" and pose and abs(pose.yaw) > YAW_LIMIT:
        raise HeadTurned(
            f"the head is turned {abs(pose.yaw):.0f}° aside, more than {YAW_LIMIT:.0f}°; send a more frontal "
            "photo, or yaw=warn to have it softened instead"
        )
    return best


def _face_warnings(face: Face | None, params: PreprocessParams, finder: str) -> list[str]:
    if face is None:
        return [
            f"no_face: the finder {finder!r} sees no face; the picture's middle is adjusted, not restored"
        ]
    warnings = []
    if params.yaw != "off":
        if face.pose is None:
            warnings.append(
                f"yaw: the finder {finder!r} cannot tell how far the head is turned; it was not checked"
            )
        elif abs(face.pose.yaw) > YAW_LIMIT:
            warnings.append(f"yaw: the head is turned {abs(face.pose.yaw):.0f}° aside, past {YAW_LIMIT:.0f}°")
    if face.interocular < _SMALL_FACE:
        warnings.append(
            f"small_face: only {face.interocular:.0f} px between the eyes; expect little likeness"
        )
    return warnings


def _frame(photo: Photo, face: Face | None, framing: Framing) -> _Framed:
    if framing == "face" and face is not None:
        try:
            return _frame_face(photo, face)
        except DegenerateLandmarks:
            pass
    window = geometry.article_window(photo.width, photo.height, face.eye_centre if face else None)
    off_centre = None
    if face is not None:
        eyes = transform(window.matrix, np.array(face.eye_centre, np.float32))
        off_centre = round(float(np.hypot(*(eyes - _MIDDLE))), 1)
    short_edge = round(min(photo.width * window.scale[0], photo.height * window.scale[1]))
    return _Framed(geometry.cut(photo.pixels, window), window.matrix, off_centre, short_edge)


def _frame_face(photo: Photo, face: Face) -> _Framed:
    matrix = geometry.face_matrix(face.landmarks5)
    outside = geometry.outside_share(matrix, photo.width, photo.height)
    short_edge = round(min(photo.width, photo.height) * float(np.hypot(*matrix[:, 0])), 1)
    warnings = [f"framing: {outside:.0%} of the portrait lie outside the photo and were filled by reflection"]
    told = tuple(warnings) if outside > _WORTH_TELLING else ()
    return _Framed(geometry.cut_face(photo.pixels, matrix), matrix, 0.0, short_edge, told)


def _whole_in(matrix: Matrix, face: Face) -> bool:
    """Whether all five landmarks of `face` lie in the portrait."""
    points = transform(matrix, face.landmarks5)
    return bool(((points >= 0) & (points <= _SIDE - 1)).all())
