"""The cache as requests see it: tiers, the nearest first."""

import asyncio
import logging
from collections.abc import Sequence

from gateway.cache.entry import Entry
from gateway.cache.store import Store

logger = logging.getLogger(__name__)

_MOST_UNWRITTEN = 32
# By then an answer is on its way, which would have shared the processors with what is kept of it, seconds.
_BEHIND_S = 0.05


class Cache:
    """Stores in tiers, the quickest first; none at all is a cache that is off."""

    def __init__(self, tiers: Sequence[Store[Entry]]) -> None:
        self._tiers = tuple(tiers)
        self._unwritten: dict[str, Entry] = {}
        self._writing: set[asyncio.Task[None]] = set()

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
        await self._tiers[0].put(key, entry)
        # Of several requests that made the same at once, one keeps it. A medium that does not keep up costs
        # entries, not memory, nor what their heads are to be made of.
        if key in self._unwritten or len(self._unwritten) + len(self._writing) >= _MOST_UNWRITTEN:
            dict(entry.head)
            return
        self._unwritten[key] = entry
        asyncio.get_running_loop().call_later(_BEHIND_S, self._write, key)

    async def settled(self) -> None:
        """Waits until every tier has what was put."""
        for key in tuple(self._unwritten):
            self._write(key)
        while self._writing:
            await asyncio.wait(self._writing)

    def _write(self, key: str) -> None:
        """Begins to write an entry to the farther tiers, unless that has begun."""
        if (entry := self._unwritten.pop(key, None)) is None:
            return
        task = asyncio.create_task(self._put_far(key, entry))
        self._writing.add(task)
        task.add_done_callback(self._written)

    async def _put_far(self, key: str, entry: Entry) -> None:
        dict(entry.head)
        for tier in self._tiers[1:]:
            await tier.put(key, entry)

    def _written(self, task: asyncio.Task[None]) -> None:
        """Stores raise nothing: what `task` did raise is a defect, and nobody else would hear of it."""
        self._writing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("an entry was not kept", exc_info=error)

    async def close(self) -> None:
        """Writes what is left to write and lets go of all media."""
        await self.settled()
        for tier in self._tiers:
            await tier.close()
