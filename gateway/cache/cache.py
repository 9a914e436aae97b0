"""The cache that requests use: tiers of storage, the fastest first."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from gateway.cache.entry import CacheEntry, Corrupt
from gateway.cache.store import Store

logger = logging.getLogger(__name__)

CacheEvent: TypeAlias = Callable[[str, Literal["hit", "miss", "damaged", "written"]], None]
"""Called with the name of a tier and what happened there; metrics count it."""

# Entries that wait to be written; further ones stay in the first tier only.
_MAX_PENDING = 32
# Delay before writing to slower tiers, seconds, so that the write does not compete with the response for CPU.
_WRITE_DELAY_S = 0.05


class Cache:
    """Write-behind cache over `tiers`. Without tiers the cache is off.

    on_event: called for every read and write of a tier. Used on one event loop.
    """

    def __init__(
        self, tiers: Sequence[Store[CacheEntry]], on_event: CacheEvent = lambda tier, event: None
    ) -> None:
        self._tiers = tuple(tiers)
        self._on_event = on_event
        self._pending: dict[str, CacheEntry] = {}
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def on(self) -> bool:
        """Whether the cache has any tier."""
        return bool(self._tiers)

    async def get(self, key: str) -> CacheEntry | None:
        """Return the entry of `key` from the fastest tier that has it, and copy it to the tiers before
        that."""
        for place, tier in enumerate(self._tiers):
            if (entry := await self._read(tier, key)) is not None:
                for faster in self._tiers[:place]:
                    await self._write(faster, key, entry)
                return entry
        return None

    async def put(self, key: str, entry: CacheEntry) -> None:
        """Write `entry` to the first tier now, and schedule the write to the others.

        An entry is dropped from the schedule where too many wait: a slow tier costs cache hits, not memory.
        """
        if not self._tiers:
            return
        await self._write(self._tiers[0], key, entry)
        if key not in self._pending and len(self._pending) + len(self._writes) < _MAX_PENDING:
            self._pending[key] = entry
            asyncio.get_running_loop().call_later(_WRITE_DELAY_S, self._write_behind, key)

    async def flush(self) -> None:
        """Write everything that is scheduled, and wait for it."""
        for key in tuple(self._pending):
            self._write_behind(key)
        while self._writes:
            await asyncio.wait(self._writes)

    async def close(self) -> None:
        """Flush, and close every tier."""
        await self.flush()
        for tier in self._tiers:
            await tier.close()

    async def _read(self, tier: Store[CacheEntry], key: str) -> CacheEntry | None:
        try:
            entry = await tier.get(key)
        except Corrupt as error:
            logger.warning("dropped a damaged entry from the %s cache: %s", tier.name, error)
            self._on_event(tier.name, "hit")
            self._on_event(tier.name, "damaged")
            await tier.drop(key)
            return None
        self._on_event(tier.name, "miss" if entry is None else "hit")
        return entry

    async def _write(self, tier: Store[CacheEntry], key: str, entry: CacheEntry) -> None:
        await tier.put(key, entry)
        self._on_event(tier.name, "written")

    def _write_behind(self, key: str) -> None:
        """Start writing a scheduled entry to all tiers but the first."""
        if (entry := self._pending.pop(key, None)) is None:
            return
        task = asyncio.create_task(self._write_slower_tiers(key, entry))
        self._writes.add(task)
        task.add_done_callback(self._finish_write)

    async def _write_slower_tiers(self, key: str, entry: CacheEntry) -> None:
        for tier in self._tiers[1:]:
            await self._write(tier, key, entry)

    def _finish_write(self, task: "asyncio.Task[None]") -> None:
        self._writes.discard(task)
        # Stores log their medium's failures themselves: an exception here is a defect.
        if not task.cancelled() and (error := task.exception()):
            logger.error("an entry was not written to the cache", exc_info=error)
