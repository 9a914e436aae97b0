"""The GPEN backend as a request sees it: by a deadline, and with the gateway's own errors."""

import time

from gateway.errors import DeadlinePassed, backend_errors
from gpen_client.client import GpenClient
from gpen_common.types import ModelInfo, Pixels, Points, Restored, RestoreParams

# Longer than the event loop should ever be busy with one thing, seconds.
_MARGIN_S = 0.1


class Backend:
    """One request's way to the backend. deadline: on time.monotonic's clock, seconds."""

    def __init__(self, client: GpenClient, model: ModelInfo, request_id: str, deadline: float) -> None:
        self.model = model
        self._client = client
        self._request_id = request_id
        self._deadline = deadline

    async def restore(self, pixels: Pixels, landmarks: Points | None, params: RestoreParams) -> Restored:
        """`pixels` (H, W, 3) with the faces `landmarks` (F, 5, 2) restored.

        Raises UnknownModel, BackendIsBusy, BackendAway, BackendBroken, DeadlinePassed.
        """
        left = self._deadline - time.monotonic()
        # Its own deadline comes a little sooner than the request's: else the request, cancelled then, would
        # hide from the breaker that the backend was silent.
        left -= min(_MARGIN_S, left / 10)
        if left <= 0:
            raise DeadlinePassed("the time was over before the backend was asked; raise GATEWAY_TIMEOUT_S")
        with backend_errors():
            return await self._client.restore(
                pixels,
                landmarks,
                params,
                model=self.model.name,
                timeout_s=left,
                request_id=self._request_id,
            )
