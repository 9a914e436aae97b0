"""`/v1/preprocess`: the standardised portrait, encoded."""

from functools import partial

from gateway.faces import FaceFinder
from gateway.imaging.encoder import encode
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
        """Return the result where the cache has its portrait."""
        found = await self._standardiser.look_up(asked)
        return None if found is None else await self._encode(asked, found)

    async def make(self, asked: PictureRequest[PreprocessParams]) -> Result[PreprocessReport]:
        """Return the result of an identical request in flight, or a new one."""
        result = await asked.join(self.in_flight, partial(self._make, asked))
        return result.with_timings(asked.timings.finish())

    async def _make(self, asked: PictureRequest[PreprocessParams]) -> Result[PreprocessReport]:
        async with asked.worker(self._admission):
            return await self._encode(asked, await self._standardiser.make(asked))

    async def _encode(
        self, asked: PictureRequest[PreprocessParams], made: UploadPortrait
    ) -> Result[PreprocessReport]:
        output_format = asked.params.format or asked.accepted or made.own_format
        with asked.timings.stage("encode"):
            image = await self._threads.run(encode, made.portrait.pixels, output_format, asked.params.quality)
        timings_ms = asked.timings.finish()
        self._metrics.count_preprocessed()
        self._metrics.observe_stages(timings_ms)
        report = report_preprocessed(made.portrait, self._finder.name)
        return Result(image, output_format, report, made.cache).with_timings(timings_ms)
