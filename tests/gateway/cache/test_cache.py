"""Tiers: the nearest answers, and what a farther one has comes nearer."""

import asyncio

import pytest

from gateway.cache import Cache, DiskStore, Entry, MemoryStore, Packed
from gateway.cache.redis import RedisStore
from gateway.cache.tiers import make_cache
from gateway.settings import CacheSettings

pytestmark = pytest.mark.anyio

ENTRY = Entry({"a": 1}, b"body")


class SlowStore(MemoryStore):
    """Writes nothing before it may."""

    name = "slow"

    def __init__(self) -> None:
        super().__init__(10**6)
        self.may_write = asyncio.Event()
        self.writes = 0

    async def put(self, key: str, entry: Entry) -> None:
        await self.may_write.wait()
        self.writes += 1
        await super().put(key, entry)


async def test_what_a_farther_tier_has_comes_nearer():
    near, far = MemoryStore(10**6), MemoryStore(10**6)
    await far.put("k", ENTRY)
    cache = Cache([near, far])
    assert await cache.get("k") == ENTRY
    await far.drop("k")
    assert await cache.get("k") == ENTRY


async def test_damage_in_a_near_tier_is_answered_by_a_farther_one(tmp_path, caplog):
    near, far = DiskStore(tmp_path, 10**6), MemoryStore(10**6)
    cache = Cache([Packed(near), far])
    await far.put("k", ENTRY)
    await near.put("k", b"no entry")
    assert await cache.get("k") == ENTRY
    assert await Packed(near).get("k") == ENTRY
    assert caplog.text.count("damaged entry was dropped from the disk cache") == 1
    await cache.close()


@pytest.mark.parametrize("size", [0, 2**20])
async def test_what_is_put_soon_is_in_every_tier_at_the_end(tmp_path, size):
    """Also when it is large enough to be packed on a thread."""
    near, large = MemoryStore(10**7), Entry({"a": 1}, bytes(size))
    cache = Cache([near, Packed(DiskStore(tmp_path, 10**7))])
    cache.put_soon("k", lambda: large)
    assert await near.get("k") is None
    await cache.close()
    again = Packed(DiskStore(tmp_path, 10**7))
    assert await again.get("k") == large
    await again.close()


async def test_a_far_tier_that_does_not_keep_up_costs_the_near_one_nothing():
    slow = SlowStore()
    cache = Cache([MemoryStore(10**6), slow])
    for number in range(40):
        await cache.put(str(number), ENTRY)
    assert await cache.get("39") == ENTRY
    slow.may_write.set()
    await cache.close()
    assert slow.writes == 32


async def test_what_is_put_soon_is_there_at_once_and_written_later():
    near = MemoryStore(10**6)
    cache = Cache([near])
    cache.put_soon("k", lambda: ENTRY)
    await asyncio.sleep(0)
    assert await cache.get("k") == ENTRY
    assert await near.get("k") is None
    await cache.settled()
    assert await near.get("k") == ENTRY
    assert await cache.get("k") == ENTRY


async def test_what_several_put_soon_at_once_is_written_once(caplog):
    near = MemoryStore(10**6)
    cache = Cache([near])
    for _ in range(3):
        cache.put_soon("k", lambda: ENTRY)
    await cache.settled()
    assert await near.get("k") == ENTRY
    cache.put_soon("k", lambda: Entry({}, b"other"))
    assert await cache.get("k") == ({}, b"other")
    await cache.close()
    assert caplog.text == ""


async def test_what_is_put_soon_is_written_without_being_asked_for():
    written = asyncio.Event()

    class Telling(MemoryStore):
        async def put(self, key, entry):
            await super().put(key, entry)
            written.set()

    Cache([Telling(10**6)]).put_soon("k", lambda: ENTRY)
    await asyncio.wait_for(written.wait(), 10)


async def test_what_is_put_soon_takes_no_more_memory_than_for_a_few():
    cache = Cache([MemoryStore(10**6)])
    for number in range(40):
        cache.put_soon(str(number), lambda: ENTRY)
    assert [await cache.get(str(number)) is None for number in range(40)] == 32 * [False] + 8 * [True]
    await cache.close()


async def test_a_defect_while_something_is_put_soon_is_logged(tmp_path, caplog):
    cache = Cache([Packed(DiskStore(tmp_path, 10**6))])
    cache.put_soon("k", lambda: Entry({"not JSON": object()}, b"body"))
    await cache.close()
    assert "not JSON serializable" in caplog.text


async def test_a_slow_tier_keeps_nobody_waiting_and_is_written_before_the_end():
    slow = SlowStore()
    cache = Cache([MemoryStore(10**6), slow])
    async with asyncio.timeout(10):
        await cache.put("k", ENTRY)
        assert await cache.get("k") == ENTRY
        assert slow.writes == 0
        closing = asyncio.create_task(cache.close())
        await asyncio.sleep(0)
        assert not closing.done()
        slow.may_write.set()
        await closing
    assert slow.writes == 1


async def test_a_tier_that_does_not_keep_up_costs_entries_not_memory():
    slow = SlowStore()
    cache = Cache([MemoryStore(10**6), slow])
    for number in range(100):
        await cache.put(str(number), ENTRY)
    slow.may_write.set()
    await cache.close()
    assert 0 < slow.writes < 100


async def test_no_tiers_is_off():
    cache = Cache([])
    await cache.put("k", ENTRY)
    assert await cache.get("k") is None
    assert not cache.on
    await cache.close()


async def test_the_settings_choose_the_tiers(tmp_path):
    def tiers(**settings: object) -> list[type]:
        cache = make_cache(CacheSettings(cache_dir=tmp_path, **settings))
        return [type(tier._store if isinstance(tier, Packed) else tier) for tier in cache._tiers]

    assert tiers(cache="off") == []
    assert tiers(cache="on") == [MemoryStore, DiskStore]
    assert tiers(cache="on", cache_url="redis://localhost:1/0") == [MemoryStore, RedisStore]
    assert list(tmp_path.iterdir()) == []
