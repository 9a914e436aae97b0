"""The cache over its tiers: reads from the fastest, writes behind to the others."""

import asyncio

import pytest

from gateway.cache import Cache, CacheEntry, DiskStore, MemoryStore, Packed
from gateway.cache.redis_store import RedisStore
from gateway.cache.tiers import make_cache
from gateway.settings import CacheSettings

pytestmark = pytest.mark.anyio

ENTRY = CacheEntry({"a": 1}, b"body")


class SlowStore(MemoryStore):
    """Blocks writes until `may_write` is set."""

    name = "slow"

    def __init__(self) -> None:
        super().__init__(10**6)
        self.may_write, self.written = asyncio.Event(), asyncio.Event()
        self.writes = 0

    async def put(self, key: str, entry: CacheEntry) -> None:
        await self.may_write.wait()
        self.writes += 1
        await super().put(key, entry)
        self.written.set()


async def test_a_hit_in_a_slow_tier_is_copied_to_the_fast_tier():
    near, far = MemoryStore(10**6), MemoryStore(10**6)
    await far.put("k", ENTRY)
    cache = Cache([near, far])
    assert await cache.get("k") == ENTRY
    await far.drop("k")
    assert await cache.get("k") == ENTRY


async def test_a_damaged_entry_is_dropped_and_the_next_tier_answers(tmp_path, caplog):
    fast, slow = DiskStore(tmp_path, 10**6), MemoryStore(10**6)
    cache = Cache([Packed(fast), slow])
    await slow.put("k", ENTRY)
    await fast.put("k", b"no entry")
    assert await cache.get("k") == ENTRY
    assert await Packed(fast).get("k") == ENTRY
    assert caplog.text.count("dropped a damaged entry from the disk cache") == 1
    await cache.close()


@pytest.mark.parametrize("size", [0, 2**20])
async def test_closing_writes_every_entry_to_every_tier(tmp_path, size):
    """An entry of 1 MB is packed on a thread."""
    near, large = MemoryStore(10**7), CacheEntry({"a": 1}, bytes(size))
    cache = Cache([near, Packed(DiskStore(tmp_path, 10**7))])
    await cache.put("k", large)
    assert await near.get("k") == large
    await cache.close()
    again = Packed(DiskStore(tmp_path, 10**7))
    assert await again.get("k") == large
    await again.close()


async def test_the_fast_tier_takes_entries_while_a_slow_tier_hangs():
    slow = SlowStore()
    cache = Cache([MemoryStore(10**6), slow])
    for number in range(40):
        await cache.put(str(number), ENTRY)
    assert await cache.get("39") == ENTRY
    slow.may_write.set()
    await cache.close()
    assert slow.writes == 32


async def test_an_entry_put_several_times_is_written_behind_once():
    far = SlowStore()
    cache = Cache([MemoryStore(10**6), far])
    far.may_write.set()
    for _ in range(3):
        await cache.put("k", ENTRY)
    await cache.flush()
    assert far.writes == 1
    await cache.put("k", CacheEntry({}, b"other"))
    assert await cache.get("k") == ({}, b"other")
    await cache.close()
    assert far.writes == 2


async def test_entries_are_written_behind_without_a_flush():
    far = SlowStore()
    await Cache([MemoryStore(10**6), far]).put("k", ENTRY)
    far.may_write.set()
    async with asyncio.timeout(10):
        await far.written.wait()


async def test_a_defect_in_a_write_behind_is_logged(tmp_path, caplog):
    cache = Cache([MemoryStore(10**6), Packed(DiskStore(tmp_path, 10**6))])
    await cache.put("k", CacheEntry({"not JSON": object()}, b"body"))
    await cache.close()
    assert "not JSON serializable" in caplog.text


async def test_a_slow_tier_does_not_delay_put_and_is_written_before_close_returns():
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


async def test_entries_beyond_the_pending_limit_are_not_written_behind():
    slow = SlowStore()
    cache = Cache([MemoryStore(10**6), slow])
    for number in range(100):
        await cache.put(str(number), ENTRY)
    slow.may_write.set()
    await cache.close()
    assert 0 < slow.writes < 100


async def test_a_cache_without_tiers_is_off():
    cache = Cache([])
    await cache.put("k", ENTRY)
    assert await cache.get("k") is None
    assert not cache.on
    await cache.close()


async def test_settings_choose_the_tiers(tmp_path):
    def tiers(**settings: object) -> list[type]:
        cache = make_cache(CacheSettings(cache_dir=tmp_path, **settings))
        return [type(tier._store if isinstance(tier, Packed) else tier) for tier in cache._tiers]

    assert tiers(cache="off") == []
    assert tiers(cache="on") == [MemoryStore, DiskStore]
    assert tiers(cache="on", cache_url="redis://localhost:1/0") == [MemoryStore, RedisStore]
    assert list(tmp_path.iterdir()) == []


async def test_reads_and_writes_of_each_tier_are_counted(tmp_path):
    events, disk = [], DiskStore(tmp_path, 10**6)
    cache = Cache([MemoryStore(10**6), Packed(disk)], lambda tier, event: events.append((tier, event)))
    await cache.get("k")
    await cache.put("k", ENTRY)
    await cache.get("k")
    await cache.flush()
    await disk.put("damaged", b"no entry")
    await cache.get("damaged")
    await cache.close()
    assert events == [
        ("memory", "miss"), ("disk", "miss"), ("memory", "written"), ("memory", "hit"), ("disk", "written"),
        ("memory", "miss"), ("disk", "hit"), ("disk", "damaged"),
    ]  # fmt: skip
