"""The cache as requests see it: tiers, the nearest first."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from gateway.cache.entry import Entry
from gateway.cache.store import Store

logger = logging.getLogger(__name__)

_MOST_WRITING = 32
# By then an answer is on its way, which would have shared the processors with what is kept of it, seconds.
_BEHIND_S = 0.05


class Cache:
    """Stores in tiers, the quickest first; none at all is a cache that is off."""

    def __init__(self, tiers: Sequence[Store[Entry]]) -> None:
        self._tiers = tuple(tiers)
        self._hurry = asyncio.Event()
        self._writing: dict[str, asyncio.Task[None]] = {}

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return bool(self._tiers)

    async def first(self, keys: Sequence[str]) -> tuple[str, Entry] | None:
        """The first of `keys` that has an entry in any tier, and that."""
        best: tuple[str, Entry] | None = None
        for place, tier in enumerate(self._tiers):
            # A farther tier may have what is wanted more, and need not be asked for what is wanted less.
            if not (wanted := keys[: keys.index(best[0])] if best else keys):
                break
            if (found := await tier.first(wanted)) is None:
                continue
            for nearer in self._tiers[:place]:
                await nearer.put(*found)
            best = found
        return best

    async def get(self, key: str) -> Entry | None:
        """The entry of `key`, or None."""
        found = await self.first((key,))
        return None if found is None else found[1]

    async def put(self, key: str, entry: Entry) -> None:
        """Keeps `entry` under `key`: in the nearest tier at once, in the others a little later.

        A head that is made `Later` is made by then.
        """
        if not self._tiers:
            return
        nearest, *others = self._tiers
        await nearest.put(key, entry)
        # Of several requests that made the same at once, one keeps it. A medium that does not keep up costs
        # entries, not memory, nor what their heads are to be made of.
        if key in self._writing or len(self._writing) >= _MOST_WRITING:
            dict(entry.head)
            return
        task = asyncio.create_task(self._put_in(others, key, entry))
        self._writing[key] = task
        task.add_done_callback(lambda done: self._written(key, done))

    async def _put_in(self, tiers: Sequence[Store[Entry]], key: str, entry: Entry) -> None:
        # Until the answer is on its way, or all is to be written now.
        with suppress(TimeoutError):
            async with asyncio.timeout(_BEHIND_S):
                await self._hurry.wait()
        dict(entry.head)
        for tier in tiers:
            await tier.put(key, entry)

    def _written(self, key: str, task: asyncio.Task[None]) -> None:
        """Stores raise nothing: what `task` did raise is a defect, and nobody else would hear of it."""
        del self._writing[key]
        if not task.cancelled() and (error := task.exception()):
            logger.error("an entry was not kept", exc_info=error)

    async def settled(self) -> None:
        """Waits until every tier has what was put."""
        self._hurry.set()
        while self._writing:
            await asyncio.wait(self._writing.values())
        self._hurry.clear()

    async def close(self) -> None:
        """Writes what is left to write and lets go of all media."""
        await self.settled()
        for tier in self._tiers:
            await tier.close()
