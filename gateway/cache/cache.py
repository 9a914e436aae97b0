"""The cache as requests see it: tiers, the nearest first."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from gateway.cache.digest import off_loop
from gateway.cache.entry import Body, Corrupt, pack, unpack

logger = logging.getLogger(__name__)

_MOST_WRITING = 32
# By then an answer is on its way, which would have shared the processors with what is kept of it, seconds.
_BEHIND_S = 0.05


class Store(Protocol):
    """Where entries are kept. Never raises for what its medium does."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    async def get(self, key: str) -> bytes | None:
        """The entry of `key`, or None."""

    async def put(self, key: str, entry: bytes) -> None:
        """Keeps `entry` under `key`."""

    async def drop(self, key: str) -> None:
        """Removes the entry of `key`."""

    async def close(self) -> None:
        """Lets go of the medium."""


class Cache:
    """Stores in tiers, the quickest first; none at all is a cache that is off."""

    def __init__(self, tiers: Sequence[Store]) -> None:
        self._tiers = tuple(tiers)
        self._behind: dict[str, tuple[Mapping[str, Any], Body]] = {}
        self._hurry = asyncio.Event()
        self._packing: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return bool(self._tiers)

    async def get(self, key: str) -> tuple[Mapping[str, Any], Body] | None:
        """Head and body of the entry of `key`, or None. A damaged entry is dropped and is a miss."""
        if key in self._behind:
            return self._behind[key]
        for place, tier in enumerate(self._tiers):
            entry = await tier.get(key)
            if entry is None:
                continue
            try:
                found = await off_loop(len(entry), unpack, key, entry)
            except Corrupt as error:
                logger.warning("a damaged entry was dropped from the %s cache: %s", tier.name, error)
                await tier.drop(key)
                continue
            for nearer in self._tiers[:place]:
                await nearer.put(key, entry)
            return found
        return None

    async def put(self, key: str, head: Mapping[str, Any], body: Body) -> None:
        """Keeps `head` and `body` under `key`: in the nearest tier at once, in the others a little later."""
        if not self._tiers:
            return
        entry = await off_loop(len(body), pack, key, head, body)
        nearest, *others = self._tiers
        await nearest.put(key, entry)
        if others:
            self._soon(self._writing, self._put_in(others, key, entry))

    def put_soon(self, key: str, head: Mapping[str, Any], body: Body) -> None:
        """As `put`, a little later and without waiting: for what nobody asks for in the next moment."""
        # Of several requests that made the same at once, one keeps it.
        if key not in self._behind and self._soon(self._packing, self._put_behind(key)):
            self._behind[key] = head, body

    async def _put_behind(self, key: str) -> None:
        await self._later()
        try:
            await self.put(key, *self._behind[key])
        finally:
            del self._behind[key]

    async def _put_in(self, tiers: Sequence[Store], key: str, entry: bytes) -> None:
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
        while unfinished := self._packing | self._writing:
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
