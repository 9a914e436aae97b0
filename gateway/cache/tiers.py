"""Which stores a cache has, by the settings."""

from typing import Protocol, TypeVar

from gateway.cache.cache import Cache
from gateway.cache.disk import DiskStore
from gateway.cache.memory import MemoryStore
from gateway.cache.packed import Packed
from gateway.cache.store import Store
from gateway.settings import CacheSettings

V = TypeVar("V")


class Wrapper(Protocol):
    """What is put around a store, whatever it keeps."""

    def __call__(self, store: Store[V], /) -> Store[V]:
        """A store around `store`."""


def make_cache(settings: CacheSettings, wrapped: Wrapper = lambda store: store) -> Cache:
    """The cache that `settings` describe: memory before Redis or disk, or none. wrapped: of each medium."""
    if settings.cache == "off":
        return Cache(())
    memory = wrapped(MemoryStore(settings.cache_memory_bytes))
    return Cache((memory, Packed(wrapped(_shared_store(settings)))))


def _shared_store(settings: CacheSettings) -> Store[bytes]:
    if settings.cache_url is None:
        return DiskStore(settings.cache_dir, settings.cache_disk_bytes)
    # Only who uses Redis imports its client.
    from gateway.cache.redis import RedisStore

    return RedisStore(str(settings.cache_url), settings.cache_ttl_s)
