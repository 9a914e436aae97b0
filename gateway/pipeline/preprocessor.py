"""`/v1/preprocess`: the standardised portrait, encoded."""

import asyncio
from functools import partial

from gateway.faces import FaceFinder
from gateway.imaging.encoder import OutputFormat, encode
from gateway.params import PreprocessParams
from gateway.pipeline.in_flight import InFlight
from gateway.pipeline.picture_request import PictureRequest
from gateway.pipeline.report import report_preprocessed
from gateway.pipeline.result import Result
from gateway.pipeline.standardiser import Standardiser, UploadPortrait
from gateway.schemas.reports import PreprocessReport
from gateway.service.admission import Admission
from gateway.service.metrics import Metrics
from gpen_common.threads import Threads


class Preprocessor:
    """Standardises pictures. One instance serves all requests."""

    def __init__(
        self,
        standardiser: Standardiser,
        finder: FaceFinder,
        threads: Threads,
        admission: Admission,
        metrics: Metrics,
    ) -> None:
        self._standardiser = standardiser
        self._finder = finder
        self._threads = threads
        self._admission = admission
        self._metrics = metrics
        self.in_flight: InFlight[Result[PreprocessReport]] = InFlight()

    def compute_key(self, asked: PictureRequest[PreprocessParams]) -> None:
        """Compute the key of the encoded portrait."""
        with asked.timings.stage("key"):
            encoding = asked.params.format or asked.accepted
            asked.key = f"{self._standardiser.key(asked)}:{encoding}:{asked.params.quality}"

    async def look_up(self, asked: PictureRequest[PreprocessParams]) -> Result[PreprocessReport] | None:
        """Return the result if the cache has its portrait, else None."""
        found = await self._standardiser.look_up(asked)
        if found is None:
            return None
        # Not on the pixel threads, where it would wait for the work of other requests.
        with asked.timings.stage("encode"):
            image = await asyncio.to_thread(self._encode, asked, found)
        return self._describe(asked, found, image).with_timings(asked.timings.finish())

    async def make(self, asked: PictureRequest[PreprocessParams]) -> Result[PreprocessReport]:
        """Return the result of an identical request in flight, or a new one."""
        result = await self.in_flight.join(asked.key, partial(self._make, asked), asked.work, asked.timings)
        return result.with_timings(asked.timings.finish())

    async def _make(self, asked: PictureRequest[PreprocessParams]) -> Result[PreprocessReport]:
        async with asked.worker(self._admission):
            made = await self._standardiser.make(asked)
            with asked.timings.stage("encode"):
                image = await self._threads.run(self._encode, asked, made)
        self._metrics.count_preprocessed()
        self._metrics.observe_stages(asked.timings.finish())
        return self._describe(asked, made, image)

    def _encode(self, asked: PictureRequest[PreprocessParams], made: UploadPortrait) -> bytes:
        return encode(made.portrait.pixels, _choose_format(asked, made), asked.params.quality)

    def _describe(
        self, asked: PictureRequest[PreprocessParams], made: UploadPortrait, image: bytes
    ) -> Result[PreprocessReport]:
        report = report_preprocessed(made.portrait, self._finder.name)
        return Result(image, _choose_format(asked, made), report, made.cache)


def _choose_format(asked: PictureRequest[PreprocessParams], made: UploadPortrait) -> OutputFormat:
    return asked.params.format or asked.accepted or made.own_format
