"""Which stores a cache has, by the settings."""

from collections.abc import Callable

from gateway.cache.cache import Cache, Store
from gateway.cache.disk import DiskStore
from gateway.cache.memory import MemoryStore
from gateway.settings import CacheSettings


def make_cache(settings: CacheSettings, wrapped: Callable[[Store], Store] = lambda store: store) -> Cache:
    """The cache that `settings` describe: memory before Redis or disk, or none. wrapped: of each tier."""
    if settings.cache == "off":
        return Cache(())
    return Cache((wrapped(MemoryStore(settings.cache_memory_bytes)), wrapped(_shared_store(settings))))


def _shared_store(settings: CacheSettings) -> Store:
    if settings.cache_url is None:
        return DiskStore(settings.cache_dir, settings.cache_disk_bytes)
    # Only who uses Redis imports its client.
    from gateway.cache.redis import RedisStore

    return RedisStore(str(settings.cache_url), settings.cache_ttl_s)
