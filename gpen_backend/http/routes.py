"""The routes of the Open Inference Protocol v2.

Source: "Open Inference Protocol, inference REST" (kserve/open-inference-protocol).
"""

import logging
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gpen_backend.engines import Engine
from gpen_backend.http.body import PiecesResponse, read_body, while_connected
from gpen_backend.http.infer_request import RestoreRequest, read_request
from gpen_backend.http.problems import Problem
from gpen_backend.models.registry import ModelNotReady, ModelStatus, UnknownModel
from gpen_backend.restoration.steps import Work
from gpen_backend.scheduling.service import Deadline, Service
from gpen_client.errors import WireError
from gpen_client.wire.messages import InferResponse, Tensor, encode_response, header_length
from gpen_common.inprocess import VIEWS
from gpen_common.pieces import LARGE, Piece, sliced
from gpen_common.tracing import note

logger = logging.getLogger(__name__)

_MODEL_VERSION = "1"
# Bytes of JSON that are parsed in less than a millisecond.
_SMALL_HEAD = 1 << 14
# nginx's status for a caller who left; nobody reads it but a log.
_CLIENT_LEFT = 499


async def server(_: Request) -> Response:
    """GET /v2: what this server is."""
    extensions = ["binary_tensor_data"]
    return JSONResponse({"name": "gpen-backend", "version": version_here(), "extensions": extensions})


async def live(_: Request) -> Response:
    """GET /v2/health/live: it answers at all."""
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """GET /v2/health/ready: its default model would answer now."""
    models = _service(request).models
    return _ready(models.status(models.default))


async def model(request: Request) -> Response:
    """GET /v2/models/{model}: what it takes and gives."""
    status = _status(request)
    image = {"name": "image", "datatype": "UINT8", "shape": [1, -1, -1, 3]}
    landmarks = {"name": "landmarks", "datatype": "FP32", "shape": [-1, 5, 2]}
    return JSONResponse(
        {
            "name": status.name,
            "versions": [_MODEL_VERSION],
            "platform": status.engine,
            "inputs": [image, landmarks],
            "outputs": [image],
            "parameters": {"size": status.size, "default": status.default, "task": status.task},
        }
    )


async def model_ready(request: Request) -> Response:
    """GET /v2/models/{model}/ready: it would answer now."""
    return _ready(_status(request))


async def infer(request: Request) -> Response:
    """POST /v2/models/{model}/infer: restore one picture."""
    arrived = time.monotonic()
    service, name = _service(request), _status(request).name
    with service.admitted():
        try:
            body = await read_body(request, service.settings.max_body_bytes)
            return await while_connected(request, _inferred(service, name, request, body, arrived))
        except ClientDisconnect:
            return Response(status_code=_CLIENT_LEFT)
        except WireError as error:
            raise Problem(400, str(error)) from error
        except ModelNotReady as error:
            raise Problem(503, str(error)) from error
        except Problem:
            raise
        except Exception as error:
            # Whatever went wrong with one picture, the server goes on.
            logger.exception("%s failed on request %r", name, request.headers.get("x-request-id", "-"))
            raise Problem(500, f"{name} failed: {str(error) or type(error).__name__}") from error


async def _inferred(
    service: Service, name: str, request: Request, body: list[bytes], arrived: float
) -> Response:
    """Decode, restore and encode."""
    metrics = request.app.state.metrics
    length = header_length(request.headers)
    start = time.perf_counter()
    asked = await _read(service, body, length)
    decode_ms = (time.perf_counter() - start) * 1000
    deadline = Deadline(arrived + asked.timeout_s if asked.timeout_s is not None else None)
    views = VIEWS in request.scope.get("extensions", {})

    def answer(engine: Engine, done: Work) -> tuple[Response, Engine, Work]:
        work = replace(done, timings_ms={"decode": decode_ms, **done.timings_ms})
        headers, body = _answer(name, engine, work, asked)
        return PiecesResponse(body if views else sliced(body, LARGE), headers), engine, work

    response, engine, work = await service.answered(name, asked, deadline, answer)
    metrics.restored(name, engine.name, len(work.restored), work.batch_size, work.timings_ms)
    stages = {f"gpen.stage.{stage}_ms": milliseconds for stage, milliseconds in work.timings_ms.items()}
    note({"gpen.batch_size": work.batch_size, **stages})
    return response


async def _read(service: Service, body: list[bytes], length: int | None) -> RestoreRequest:
    # The way to a thread takes longer than to put a portrait's pieces together.
    if length is not None and length <= _SMALL_HEAD and sum(map(len, body)) <= LARGE:
        return read_request(body, length, service.settings)
    return await service.on_pixels(lambda: read_request(body, length, service.settings))


def _answer(
    name: str, engine: Engine, work: Work, asked: RestoreRequest
) -> tuple[dict[str, str], list[Piece]]:
    answer = InferResponse(
        model_name=name,
        model_version=_MODEL_VERSION,
        id=asked.id,
        tensors=[Tensor("image", work.image[None])],
        parameters={
            "engine": engine.name,
            "model": name,
            "faces": len(work.restored),
            "batch_size": work.batch_size,
            **{f"{stage}_ms": round(milliseconds, 3) for stage, milliseconds in work.timings_ms.items()},
        },
    )
    return encode_response(answer, asked.binary)


def _ready(status: ModelStatus) -> Response:
    if status.reason is not None:
        raise Problem(503, status.reason)
    return JSONResponse({"name": status.name, "ready": True})


def _status(request: Request) -> ModelStatus:
    """The model in the path. Raises Problem 404."""
    try:
        return _service(request).models.status(request.path_params["model"])
    except UnknownModel as error:
        raise Problem(404, str(error)) from error


def _service(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)  # noqa: S101 - for the type checker
    return service


def version_here() -> str:
    """The version of this package; 0 where it was not installed."""
    try:
        return version("gpen-gateway")
    except PackageNotFoundError:  # run from a source tree
        return "0"


ROUTES = (
    # Routes are tried in their order, and most requests want this one.
    Route("/v2/models/{model}/infer", infer, methods=["POST"]),
    Route("/v2", server),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
    Route("/v2/models/{model}", model),
    Route("/v2/models/{model}/ready", model_ready),
)
"""Every route of the protocol that this server has."""
