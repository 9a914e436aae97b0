"""A stale-while-revalidate cache of the backend's models, so that requests rarely wait for the list."""

import asyncio
import time
from collections.abc import Sequence

from gateway.errors import GatewayError
from gateway.upstream.client_errors import map_client_errors
from gpen_client.client import GpenClient
from gpen_common.types import ModelInfo

# How long a list counts as fresh, seconds. Models change only when an operator pulls one.
_FRESH_S = 10.0
# Minimum time between refreshes in the background, seconds, for instance while the backend is away.
_PAUSE_S = 1.0
# How long a stale list may be used without waiting for a refresh, seconds since the last refresh ended.
_STALE_S = 60.0


class ModelList:
    """Fetches the models and caches them. Concurrent callers share one refresh.

    names: the models to ask the backend for.
    """

    def __init__(self, client: GpenClient, names: Sequence[str]) -> None:
        self._client = client
        self._names = names
        self._cached: list[ModelInfo] | None = None
        self._fresh_until = 0.0
        self._refreshed_at = 0.0
        self._refreshing: asyncio.Task[list[ModelInfo]] | None = None

    @property
    def known(self) -> list[ModelInfo]:
        """The cached models, however old; empty before the first answer."""
        return self._cached or []

    async def get_fresh(self) -> list[ModelInfo]:
        """Return models that are at most ten seconds old. Raises any backend error, such as BackendAway."""
        if self._cached is not None and time.monotonic() < self._fresh_until:
            return self._cached
        with map_client_errors():
            # Shielded: a caller that is cancelled must not cancel the refresh for the others.
            return await asyncio.shield(self._start_refresh())

    async def get(self) -> list[ModelInfo]:
        """Return the cached models at once, and refresh a stale list in the background.

        If the list is older than a minute, the refresh is awaited; if it fails, the old list is returned. An
        unavailable backend thus fails in the restoration, which has retries and the circuit breaker.
        Raises any backend error if no list is cached.
        """
        age_s = time.monotonic() - self._refreshed_at
        if self._cached is None or age_s > _STALE_S:
            try:
                return await self.get_fresh()
            except GatewayError:
                if self._cached is None:
                    raise
        elif time.monotonic() >= self._fresh_until and age_s > _PAUSE_S:
            self._start_refresh()
        return self._cached

    async def close(self) -> None:
        """Cancel any refresh in progress."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})

    def _start_refresh(self) -> "asyncio.Task[list[ModelInfo]]":
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(_retrieve_exception)
        return self._refreshing

    async def _refresh(self) -> list[ModelInfo]:
        try:
            self._cached = await self._client.models(self._names)
            ready = all(model.ready for model in self._cached)
            self._fresh_until = time.monotonic() + _FRESH_S if ready else 0.0
        finally:
            self._refreshed_at = time.monotonic()
        return self._cached


def _retrieve_exception(task: "asyncio.Task[list[ModelInfo]]") -> None:
    """Retrieve the exception, else asyncio logs "exception was never retrieved"."""
    if not task.cancelled():
        task.exception()
