"""The tiers that the settings ask for."""

from gateway.cache.cache import Cache, CacheEvent
from gateway.cache.disk_store import DiskStore
from gateway.cache.memory_store import MemoryStore
from gateway.cache.packed_store import Packed
from gateway.cache.store import Store
from gateway.settings import CacheSettings


def make_cache(settings: CacheSettings, on_event: CacheEvent = lambda tier, event: None) -> Cache:
    """Return the cache that `settings` describe: memory, then Redis or disk; without tiers where it is
    off."""
    if settings.cache == "off":
        return Cache(())
    return Cache((MemoryStore(settings.cache_memory_bytes), Packed(_make_shared_store(settings))), on_event)


def _make_shared_store(settings: CacheSettings) -> Store[bytes]:
    if settings.cache_url is None:
        return DiskStore(settings.cache_dir, settings.cache_disk_bytes)
    # Imported here: redis is an optional dependency.
    from gateway.cache.redis_store import RedisStore

    return RedisStore(str(settings.cache_url), settings.cache_ttl_s)
