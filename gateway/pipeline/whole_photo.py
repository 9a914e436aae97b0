"""A whole photo: every face restored in a window of its own, everything else as it was."""

import asyncio
from dataclasses import dataclass

from gateway.errors import HeadTurned, NoFace
from gateway.faces import Face, FaceFinder
from gateway.imaging.photo import Photo
from gateway.linkage.rules import YAW_END, AppliedRule, link
from gateway.params import EnhanceParams
from gateway.pipeline.compose import RestoredWindow, compose_photo
from gateway.standardise.portrait import YAW_LIMIT
from gateway.standardise.window import Window, cut_window
from gateway.timings import Timings
from gateway.upstream.backend import Backend
from gpen_common.tasks import gathered
from gpen_common.threads import Threads
from gpen_common.types import Pixels, Restored, RestoreParams

# Under this distance between the eyes, px, a network invents a face rather than restores one.
_MIN_INTEROCULAR = 12.0
# One photo's faces must not fill the backend's queue before anybody else's.
_AT_ONCE = 8
# What concerns the picture as a whole, and is therefore not asked of the windows.
_NO_ADJUSTMENTS = {
    "denoise": 0.0, "sharpen": 0.0, "brightness": 0.0, "contrast": 0.0, "detail_enhance": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A face that was not restored, and why."""

    face: Face
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class WholePhoto:
    """An enhanced photo. pixels: (H, W, 3) uint8 RGB, the photo's size times the upscale. windows: what was
    restored, best face first. rules: those of each window, by its place in `windows`. restored: the backend's
    answers in the order in which they are told."""

    pixels: Pixels
    windows: tuple[Window, ...]
    left_alone: tuple[LeftAlone, ...]
    rules: tuple[tuple[AppliedRule, ...], ...]
    restored: tuple[Restored, ...]
    warnings: tuple[str, ...]


async def enhance_whole(
    photo: Photo,
    params: EnhanceParams,
    finder: FaceFinder,
    backend: Backend,
    threads: Threads,
    timings: Timings,
) -> WholePhoto:
    """Restores the faces of `photo` and puts them back. Raises NoFace and HeadTurned where `params` ask."""
    with timings.stage("find_faces"):
        found = await threads.run(finder.find, photo.pixels)
    faces, left_alone = choose_faces(found, params, finder.name)
    with timings.stage("cut"):
        windows = await gathered(
            [threads.run(cut_window, photo.pixels, face, backend.model.size, params) for face in faces]
        )
    linked = [link(params.model_copy(update=_NO_ADJUSTMENTS), window, backend.model) for window in windows]
    with timings.stage("backend"):
        restored = await _restore_windows(windows, [effective for effective, _ in linked], backend)
    pairs = [RestoredWindow(window, answer.pixels) for window, answer in zip(windows, restored, strict=True)]
    with timings.stage("compose"):
        pixels = await threads.run(compose_photo, photo.pixels, pairs, params.upscale)
    if adjustments := _adjustments(params):
        with timings.stage("adjust"):
            adjusted = await backend.restore(pixels, None, adjustments)
            pixels, restored = adjusted.pixels, [*restored, adjusted]
    return WholePhoto(
        pixels=pixels,
        windows=tuple(windows),
        left_alone=tuple(left_alone),
        rules=tuple(rules for _, rules in linked),
        restored=tuple(restored),
        warnings=tuple(_warnings(found, left_alone, finder.name)),
    )


def choose_faces(found: list[Face], params: EnhanceParams, finder: str) -> tuple[list[Face], list[LeftAlone]]:
    """Which of the faces `found`, best first, are restored, and which are left alone and why.

    Raises NoFace, and HeadTurned where heads past the limit are to be rejected and there is no other.
    """
    if not found and params.no_face == "reject":
        raise NoFace(f"the finder {finder!r} sees no face; send a photo with a larger or more frontal one")
    faces, left_alone = [], []
    for face in found if params.faces == "all" else found[:1]:
        if reason := _reason_to_leave(face, params):
            left_alone.append(LeftAlone(face, reason))
        else:
            faces.append(face)
    if found and not faces and params.yaw == "reject" and _turned(found[0], YAW_LIMIT):
        raise HeadTurned(
            f"every head is turned more than {YAW_LIMIT:.0f}° aside; yaw=warn softens them instead"
        )
    return faces, left_alone


def _reason_to_leave(face: Face, params: EnhanceParams) -> str | None:
    if face.interocular < _MIN_INTEROCULAR:
        return f"too small: {face.interocular:.0f} px between the eyes, {_MIN_INTEROCULAR:.0f} are needed"
    limit = {"off": None, "warn": YAW_END, "reject": YAW_LIMIT}[params.yaw]
    if limit is not None and _turned(face, limit):
        return f"turned {abs(face.pose.yaw) if face.pose else 0:.0f}° aside, past {limit:.0f}°"
    return None


def _turned(face: Face, limit: float) -> bool:
    return face.pose is not None and abs(face.pose.yaw) > limit


async def _restore_windows(
    windows: list[Window], params: list[RestoreParams], backend: Backend
) -> list[Restored]:
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(window: Window, effective: RestoreParams) -> Restored:
        async with places:
            return await backend.restore(window.pixels, window.landmarks, effective)

    return await gathered([one(window, p) for window, p in zip(windows, params, strict=True)])


def _adjustments(params: EnhanceParams) -> RestoreParams | None:
    """What is asked of the picture as a whole, or None."""
    asked = params.model_dump(include=set(_NO_ADJUSTMENTS))
    if asked == _NO_ADJUSTMENTS:
        return None
    return RestoreParams(strength=0, auto_align=False, **asked)


def _warnings(found: list[Face], left_alone: list[LeftAlone], finder: str) -> list[str]:
    if not found:
        return [f"no_face: the finder {finder!r} sees no face; nothing was restored"]
    return [f"left_alone: {len(left_alone)} of {len(found)} faces were not restored"] if left_alone else []
