"""Results by content: the key of a result, and tiers in memory, on disk or in Redis that keep it."""

from gateway.cache.cache import Cache
from gateway.cache.disk_store import DiskStore
from gateway.cache.entry import CacheEntry, Corrupt, pack, unpack
from gateway.cache.key import cache_key, sha256_of
from gateway.cache.memory_store import MemoryStore
from gateway.cache.packed_store import Packed
from gateway.cache.store import Store

__all__ = [
    "Cache",
    "CacheEntry",
    "Corrupt",
    "DiskStore",
    "MemoryStore",
    "Packed",
    "Store",
    "cache_key",
    "pack",
    "sha256_of",
    "unpack",
]
