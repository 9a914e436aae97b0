"""The cache as requests see it: tiers, the nearest first."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

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
        self._behind: dict[str, Callable[[], Entry]] = {}
        self._hurry = asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return bool(self._tiers)

    async def get(self, key: str) -> Entry | None:
        """The entry of `key`, or None."""
        if key in self._behind:
            return self._behind[key]()
        for place, tier in enumerate(self._tiers):
            entry = await tier.get(key)
            if entry is None:
                continue
            for nearer in self._tiers[:place]:
                await nearer.put(key, entry)
            return entry
        return None

    async def put(self, key: str, entry: Entry) -> None:
        """Keeps `entry` under `key`: in the nearest tier at once, in the others a little later."""
        if not self._tiers:
            return
        nearest, *others = self._tiers
        await nearest.put(key, entry)
        if others:
            self._soon(self._writing, self._put_in(others, key, entry))

    def put_soon(self, key: str, make: Callable[[], Entry]) -> None:
        """As `put`, a little later and without waiting: for what nobody asks for in the next moment.

        make: makes the entry, then, or when it is asked for before.
        """
        # Of several requests that made the same at once, one keeps it.
        if key not in self._behind and self._soon(self._waiting, self._put_behind(key)):
            self._behind[key] = make

    async def _put_behind(self, key: str) -> None:
        await self._later()
        try:
            await self.put(key, self._behind[key]())
        finally:
            del self._behind[key]

    async def _put_in(self, tiers: Sequence[Store[Entry]], key: str, entry: Entry) -> None:
        await self._later()
        for tier in tiers:
            await tier.put(key, entry)

    async def _later(self) -> None:
        """Waits until the answer is on its way, or until all is to be written now."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), _BEHIND_S)

    def _soon(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> bool:
        """Starts `work` as one of `tasks`, unless there are too many. Tells whether it did."""
        # A medium that does not keep up costs entries, not memory.
        if len(tasks) >= _MOST_WRITING:
            work.close()
            return False
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(_told)
        return True

    async def settled(self) -> None:
        """Waits until every tier has what was put."""
        self._hurry.set()
        # What is put soon has further tiers to be written to in its turn.
        while unfinished := self._waiting | self._writing:
            await asyncio.wait(unfinished)
        self._hurry.clear()

    async def close(self) -> None:
        """Writes what is left to write and lets go of all media."""
        await self.settled()
        for tier in self._tiers:
            await tier.close()


def _told(task: asyncio.Task[None]) -> None:
    """Stores raise nothing: what `task` did raise is a defect, and nobody else would hear of it."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("an entry was not kept", exc_info=error)
