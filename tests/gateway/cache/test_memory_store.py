"""The memory tier is bounded, and evicts the least recently used entry first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import CacheEntry, MemoryStore
from gateway.cache.memory_store import _HEAD_BYTES

pytestmark = pytest.mark.anyio


def entry_of(size: int, letter: bytes = b"x") -> CacheEntry:
    """An entry that counts as `size` bytes."""
    return CacheEntry({"letter": letter.decode()}, letter * (size - _HEAD_BYTES))


async def test_evicts_the_least_recently_used_entry():
    store = MemoryStore(60_000)
    for key in "abc":
        await store.put(key, entry_of(20_000, key.encode()))
    assert await store.get("a") == entry_of(20_000, b"a")
    await store.put("d", entry_of(20_000, b"d"))
    assert [await store.get(key) is not None for key in "abcd"] == [True, False, True, True]


async def test_an_entry_larger_than_the_tier_is_not_stored():
    store = MemoryStore(20_000)
    await store.put("small", entry_of(20_000))
    await store.put("large", entry_of(20_001))
    assert await store.get("large") is None
    assert await store.get("small") == entry_of(20_000)


async def test_a_tier_of_zero_bytes_stores_nothing():
    store = MemoryStore(0)
    await store.put("a", CacheEntry({}, b""))
    assert await store.get("a") is None


async def test_drop_is_idempotent():
    store = MemoryStore(20_000)
    await store.put("a", entry_of(20_000))
    await store.drop("a")
    await store.drop("a")
    assert await store.get("a") is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40_000)), max_size=30))
async def test_never_holds_more_than_its_limit(puts):
    store = MemoryStore(50_000)
    for key, size in puts:
        await store.put(key, CacheEntry({}, bytes(size)))
        held = [len(entry.body) for key in "abcdef" if (entry := await store.get(key))]
        assert sum(held) + len(held) * _HEAD_BYTES <= 50_000
