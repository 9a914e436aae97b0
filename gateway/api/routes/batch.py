"""`/v1/batch`: many pictures in one request."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from gateway.api.negotiation import choose_media_type
from gateway.api.openapi.examples import BATCH_LINES
from gateway.api.openapi.operations import UPLOAD_ERRORS, batch_body, error_responses
from gateway.api.upload import Upload, upload_within
from gateway.batch.answer_formats import NDJSON, ZIP, Answer, NdjsonAnswer, Outcome, ZipAnswer
from gateway.batch.entries import BatchEntry, list_entries
from gateway.batch.schemas import BatchEnd, BatchFailure, BatchPicture
from gateway.batch.spool import BatchLimits, spool
from gateway.batch.stream import BatchResponse
from gateway.errors import GatewayError, NotReady
from gateway.params import EnhanceParams
from gateway.pipeline.picture_request import PictureRequest
from gateway.pipeline.result import Result
from gateway.runtime import Gateway
from gateway.schemas.reports import EnhanceReport
from gateway.service.access import work_of
from gateway.service.middleware import request_id
from gateway.service.problem import problem_of
from gateway.service.server import Draining
from gateway.timings import Timings
from gpen_common.threads import Threads

logger = logging.getLogger(__name__)

router = APIRouter(tags=["pictures"])

PATH = "/v1/batch"


class _Lines(JSONResponse):
    """The media type in the OpenAPI document; FastAPI describes everything but JSON as text."""

    media_type = NDJSON


@router.post(
    PATH,
    summary="Enhance many pictures",
    operation_id="batch",
    response_class=_Lines,
    responses={
        200: {
            "description": "One JSON object per line: each file as it finishes, then the summary. "
            "With `Accept: application/zip`, a ZIP of the pictures under their names and `report.ndjson`.",
            "model": BatchPicture | BatchFailure | BatchEnd,
            "content": {
                NDJSON: {"examples": {name: {"value": line} for name, line in BATCH_LINES.items()}},
                ZIP: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **error_responses(*UPLOAD_ERRORS),
    },
    openapi_extra=batch_body(EnhanceParams),
)
async def batch(request: Request) -> Response:
    """Enhance every file of a multipart body, or of a ZIP, with the same parameters.

    A file that cannot be enhanced fails alone: its line has the problem. The response begins when the upload
    is complete, and results are sent in the order in which they finish.
    """
    gateway: Gateway = request.app.state.gateway
    settings = gateway.settings.batch
    async with AsyncExitStack() as held:
        held.enter_context(gateway.admission.place())
        disk = Threads(1, "batch")
        held.callback(disk.close)
        folder = await held.enter_async_context(_open_folder(disk))
        limits = BatchLimits(
            settings.batch_max_files, gateway.settings.limits.max_body_bytes, settings.batch_max_bytes
        )
        content_type = request.headers.get("content-type", "")
        async with upload_within(settings.batch_upload_timeout_s):
            spooled = await spool(content_type, request.stream(), folder, limits, disk)
        params = Upload(b"", {**request.query_params, **spooled.fields}).params(EnhanceParams)
        entries = await disk.run(list_entries, spooled, limits, held.enter_context(ExitStack()))
        return BatchResponse(
            entries,
            _FileWork(request, gateway, params, disk).run,
            _choose_answer(request, folder),
            disk,
            held.pop_all(),
            concurrency=settings.batch_concurrency,
            stall_s=settings.batch_stall_s,
        )


@asynccontextmanager
async def _open_folder(disk: Threads) -> AsyncIterator[Path]:
    """Create a temporary folder, and remove it on `disk` when the block ends: many files take time."""
    # A failure to remove it must not replace the exception of the block.
    folder = TemporaryDirectory(prefix="gpen-gateway-", ignore_cleanup_errors=True)
    try:
        yield Path(folder.name)
    finally:
        await disk.run(folder.cleanup)


def _choose_answer(request: Request, folder: Path) -> Answer:
    if choose_media_type(request.headers.get("accept"), (NDJSON, ZIP)) == ZIP:
        return ZipAnswer(folder / "report")
    return NdjsonAnswer()


class _FileWork:
    """Enhances the files of one batch."""

    def __init__(self, request: Request, gateway: Gateway, params: EnhanceParams, disk: Threads) -> None:
        self._gateway = gateway
        self._params = params
        self._disk = disk
        self._request_id = request_id(request.scope)
        self._tasks = work_of(request.scope)
        self._timeout_s = params.limit_timeout(gateway.settings.upstream.timeout_s)
        self._draining: Draining = request.app.state.draining
        # Half of the grace period is left for the files that have begun.
        self._drain_s = gateway.settings.server.grace_s / 2

    async def run(self, entry: BatchEntry) -> Outcome:
        """Enhance one file; a failure is its problem."""
        try:
            self._check_draining()
            return Outcome(entry, await self._enhance(entry))
        except GatewayError as error:
            return Outcome(entry, problem_of(error, self._request_id))
        except Exception:
            # One file must not fail the others.
            logger.exception("internal-error: unexpected exception in file %d of a batch", entry.index)
            return Outcome(entry, problem_of(GatewayError(), self._request_id))

    async def _enhance(self, entry: BatchEntry) -> Result[EnhanceReport]:
        enhancer = self._gateway.enhancer
        asked = PictureRequest(
            # Without a name of their own, so that identical pictures share their bytes.
            picture=await self._gateway.pictures.add(await self._disk.run(entry.read)),
            params=self._params,
            request_id=self._request_id,
            timeout_s=self._timeout_s,
            timings=Timings(),
            in_batch=True,
        )
        try:
            await enhancer.choose_model(asked)
            enhancer.compute_key(asked)
            return await enhancer.look_up(asked) or await enhancer.make(asked)
        finally:
            self._tasks.extend(task for task in asked.work if not task.done())

    def _check_draining(self) -> None:
        """Raise NotReady once half of the grace period of a shutdown is over."""
        if self._draining.seconds > self._drain_s:
            raise NotReady("the server is shutting down before this file was started; send it again")
