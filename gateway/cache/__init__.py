"""Results that need not be made twice: content-addressed, in memory, on disk or in Redis."""

from gateway.cache.cache import Cache, Store
from gateway.cache.disk import DiskStore
from gateway.cache.entry import Corrupt, pack, unpack
from gateway.cache.flight import SingleFlight
from gateway.cache.key import cache_key
from gateway.cache.memory import MemoryStore

__all__ = [
    "Cache",
    "Corrupt",
    "DiskStore",
    "MemoryStore",
    "SingleFlight",
    "Store",
    "cache_key",
    "pack",
    "unpack",
]
