"""Memory is bounded, and what was not used for longest goes first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import MemoryStore

pytestmark = pytest.mark.anyio


async def test_the_least_recently_used_goes_first():
    store = MemoryStore(30)
    for key in "abc":
        await store.put(key, key.encode() * 10)
    assert await store.get("a") == b"a" * 10
    await store.put("d", b"d" * 10)
    assert [await store.get(key) is not None for key in "abcd"] == [True, False, True, True]


async def test_what_is_larger_than_all_of_it_is_not_kept():
    store = MemoryStore(10)
    await store.put("small", b"1" * 10)
    await store.put("large", b"1" * 11)
    assert await store.get("large") is None
    assert await store.get("small") == b"1" * 10


async def test_no_memory_keeps_nothing():
    store = MemoryStore(0)
    await store.put("a", b"a")
    assert await store.get("a") is None


async def test_what_is_dropped_is_gone_and_may_be_dropped_again():
    store = MemoryStore(10)
    await store.put("a", b"a")
    await store.drop("a")
    await store.drop("a")
    assert await store.get("a") is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40)), max_size=30))
async def test_it_never_holds_more_than_it_may(puts):
    store = MemoryStore(50)
    for key, size in puts:
        await store.put(key, bytes(size))
        assert sum([len(await store.get(key) or b"") for key in "abcdef"]) <= 50
