"""`output=portrait`: the standardised portrait, its faces restored."""

from dataclasses import replace

from gateway.faces import FaceFinder
from gateway.imaging.encoder import encode
from gateway.linkage.rules import link
from gateway.params import EnhanceParams
from gateway.pipeline.picture_request import PictureRequest
from gateway.pipeline.report import report_portrait
from gateway.pipeline.result import Result
from gateway.pipeline.standardiser import Standardiser
from gateway.schemas.reports import EnhanceReport
from gateway.standardise import Portrait
from gateway.upstream.backend import Backend
from gpen_common.threads import Threads

# The backend's default limit of faces in one request. Of a larger crowd the best faces are restored.
_MAX_FACES = 64


class PortraitEnhancer:
    """Enhances portraits: standardise, link, forward, encode."""

    def __init__(self, standardiser: Standardiser, finder: FaceFinder, threads: Threads) -> None:
        self._standardiser = standardiser
        self._finder = finder
        self._threads = threads

    async def enhance(self, asked: PictureRequest[EnhanceParams], backend: Backend) -> Result[EnhanceReport]:
        """Return the enhanced portrait of `asked.picture`. Raises GatewayError."""
        params, timings = asked.params, asked.timings
        standardised = await self._standardiser.look_up(asked) or await self._standardiser.make(asked)
        portrait = _choose_faces(standardised.portrait, params)
        with timings.stage("link"):
            effective, rules = link(params.model_copy(update={"upscale": 1}), portrait, backend.model)
        with timings.stage("backend"):
            landmarks = portrait.landmarks if portrait.faces else None
            restored = await backend.restore(portrait.pixels, landmarks, effective)
        timings.add_all("gpen", restored.timings_ms)
        output_format = params.format or asked.accepted or standardised.own_format
        with timings.stage("encode"):
            image = await self._threads.run(encode, restored.pixels, output_format, params.quality)
        report = report_portrait(portrait, self._finder.name, rules, restored)
        return Result(image, output_format, report)


def _choose_faces(portrait: Portrait, params: EnhanceParams) -> Portrait:
    """Return `portrait` with the faces to restore, and a warning where the backend takes fewer than it
    has."""
    faces = portrait.faces[:1] if params.faces == "best" else portrait.faces
    if len(faces) <= _MAX_FACES:
        return replace(portrait, faces=faces)
    warning = f"faces: of {len(faces)} faces in the portrait the best {_MAX_FACES} were restored"
    return replace(portrait, faces=faces[:_MAX_FACES], warnings=(*portrait.warnings, warning))
