"""An async client of one GPEN backend, or of another server of the Open Inference Protocol v2."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from gpen_client.attempts import AttemptCounts, Attempts
from gpen_client.errors import BackendError, BackendProtocolError, ModelNotFound
from gpen_client.http.channel import Channel
from gpen_client.resilience import BreakerState, Resilience
from gpen_client.response_checks import UNKNOWN, ModelMetadata, read_restored
from gpen_client.wire.messages import (
    InferRequest,
    Tensor,
    decode_response,
    encode_request,
    read_header_length,
)
from gpen_common.request_id import REQUEST_ID
from gpen_common.threads import LARGE, off_loop
from gpen_common.tracing import Trace, no_trace
from gpen_common.types import ModelInfo, Pixels, Restored, RestoreParams

# Timeout of probes and descriptions, which a healthy backend answers from memory, seconds.
_PROBE_TIMEOUT_S = 5.0


class GpenClient:
    """A pool of connections to one backend; an async context manager that closes them.

    base_url: the backend's address; a path in it is put before `/v2`. transport: httpx's transport, such as
    httpx.ASGITransport of an app in this process. connect_timeout_s: timeout of opening a connection.
    max_connections: connections open at once; further calls wait for one within their deadline.
    resilience: retries and circuit breaker of restorations; probes and descriptions are sent once.
    trace: context manager around each attempt to restore.
    Its methods raise only the errors of `gpen_client.errors`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        connect_timeout_s: float = 2.0,
        max_connections: int = 100,
        resilience: Resilience | None = None,
        trace: Trace = no_trace,
    ) -> None:
        self._backend = base_url
        self._trace = trace
        self._attempts = Attempts(resilience or Resilience())
        self._engines: dict[str, str] = {}
        self._channel = Channel(
            base_url,
            transport=transport,
            connect_timeout_s=connect_timeout_s,
            max_connections=max_connections,
        )

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.__aexit__(kind, error, trace)

    @property
    def breaker_state(self) -> BreakerState:
        """Whether restorations are sent (`closed`), refused (`open`) or sent as probes (`half-open`)."""
        return self._attempts.breaker_state

    @property
    def tally(self) -> AttemptCounts:
        """Counts of the outcomes of attempts to restore."""
        return self._attempts.tally

    async def restore(
        self,
        image: Pixels,
        landmarks: NDArray[np.float32] | None,
        params: RestoreParams,
        *,
        model: str,
        timeout_s: float,
        request_id: str | None = None,
    ) -> Restored:
        """Have the backend restore the faces of one picture.

        image: (H, W, 3) uint8 RGB. landmarks: (F, 5, 2) float32, (x, y) px, five points a face; None lets
        the backend find faces. timeout_s: timeout of the whole call, including the wait for a connection and
        retries; each attempt sends the backend what is left.
        request_id: printable ASCII, sent as X-Request-ID and as the message's id. An answer with another id
        is rejected. Returns pixels (H, W, 3) uint8, read-only, larger by `params.upscale`. Values that a
        foreign server does not send are 0 or "unknown". Raises BackendError.
        """

        async def once(left_s: float) -> Restored:
            return await self._restore(image, landmarks, params, model, left_s, request_id)

        return await self._attempts.run(once, timeout_s)

    async def _restore(
        self,
        image: Pixels,
        landmarks: NDArray[np.float32] | None,
        params: RestoreParams,
        model: str,
        timeout_s: float,
        request_id: str | None,
    ) -> Restored:
        """Attempt `restore` once."""
        tensors = [Tensor("image", image[np.newaxis])]
        if landmarks is not None:
            tensors.append(Tensor("landmarks", np.asarray(landmarks, np.float32)))
        parameters = params.model_dump(exclude_none=True) | {"timeout_ms": max(1, round(timeout_s * 1000))}
        height, width = (side * params.upscale for side in image.shape[:2])
        request = InferRequest(tensors, parameters, request_id, outputs=["image"])
        # A whole photo takes a hundred times as long to copy as a portrait.
        headers, body = await off_loop(image.nbytes > LARGE, encode_request, request)
        if request_id is not None:
            headers[REQUEST_ID] = request_id
        async with self._channel.deadline(timeout_s):
            with self._trace(model) as context:
                response_headers, answer = await self._channel.call(
                    "POST",
                    f"{_path(model)}/infer",
                    timeout_s,
                    {**headers, **context},
                    body,
                    expected=width * height * 3,
                )
            length = read_header_length(response_headers)
            response = await off_loop(len(answer) > LARGE, decode_response, answer, length)
            if request_id is not None and response.id not in (None, "", request_id):
                raise BackendProtocolError(
                    f"backend {self._backend} answered request {response.id!r:.80}, not {request_id!r}"
                )
            restored = read_restored(response, (height, width, 3), model)
            return restored if restored.engine else replace(restored, engine=await self._engine(model))

    async def live(self) -> bool:
        """Return whether the backend's process answers."""
        return await self._succeeds("/v2/health/live")

    async def ready(self) -> bool:
        """Return whether the backend can serve its default model."""
        return await self._succeeds("/v2/health/ready")

    async def model(self, name: str) -> ModelInfo:
        """Describe one model. Raises ModelNotFound, or another BackendError."""
        metadata = await self._metadata(name)
        reason = await self._why_not(f"{_path(name)}/ready")
        return ModelInfo(
            name=name,
            ready=reason is None,
            engine=metadata.platform or UNKNOWN,
            size=metadata.parameters.size,
            default=metadata.parameters.default,
            task=metadata.parameters.task,
            reason=reason,
        )

    async def models(self, names: Iterable[str]) -> list[ModelInfo]:
        """Describe the models of `names` that the backend has, in that order. Raises BackendError."""
        found = await asyncio.gather(*map(self._model_if_any, names))
        return [model for model in found if model is not None]

    async def _model_if_any(self, name: str) -> ModelInfo | None:
        try:
            return await self.model(name)
        except ModelNotFound:
            return None

    async def _engine(self, model: str) -> str:
        """Look up the model's platform, once, for a server whose answers name no engine."""
        if model not in self._engines:
            try:
                self._engines[model] = (await self._metadata(model)).platform or UNKNOWN
            except BackendError:
                return UNKNOWN
        return self._engines[model]

    async def _metadata(self, name: str) -> ModelMetadata:
        async with self._channel.deadline(_PROBE_TIMEOUT_S):
            _, body = await self._channel.call("GET", _path(name), _PROBE_TIMEOUT_S)
        try:
            return ModelMetadata.model_validate_json(body)
        except ValidationError as error:
            raise BackendProtocolError(
                f"backend {self._backend} sent an invalid description of {name!r}: {error}"
            ) from error

    async def _succeeds(self, path: str) -> bool:
        return await self._why_not(path) is None

    async def _why_not(self, path: str) -> str | None:
        """GET a path; return None on success, else the error's message."""
        try:
            async with self._channel.deadline(_PROBE_TIMEOUT_S):
                await self._channel.call("GET", path, _PROBE_TIMEOUT_S)
        except BackendError as error:
            return str(error)
        return None


def _path(model: str) -> str:
    # Dots are path segments even if quoted, and would lead to other routes.
    if model in ("", ".", ".."):
        raise ModelNotFound(f"{model!r} cannot be the name of a model", 404)
    return f"/v2/models/{quote(model, safe='')}"
