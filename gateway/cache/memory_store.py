"""The memory tier: entries of this process, evicted least recently used first."""

from cachetools import LRUCache

from gateway.cache.entry import CacheEntry
from gateway.cache.store import Store

# Size of a head as Python objects: measured 5 KB for a portrait with one face, 11 KB for its result.
_HEAD_BYTES = 10_000


class MemoryStore(Store[CacheEntry]):
    """Keeps about `max_bytes` of entries, without packing them. Used on the event loop only."""

    name = "memory"

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[str, CacheEntry] = LRUCache(max_bytes, getsizeof=_size)

    async def get(self, key: str) -> CacheEntry | None:
        """Return the entry of `key`, or None."""
        return self._entries.get(key)

    async def put(self, key: str, entry: CacheEntry) -> None:
        """Store `entry`, unless it is larger than the whole tier."""
        if _size(entry) <= self._entries.maxsize:
            self._entries[key] = entry

    async def drop(self, key: str) -> None:
        """Remove the entry of `key`."""
        self._entries.pop(key, None)

    async def close(self) -> None:
        """Remove everything."""
        self._entries.clear()


def _size(entry: CacheEntry) -> int:
    return len(entry.body) + _HEAD_BYTES
