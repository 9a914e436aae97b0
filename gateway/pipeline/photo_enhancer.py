"""`output=photo`: the whole photo, each face restored in a window cut around it, and pasted back."""

import asyncio

from gateway.errors import HeadTurned, InvalidParameters, NoFace
from gateway.faces import Face, FaceFinder
from gateway.imaging.decoder import Photo, PixelLimits, decode
from gateway.imaging.encoder import LONGEST_WEBP, OutputFormat, encode_photo
from gateway.linkage.rules import YAW_END, link
from gateway.params import EnhanceParams
from gateway.pipeline.enhanced_photo import EnhancedPhoto, LeftAlone
from gateway.pipeline.paste_windows import RestoredWindow, compose_photo
from gateway.pipeline.picture_request import PictureRequest
from gateway.pipeline.report import report_photo
from gateway.pipeline.result import Result
from gateway.pipeline.standardiser import own_format
from gateway.schemas.reports import EnhanceReport
from gateway.standardise.face_window import FaceWindow, cut_window
from gateway.standardise.portrait import YAW_LIMIT
from gateway.upstream.backend import Backend
from gpen_common.run_all import run_all
from gpen_common.threads import Threads
from gpen_common.types import Restored, RestoreParams

# Below this distance between the eyes, px, a network invents a face instead of restoring it.
_MIN_INTEROCULAR = 12.0
# Windows sent at once, so that one photo does not fill the backend's queue.
_MAX_CONCURRENT_WINDOWS = 8
# Adjustments of the whole picture, switched off for the windows.
_NO_ADJUSTMENTS = {
    "denoise": 0.0, "sharpen": 0.0, "brightness": 0.0, "contrast": 0.0, "detail_enhance": False,
}  # fmt: skip


class PhotoEnhancer:
    """Enhances whole photos: decode, find faces, cut windows, link, forward, compose, encode."""

    def __init__(self, finder: FaceFinder, threads: Threads, limits: PixelLimits) -> None:
        self._finder = finder
        self._threads = threads
        self._limits = limits

    async def enhance(self, asked: PictureRequest[EnhanceParams], backend: Backend) -> Result[EnhanceReport]:
        """Return `asked.picture` with its faces restored. Raises GatewayError."""
        params, timings = asked.params, asked.timings
        with timings.stage("decode"):
            photo = await self._threads.run(decode, asked.picture.data, self._limits)
        output_format = params.format or asked.accepted or own_format(photo)
        _check_output_size(photo, params.upscale, output_format, self._limits)
        enhanced = await self.restore_faces(photo, asked, backend)
        with timings.stage("encode"):
            image = await self._threads.run(
                encode_photo,
                enhanced.pixels,
                photo.pixels,
                photo.original,
                output_format,
                params.quality,
                keep_gps=params.keep_metadata == "all",
            )
        report = report_photo(enhanced, photo, self._finder.name, backend.model)
        return Result(image, output_format, report)

    async def restore_faces(
        self, photo: Photo, asked: PictureRequest[EnhanceParams], backend: Backend
    ) -> EnhancedPhoto:
        """Return `photo` with every face restored in a window of its own. Raises GatewayError."""
        params, timings, threads = asked.params, asked.timings, self._threads
        with timings.stage("find_faces"):
            found = await threads.run(self._finder.find, photo.pixels)
        faces, left_alone = choose_faces(found, params, self._finder.name)
        with timings.stage("cut"):
            windows = await run_all(
                [threads.run(cut_window, photo.pixels, face, backend.model.size, params) for face in faces]
            )
        with timings.stage("link"):
            unadjusted = params.model_copy(update=_NO_ADJUSTMENTS)
            linked = [link(unadjusted, window, backend.model) for window in windows]
        with timings.stage("backend"):
            restored = await _restore_windows(windows, [effective for effective, _ in linked], backend)
        pairs = [
            RestoredWindow(window, answer.pixels) for window, answer in zip(windows, restored, strict=True)
        ]
        with timings.stage("compose"):
            pixels = await threads.run(compose_photo, photo.pixels, pairs, params.upscale)
        if adjustments := _adjustments(params):
            with timings.stage("adjust"):
                adjusted = await backend.restore(pixels, None, adjustments)
            pixels, restored = adjusted.pixels, [*restored, adjusted]
        for answer in restored:
            timings.add_all("gpen", answer.timings_ms)
        return EnhancedPhoto(
            pixels=pixels,
            windows=tuple(windows),
            left_alone=tuple(left_alone),
            rules=tuple(rules for _, rules in linked),
            restored=tuple(restored),
            warnings=tuple(_warnings(found, left_alone, self._finder.name)),
        )


def choose_faces(found: list[Face], params: EnhanceParams, finder: str) -> tuple[list[Face], list[LeftAlone]]:
    """Split the faces `found`, best first, into those to restore and those to leave alone.

    finder: its name, for messages. Raises NoFace, and HeadTurned where `yaw=reject` leaves no face.
    """
    if not found and params.no_face == "reject":
        raise NoFace(
            f"the face finder {finder!r} found no face; send a photo with a larger or more frontal face, or "
            "use no_face=centre"
        )
    faces, left_alone = [], []
    for face in found if params.faces == "all" else found[:1]:
        if reason := _reason_to_leave(face, params):
            left_alone.append(LeftAlone(face, reason))
        else:
            faces.append(face)
    if found and not faces and params.yaw == "reject" and _is_turned(found[0], YAW_LIMIT):
        raise HeadTurned(
            f"every head is turned by more than {YAW_LIMIT:.0f}°; send a more frontal photo, or use "
            "yaw=warn to soften the restoration instead"
        )
    return faces, left_alone


def _reason_to_leave(face: Face, params: EnhanceParams) -> str | None:
    if face.interocular < _MIN_INTEROCULAR:
        return f"too small: {face.interocular:.0f} px between the eyes, {_MIN_INTEROCULAR:.0f} are needed"
    limit = {"off": None, "warn": YAW_END, "reject": YAW_LIMIT}[params.yaw]
    if limit is not None and _is_turned(face, limit):
        return f"turned by {abs(face.pose.yaw) if face.pose else 0:.0f}°, more than {limit:.0f}°"
    return None


def _is_turned(face: Face, limit: float) -> bool:
    return face.pose is not None and abs(face.pose.yaw) > limit


async def _restore_windows(
    windows: list[FaceWindow], params: list[RestoreParams], backend: Backend
) -> list[Restored]:
    free = asyncio.Semaphore(_MAX_CONCURRENT_WINDOWS)

    async def restore(window: FaceWindow, effective: RestoreParams) -> Restored:
        async with free:
            return await backend.restore(window.pixels, window.landmarks, effective)

    return await run_all([restore(window, p) for window, p in zip(windows, params, strict=True)])


def _adjustments(params: EnhanceParams) -> RestoreParams | None:
    """Return the adjustments of the whole picture, None where there are none."""
    asked = params.model_dump(include=set(_NO_ADJUSTMENTS))
    if asked == _NO_ADJUSTMENTS:
        return None
    return RestoreParams(strength=0, auto_align=False, **asked)


def _check_output_size(photo: Photo, upscale: int, output_format: OutputFormat, limits: PixelLimits) -> None:
    """Raise InvalidParameters for a result over the limits, or over those of its format."""
    width, height = photo.width * upscale, photo.height * upscale
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise InvalidParameters(
            f"upscale: {upscale} would make {width}x{height} of {photo.width}x{photo.height}; the limit is "
            f"{limits.max_pixels:,} pixels, and {limits.max_side:,} along one side"
        )
    if output_format == "webp" and max(width, height) > LONGEST_WEBP:
        raise InvalidParameters(
            f"format: webp holds at most {LONGEST_WEBP:,} pixels along one side, and the result has "
            f"{width}x{height}; use png or jpeg"
        )


def _warnings(found: list[Face], left_alone: list[LeftAlone], finder: str) -> list[str]:
    if not found:
        return [f"no_face: the face finder {finder!r} found no face; nothing was restored"]
    return [f"left_alone: {len(left_alone)} of {len(found)} faces were not restored"] if left_alone else []
