"""The cache as requests see it: tiers, the nearest first."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway.cache.entry import Corrupt, pack, unpack

logger = logging.getLogger(__name__)

_MOST_WRITING = 32


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
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return bool(self._tiers)

    async def get(self, key: str) -> tuple[dict[str, Any], bytes] | None:
        """Head and body of the entry of `key`, or None. A damaged entry is dropped and is a miss."""
        for place, tier in enumerate(self._tiers):
            entry = await tier.get(key)
            if entry is None:
                continue
            try:
                found = unpack(key, entry)
            except Corrupt as error:
                logger.warning("a damaged entry was dropped from the %s cache: %s", tier.name, error)
                await tier.drop(key)
                continue
            for nearer in self._tiers[:place]:
                await nearer.put(key, entry)
            return found
        return None

    async def put(self, key: str, head: Mapping[str, Any], body: bytes) -> None:
        """Keeps `head` and `body` under `key`: in the nearest tier at once, in the others soon."""
        if not self._tiers:
            return
        entry = pack(key, head, body)
        nearest, *others = self._tiers
        await nearest.put(key, entry)
        # A medium that does not keep up costs entries, not memory.
        if others and len(self._writing) < _MOST_WRITING:
            writing = asyncio.create_task(_put_all(others, key, entry))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        """Writes what is left to write and lets go of all media."""
        if self._writing:
            await asyncio.wait(self._writing)
        for tier in self._tiers:
            await tier.close()


async def _put_all(tiers: Sequence[Store], key: str, entry: bytes) -> None:
    for tier in tiers:
        await tier.put(key, entry)
