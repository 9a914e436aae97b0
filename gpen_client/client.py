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

from gpen_client.answers import UNKNOWN, Metadata, restored_from
from gpen_client.attempts import Attempts, Tally
from gpen_client.errors import BackendError, BackendProtocolError, ModelNotFound
from gpen_client.http.channel import Channel
from gpen_client.resilience import BreakerState, Resilience
from gpen_client.wire.messages import (
    InferRequest,
    Tensor,
    decode_response,
    encode_request,
    header_length,
)
from gpen_common.pieces import LARGE
from gpen_common.threads import off_loop
from gpen_common.tracing import Trace, untraced
from gpen_common.types import ModelInfo, Pixels, Restored, RestoreParams

# Probes and descriptions are answered from memory, so a backend that needs longer is not well, seconds.
_PROBE_TIMEOUT_S = 5.0


class GpenClient:
    """One pool of connections to one backend; an async context manager that closes them.

    base_url: the backend's address; a path in it comes before `/v2`. transport: another way to reach it, such
    as httpx.ASGITransport of an app in this process. connect_timeout_s: for one connection to be made.
    max_connections: how many may be open at once; further calls wait for one within their deadline.
    resilience: how restorations bear a bad backend; probes and descriptions are sent once, whatever happens.
    trace: what each attempt to restore is wrapped in.
    Its methods raise the errors of `gpen_client.errors` and no others.
    """

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        connect_timeout_s: float = 2.0,
        max_connections: int = 100,
        resilience: Resilience | None = None,
        trace: Trace = untraced,
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
        """Whether restorations are sent (`closed`), refused (`open`), or tried one by one (`half-open`)."""
        return self._attempts.breaker_state

    @property
    def tally(self) -> Tally:
        """How attempts to restore have ended so far."""
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
        """Have the faces of one picture restored.

        image: (H, W, 3) uint8 RGB. landmarks: (F, 5, 2) float32, (x, y) px, one row of five a face; None
        leaves it to the backend to find them. timeout_s: for everything, waiting for a connection and
        further attempts included; the backend is told what is left of it.
        request_id: printable ASCII; travels as X-Request-ID and must come back where the backend repeats it.
        Returns pixels (H, W, 3) uint8, larger by `params.upscale`, that are read-only; what a foreign server
        does not tell is 0 or "unknown". Raises BackendError.
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
        """One attempt of `restore`."""
        tensors = [Tensor("image", image[np.newaxis])]
        if landmarks is not None:
            tensors.append(Tensor("landmarks", np.asarray(landmarks, np.float32)))
        parameters = params.model_dump(exclude_none=True) | {"timeout_ms": max(1, round(timeout_s * 1000))}
        height, width = (side * params.upscale for side in image.shape[:2])
        request = InferRequest(tensors, parameters, request_id, outputs=["image"])
        headers, body = encode_request(request)
        headers["Content-Length"] = str(sum(map(len, body)))
        if request_id is not None:
            headers["X-Request-ID"] = request_id
        async with self._channel.deadline(timeout_s):
            with self._trace(model) as context:
                answered, answer = await self._channel.call(
                    "POST",
                    f"{_path(model)}/infer",
                    timeout_s,
                    {**headers, **context},
                    body,
                    expected=width * height * 3,
                )
            length = header_length(answered)
            # To put a whole photo together takes a hundred times as long as a portrait.
            large = sum(map(len, answer)) > LARGE
            response = await off_loop(large, decode_response, answer, length)
            if request_id is not None and response.id not in (None, "", request_id):
                raise BackendProtocolError(
                    f"backend {self._backend} answered another request than {request_id}"
                )
            restored = restored_from(response, (height, width, 3), model)
            return restored if restored.engine else replace(restored, engine=await self._engine(model))

    async def live(self) -> bool:
        """Tell whether the backend's process answers."""
        return await self._succeeds("/v2/health/live")

    async def ready(self) -> bool:
        """Tell whether the backend can serve."""
        return await self._succeeds("/v2/health/ready")

    async def model(self, name: str) -> ModelInfo:
        """Describe one model. Raises ModelNotFound, or another BackendError."""
        metadata = await self._metadata(name)
        reason = await self._refusal(f"{_path(name)}/ready")
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
        """Describe those of `names` that the backend has, in their order. Raises BackendError."""
        found = await asyncio.gather(*map(self._model_if_any, names))
        return [model for model in found if model is not None]

    async def _model_if_any(self, name: str) -> ModelInfo | None:
        try:
            return await self.model(name)
        except ModelNotFound:
            return None

    async def _engine(self, model: str) -> str:
        """Look up the model's platform, once, for a server whose answers do not name their engine."""
        if model not in self._engines:
            try:
                self._engines[model] = (await self._metadata(model)).platform or UNKNOWN
            except BackendError:
                return UNKNOWN
        return self._engines[model]

    async def _metadata(self, name: str) -> Metadata:
        async with self._channel.deadline(_PROBE_TIMEOUT_S):
            _, body = await self._channel.call("GET", _path(name), _PROBE_TIMEOUT_S)
        try:
            return Metadata.model_validate_json(b"".join(body))
        except ValidationError as error:
            raise BackendProtocolError(
                f"backend {self._backend} does not describe {name!r}: {error}"
            ) from error

    async def _succeeds(self, path: str) -> bool:
        return await self._refusal(path) is None

    async def _refusal(self, path: str) -> str | None:
        """Why a path does not answer with success, None where it does."""
        try:
            async with self._channel.deadline(_PROBE_TIMEOUT_S):
                await self._channel.call("GET", path, _PROBE_TIMEOUT_S)
        except BackendError as error:
            return str(error)
        return None


def _path(model: str) -> str:
    # Dots would walk up the path, whether quoted or not.
    if model in ("", ".", ".."):
        raise ModelNotFound(f"no model can be called {model!r}", 404)
    return f"/v2/models/{quote(model, safe='')}"
