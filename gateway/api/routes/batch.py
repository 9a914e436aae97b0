"""Many pictures in one request."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from gateway.api.negotiation import preferred
from gateway.api.openapi.examples import BATCH_LINES
from gateway.api.openapi.operations import UPLOAD_ERRORS, batch_body, error_responses
from gateway.api.upload import Upload
from gateway.batch.entries import Entry, entries_of
from gateway.batch.lines import NDJSON, ZIP, Answer, NdjsonAnswer, Outcome, ZipAnswer
from gateway.batch.schemas import BatchEnd, BatchFailure, BatchPicture
from gateway.batch.spool import BatchLimits, Spooled, spool
from gateway.batch.stream import BatchResponse, Work
from gateway.errors import CallerLeft, GatewayError, NotReady, SlowUpload
from gateway.params import EnhanceParams
from gateway.pipeline.result import Enhanced
from gateway.runtime import Gateway
from gateway.service.admission import Ticket
from gateway.service.middleware import request_id
from gateway.service.problem import defect, problem_of
from gpen_common.threads import Threads

logger = logging.getLogger(__name__)

router = APIRouter(tags=["pictures"])

PATH = "/v1/batch"


class _Lines(JSONResponse):
    """What the documentation says of the answer; FastAPI takes everything but JSON for text."""

    media_type = NDJSON


@router.post(
    PATH,
    summary="Enhance many pictures",
    operation_id="batch",
    response_class=_Lines,
    responses={
        200: {
            "description": "One JSON object a line: each file as it finishes, last the summary. "
            "With `Accept: application/zip` the pictures under their names, and `report.ndjson`.",
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
    """Enhances every file of a multipart body, or of a ZIP, with the same parameters.

    What cannot be enhanced costs only itself: its line has the problem. The answer begins when the upload is
    complete, and its results come in the order in which they finish.
    """
    gateway: Gateway = request.app.state.gateway
    settings = gateway.settings.batch
    async with AsyncExitStack() as held:
        ticket = held.enter_context(gateway.admission.ticket())
        disk = Threads(1, "batch")
        held.callback(disk.close)
        folder = await held.enter_async_context(_folder(disk))
        limits = BatchLimits(
            settings.batch_max_files, gateway.settings.limits.max_body_bytes, settings.batch_max_bytes
        )
        spooled = await _spooled(request, folder, limits, disk, settings.batch_upload_timeout_s)
        params = Upload(b"", {**request.query_params, **spooled.fields}).params(EnhanceParams)
        entries = await disk.run(entries_of, spooled, limits, held.enter_context(ExitStack()))
        return BatchResponse(
            entries,
            _work(request, ticket, params, disk),
            _answer(request, folder),
            disk,
            held.pop_all(),
            concurrency=settings.batch_concurrency,
            stall_s=settings.batch_stall_s,
        )


@asynccontextmanager
async def _folder(disk: Threads) -> AsyncIterator[Path]:
    """A folder until the block ends; thousands of files take their time to go."""
    # A name that is gone, or a disk that fails, must not hide what the block raises.
    folder = TemporaryDirectory(prefix="gpen-gateway-", ignore_cleanup_errors=True)
    try:
        yield Path(folder.name)
    finally:
        await disk.run(folder.cleanup)


async def _spooled(
    request: Request, folder: Path, limits: BatchLimits, disk: Threads, allowed_s: float
) -> Spooled:
    try:
        async with asyncio.timeout(allowed_s):
            content_type = request.headers.get("content-type", "")
            return await spool(content_type, request.stream(), folder, limits, disk)
    except TimeoutError as error:
        raise SlowUpload(f"the body did not arrive within {allowed_s:g} seconds; send fewer files") from error
    except ClientDisconnect as error:
        raise CallerLeft("the caller left before the upload was complete") from error


def _answer(request: Request, folder: Path) -> Answer:
    if preferred(request.headers.get("accept"), (NDJSON, ZIP)) == ZIP:
        return ZipAnswer(folder / "report")
    return NdjsonAnswer()


def _work(request: Request, ticket: Ticket, params: EnhanceParams, disk: Threads) -> Work:
    """What is done with each file of the batch."""
    gateway: Gateway = request.app.state.gateway
    own_id = request_id(request.scope)
    most_s = gateway.settings.upstream.timeout_s
    timeout_s = min(params.timeout_s or most_s, most_s)
    stopping = _Stopping(request, gateway.settings.server.grace_s)

    async def enhanced(entry: Entry, deadline: float) -> Enhanced:
        picture = await disk.run(entry.read)
        return await gateway.enhancer.enhance(picture, params, own_id, deadline)

    async def work(entry: Entry) -> Outcome:
        try:
            stopping.check()
            return Outcome(entry, await ticket.piece(lambda deadline: enhanced(entry, deadline), timeout_s))
        except GatewayError as error:
            return Outcome(entry, problem_of(error, own_id))
        except Exception:
            # One file must not cost the others their answers.
            logger.exception("a defect: file %d of a batch", entry.index)
            return Outcome(entry, problem_of(defect(), own_id))

    return work


class _Stopping:
    """Ends a batch in order while the process stops: what is not begun in time becomes a problem."""

    def __init__(self, request: Request, grace_s: float) -> None:
        self._state = request.app.state
        # The files at work then have the other half.
        self._allowed_s = grace_s / 2
        self._since: float | None = None

    def check(self) -> None:
        """Raises NotReady once half of the grace is over."""
        if not getattr(self._state, "draining", False):
            return
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > self._allowed_s:
            raise NotReady("this process is stopping and this file was not begun; send it again")
