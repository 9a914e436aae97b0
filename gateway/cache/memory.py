"""Entries in this process's memory, the least recently used of which go first."""

from collections.abc import Sequence

from cachetools import LRUCache

from gateway.cache.entry import Entry
from gateway.cache.store import Store

# What a head takes as Python's objects: measured 5 KB for a portrait with one face, 11 KB for its result.
_HEAD_BYTES = 10_000


class MemoryStore(Store[Entry]):
    """Keeps at most about `max_bytes` of entries, as they are. Used on the event loop only."""

    name = "memory"

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[str, Entry] = LRUCache(max_bytes, getsizeof=_size)

    async def first(self, keys: Sequence[str]) -> tuple[str, Entry] | None:
        """The first of `keys` that has an entry, and that."""
        return next(((key, self._entries[key]) for key in keys if key in self._entries), None)

    async def put(self, key: str, entry: Entry) -> None:
        """Keeps `entry`, unless it alone is larger than all there may be."""
        if _size(entry) <= self._entries.maxsize:
            self._entries[key] = entry

    async def drop(self, key: str) -> None:
        """Forgets the entry of `key`."""
        self._entries.pop(key, None)

    async def close(self) -> None:
        """Forgets everything."""
        self._entries.clear()


def _size(entry: Entry) -> int:
    return len(entry.body) + _HEAD_BYTES
