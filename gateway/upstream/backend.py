"""Call the GPEN backend for one request, within its deadline and with the gateway's errors."""

import time

from gateway.errors import DeadlinePassed
from gateway.upstream.client_errors import map_client_errors
from gpen_client.client import GpenClient
from gpen_common.types import ModelInfo, Pixels, Points, Restored, RestoreParams

# Maximum time that the event loop may be blocked, seconds.
_MARGIN_S = 0.1


class Backend:
    """The backend for one request. deadline: on time.monotonic's clock, seconds."""

    def __init__(self, client: GpenClient, model: ModelInfo, request_id: str, deadline: float) -> None:
        self.model = model
        self._client = client
        self._request_id = request_id
        self._deadline = deadline

    async def restore(self, pixels: Pixels, landmarks: Points | None, params: RestoreParams) -> Restored:
        """Restore the faces at `landmarks` (F, 5, 2) in `pixels` (H, W, 3).

        Raises UnknownModel, BackendIsBusy, BackendAway, BackendBroken, DeadlinePassed.
        """
        left = self._deadline - time.monotonic()
        # Time out a little before the request does: if the request were cancelled first, the circuit breaker
        # would not learn of the timeout.
        left -= min(_MARGIN_S, left / 10)
        if left <= 0:
            raise DeadlinePassed(
                "the deadline passed before the backend was called; send a longer timeout_s, up to the "
                "server's GATEWAY_TIMEOUT_S"
            )
        with map_client_errors():
            return await self._client.restore(
                pixels,
                landmarks,
                params,
                model=self.model.name,
                timeout_s=left,
                request_id=self._request_id,
            )
