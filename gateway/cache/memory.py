"""Entries in this process's memory, the least recently used of which go first."""

from cachetools import LRUCache


class MemoryStore:
    """Keeps at most `max_bytes` of entries. Used on the event loop only."""

    name = "memory"

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)

    async def get(self, key: str) -> bytes | None:
        """The entry of `key`, or None."""
        return self._entries.get(key)

    async def put(self, key: str, entry: bytes) -> None:
        """Keeps `entry`, unless it alone is larger than all there may be."""
        if len(entry) <= self._entries.maxsize:
            self._entries[key] = entry

    async def drop(self, key: str) -> None:
        """Forgets the entry of `key`."""
        self._entries.pop(key, None)

    async def close(self) -> None:
        """Forgets everything."""
        self._entries.clear()
