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
from gpen_backend.http.body import read_body
from gpen_backend.http.errors import ProtocolError
from gpen_backend.http.infer_request import RestoreRequest, read_request
from gpen_backend.models.registry import ModelNotReady, ModelNotServed, ModelStatus
from gpen_backend.restoration.steps import Work
from gpen_backend.scheduling.restoration_service import Service
from gpen_client.errors import WireError
from gpen_client.wire.messages import InferResponse, Tensor, encode_response, read_header_length
from gpen_common.disconnect import ClientLeft, while_connected
from gpen_common.request_id import read_request_id
from gpen_common.threads import LARGE, off_loop
from gpen_common.tracing import note

logger = logging.getLogger(__name__)

_MODEL_VERSION = "1"
# Bytes of JSON that take less than 1 ms to parse.
_SMALL_JSON = 1 << 14
# nginx's status for a client that left; only logs and metrics show it.
_CLIENT_LEFT = 499


async def server(_: Request) -> Response:
    """GET /v2: this server's name, version and extensions."""
    extensions = ["binary_tensor_data"]
    return JSONResponse({"name": "gpen-backend", "version": package_version(), "extensions": extensions})


async def live(_: Request) -> Response:
    """GET /v2/health/live: 200 while the process runs."""
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """GET /v2/health/ready: 200 if the default model can answer."""
    models = _service(request).models
    return _ready(models.status(models.default))


async def model(request: Request) -> Response:
    """GET /v2/models/{model}: its inputs, outputs and parameters."""
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
    """GET /v2/models/{model}/ready: 200 if it can answer."""
    return _ready(_status(request))


async def infer(request: Request) -> Response:
    """POST /v2/models/{model}/infer: restore one picture."""
    arrived = time.monotonic()
    service, name = _service(request), _status(request).name
    with service.admit():
        try:
            body = await read_body(request, service.settings.max_body_bytes)
            async with while_connected(request.receive):
                return await _restore(service, name, request, body, arrived)
        except (ClientDisconnect, ClientLeft):
            return Response(status_code=_CLIENT_LEFT)
        except WireError as error:
            raise ProtocolError(400, str(error)) from error
        except ModelNotReady as error:
            raise ProtocolError(503, str(error)) from error
        except ProtocolError:
            raise
        except Exception as error:
            logger.exception("%s failed on request %r", name, read_request_id(request.scope) or "-")
            raise ProtocolError(500, f"{name} failed: {str(error) or type(error).__name__}") from error


async def _restore(service: Service, name: str, request: Request, body: bytes, arrived: float) -> Response:
    """Decode, restore and encode."""
    length = read_header_length(request.headers)
    start = time.perf_counter()
    wanted = await _read(service, body, length)
    decode_ms = (time.perf_counter() - start) * 1000
    deadline = None if wanted.timeout_s is None else arrived + wanted.timeout_s
    engine, work = await service.restore(name, wanted, deadline)
    work = replace(work, timings_ms={"decode": decode_ms, **work.timings_ms})
    # A portrait takes 0.1 ms to copy; JSON numbers take a hundred times as long.
    slow = not wanted.binary or work.image.nbytes > LARGE
    headers, content = await off_loop(slow, _encode, name, engine, work, wanted)
    metrics = request.app.state.metrics
    metrics.count_restoration(name, engine.name, len(work.restored), work.batch_size, work.timings_ms)
    stages = {f"gpen.stage.{stage}_ms": milliseconds for stage, milliseconds in work.timings_ms.items()}
    note({"gpen.batch_size": work.batch_size, **stages})
    return Response(content, headers=headers)


async def _read(service: Service, body: bytes, length: int | None) -> RestoreRequest:
    if length is not None and length <= _SMALL_JSON:
        return read_request(body, length, service.settings)
    return await service.run_on_pixels(lambda: read_request(body, length, service.settings))


def _encode(name: str, engine: Engine, work: Work, wanted: RestoreRequest) -> tuple[dict[str, str], bytes]:
    response = InferResponse(
        model_name=name,
        model_version=_MODEL_VERSION,
        id=wanted.id,
        tensors=[Tensor("image", work.image[None])],
        parameters={
            "engine": engine.name,
            "model": name,
            "faces": len(work.restored),
            "batch_size": work.batch_size,
            **{f"{stage}_ms": round(milliseconds, 3) for stage, milliseconds in work.timings_ms.items()},
        },
    )
    return encode_response(response, wanted.binary)


def _ready(status: ModelStatus) -> Response:
    if status.reason is not None:
        raise ProtocolError(503, status.reason)
    return JSONResponse({"name": status.name, "ready": True})


def _status(request: Request) -> ModelStatus:
    """Return the status of the model in the path. Raises ProtocolError 404."""
    try:
        return _service(request).models.status(request.path_params["model"])
    except ModelNotServed as error:
        raise ProtocolError(404, str(error)) from error


def _service(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)  # noqa: S101 - for the type checker
    return service


def package_version() -> str:
    """Return the version of this package; 0 in a source tree that is not installed."""
    try:
        return version("gpen-gateway")
    except PackageNotFoundError:
        return "0"


ROUTES = (
    # First, because Starlette tries routes in order and most requests are for this one.
    Route("/v2/models/{model}/infer", infer, methods=["POST"]),
    Route("/v2", server),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
    Route("/v2/models/{model}", model),
    Route("/v2/models/{model}/ready", model_ready),
)
"""The routes of the protocol that this server has."""
