"""Entries in a medium that takes bytes, and may damage them."""

import logging
from collections.abc import Sequence

from gateway.cache.digest import LONG
from gateway.cache.entry import Corrupt, Entry, pack, unpack
from gateway.cache.store import Store
from gpen_common.threads import off_loop

logger = logging.getLogger(__name__)


class Packed(Store[Entry]):
    """A store of bytes as one of entries. What it damaged is dropped and is a miss."""

    def __init__(self, store: Store[bytes]) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """The store's name."""
        return self._store.name

    async def first(self, keys: Sequence[str]) -> tuple[str, Entry] | None:
        """The first of `keys` that has an entry that is whole, and that."""
        found = await self._store.first(keys)
        if found is None:
            return None
        key, packed = found
        try:
            return key, await off_loop(len(packed) > LONG, unpack, key, packed)
        except Corrupt as error:
            logger.warning("a damaged entry was dropped from the %s cache: %s", self.name, error)
            await self._store.drop(key)
            return await self.first(keys[keys.index(key) + 1 :])

    async def put(self, key: str, entry: Entry) -> None:
        """Keeps `entry` under `key`."""
        await self._store.put(key, await off_loop(len(entry.body) > LONG, pack, key, entry))

    async def drop(self, key: str) -> None:
        """Removes the entry of `key`."""
        await self._store.drop(key)

    async def close(self) -> None:
        """Lets go of the medium."""
        await self._store.close()
