"""The backend's models as it last told them, so that a request seldom waits to be told again."""

import asyncio
import time
from collections.abc import Sequence

from gateway.errors import GatewayError, backend_errors
from gpen_client.client import GpenClient
from gpen_common.types import ModelInfo

# A backend's models change when somebody pulls one: seconds are soon enough, and cost requests nothing.
_FRESH_S = 10.0
# While the backend is away requests go on by what is known, and ask this seldom, seconds.
_PAUSE_S = 1.0
# What nobody has asked about for longer is not relied upon, seconds.
_RECENT_S = 60.0


class Roster:
    """Asks for the models, once for all who wait, and remembers the answer. names: those to ask for."""

    def __init__(self, client: GpenClient, names: Sequence[str]) -> None:
        self._client = client
        self._names = names
        self._known: list[ModelInfo] | None = None
        self._fresh_until = 0.0
        self._asked_at = 0.0
        self._asking: asyncio.Task[list[ModelInfo]] | None = None

    @property
    def known(self) -> list[ModelInfo]:
        """The models by the last answer; none before the first."""
        return self._known or []

    async def fresh(self) -> list[ModelInfo]:
        """The models that the backend has now, or had seconds ago. Raises BackendAway and its kin."""
        if self._known is not None and time.monotonic() < self._fresh_until:
            return self._known
        with backend_errors():
            # One who gives up waiting takes the answer from nobody else.
            return await asyncio.shield(self._asked())

    async def at_hand(self) -> list[ModelInfo]:
        """The models by the last answer, without waiting where that is recent; asks anew meanwhile.

        A backend that fails is thus met by the restoration itself, where retries and the breaker are.
        Raises BackendAway and its kin where nothing is known.
        """
        idle_s = time.monotonic() - self._asked_at
        if self._known is None or idle_s > _RECENT_S:
            try:
                return await self.fresh()
            except GatewayError:
                if self._known is None:
                    raise
        elif time.monotonic() >= self._fresh_until and idle_s > _PAUSE_S:
            self._asked()
        return self._known

    async def close(self) -> None:
        """Stops asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def _asked(self) -> "asyncio.Task[list[ModelInfo]]":
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_noticed)
        return self._asking

    async def _ask(self) -> list[ModelInfo]:
        try:
            self._known = await self._client.models(self._names)
            ready = all(model.ready for model in self._known)
            self._fresh_until = time.monotonic() + _FRESH_S if ready else 0.0
        finally:
            self._asked_at = time.monotonic()
        return self._known


def _noticed(task: "asyncio.Task[list[ModelInfo]]") -> None:
    """Asked in the background, nobody else looks at a failure."""
    if not task.cancelled():
        task.exception()
