"""Results that need not be made twice: content-addressed, in memory, on disk or in Redis."""

from gateway.cache.cache import Cache
from gateway.cache.digest import Picture
from gateway.cache.disk import DiskStore
from gateway.cache.entry import Body, Corrupt, Entry, Later, pack, unpack
from gateway.cache.flight import SingleFlight
from gateway.cache.key import cache_key
from gateway.cache.memory import MemoryStore
from gateway.cache.packed import Packed
from gateway.cache.store import Store

__all__ = [
    "Body",
    "Cache",
    "Corrupt",
    "DiskStore",
    "Entry",
    "Later",
    "MemoryStore",
    "Packed",
    "Picture",
    "SingleFlight",
    "Store",
    "cache_key",
    "pack",
    "unpack",
]
