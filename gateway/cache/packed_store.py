"""Entries in a store of bytes."""

from gateway.cache.entry import CacheEntry, pack, unpack
from gateway.cache.key import LARGE_DIGEST
from gateway.cache.store import Store
from gpen_common.threads import off_loop


class Packed(Store[CacheEntry]):
    """A store of entries on top of a store of bytes that may damage them."""

    def __init__(self, store: Store[bytes]) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """Name of the store of bytes."""
        return self._store.name

    async def get(self, key: str) -> CacheEntry | None:
        """Return the entry of `key`, or None. Raises Corrupt where its bytes are damaged."""
        packed = await self._store.get(key)
        return None if packed is None else await off_loop(len(packed) > LARGE_DIGEST, unpack, key, packed)

    async def put(self, key: str, entry: CacheEntry) -> None:
        """Store `entry` under `key`."""
        await self._store.put(key, await off_loop(len(entry.body) > LARGE_DIGEST, pack, key, entry))

    async def drop(self, key: str) -> None:
        """Remove the entry of `key`."""
        await self._store.drop(key)

    async def close(self) -> None:
        """Close the store of bytes."""
        await self._store.close()
