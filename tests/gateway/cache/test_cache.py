"""Tiers: the nearest answers, and what a farther one has comes nearer."""

import asyncio
import gc
import weakref

import pytest

from gateway.cache import Cache, DiskStore, Entry, Later, MemoryStore, Packed
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
        self.may_write, self.written = asyncio.Event(), asyncio.Event()
        self.writes = 0

    async def put(self, key: str, entry: Entry) -> None:
        await self.may_write.wait()
        self.writes += 1
        await super().put(key, entry)
        self.written.set()


async def test_what_a_farther_tier_has_comes_nearer():
    near, far = MemoryStore(10**6), MemoryStore(10**6)
    await far.put("k", ENTRY)
    cache = Cache([near, far])
    assert await cache.get("k") == ENTRY
    await far.drop("k")
    assert await cache.get("k") == ENTRY


async def test_the_first_that_any_tier_has_is_found():
    near, far = MemoryStore(10**6), MemoryStore(10**6)
    cache = Cache([near, far])
    assert await cache.first(["a", "b"]) is None
    await far.put("b", Entry({}, b"far b"))
    assert await cache.first(["a", "b"]) == ("b", ({}, b"far b"))
    assert await near.get("b") == ({}, b"far b")
    await far.put("b", Entry({}, b"not looked for where a nearer tier has it"))
    assert await cache.first(["a", "b"]) == ("b", ({}, b"far b"))
    await far.put("a", Entry({}, b"far a"))
    assert await cache.first(["a", "b"]) == ("a", ({}, b"far a"))
    assert await near.get("a") == ({}, b"far a")


async def test_past_a_damaged_entry_the_next_is_found(tmp_path):
    store = DiskStore(tmp_path, 10**6)
    cache = Cache([Packed(store)])
    for key in "bc":
        await cache.put(key, Entry({}, key.encode()))
    await store.put("a", b"no entry")
    assert await cache.first(["0", "a", "b", "c"]) == ("b", ({}, b"b"))
    assert await store.get("a") is None
    await cache.close()


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
async def test_what_is_put_is_in_every_tier_at_the_end(tmp_path, size):
    """Also when it is large enough to be packed on a thread."""
    near, large = MemoryStore(10**7), Entry({"a": 1}, bytes(size))
    cache = Cache([near, Packed(DiskStore(tmp_path, 10**7))])
    await cache.put("k", large)
    assert await near.get("k") == large
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


async def test_what_several_put_at_once_is_written_once():
    far = SlowStore()
    cache = Cache([MemoryStore(10**6), far])
    far.may_write.set()
    for _ in range(3):
        await cache.put("k", ENTRY)
    await cache.settled()
    assert far.writes == 1
    await cache.put("k", Entry({}, b"other"))
    assert await cache.get("k") == ({}, b"other")
    await cache.close()
    assert far.writes == 2


async def test_what_is_put_is_written_without_being_asked_for():
    far = SlowStore()
    await Cache([MemoryStore(10**6), far]).put("k", ENTRY)
    far.may_write.set()
    async with asyncio.timeout(10):
        await far.written.wait()


class Scan:
    """What heads are made of, which may be large."""


async def test_a_head_that_is_made_later_is_made_once_and_then_forgets_what_of():
    made = []

    def put_later() -> weakref.ref:
        scan = Scan()

        def head() -> dict[str, int]:
            made.append(scan)
            return {"a": 1}

        entries.append(Entry(Later(head), b"body"))
        return weakref.ref(scan)

    entries: list[Entry] = []
    scan = put_later()
    near = MemoryStore(10**6)
    cache = Cache([near])
    await cache.put("k", entries.pop())
    assert made == []
    assert await cache.get("k") == ENTRY
    assert len(made) == 1
    made.clear()
    await cache.close()
    assert made == []
    gc.collect()
    assert scan() is None


async def test_heads_are_made_soon_even_where_nobody_asks_and_writing_does_not_keep_up():
    """Else they would keep alive what they are made of, which no limit counts."""
    slow, made = SlowStore(), []
    cache = Cache([MemoryStore(10**6), slow])
    for number in range(40):
        await cache.put(str(number), Entry(Later(lambda number=number: made.append(number) or {}), b""))
    assert made == list(range(32, 40))
    async with asyncio.timeout(10):
        while len(made) < 40:  # noqa: ASYNC110 - it tells no event
            await asyncio.sleep(0.01)
    slow.may_write.set()
    await cache.close()


async def test_a_defect_while_something_is_written_is_logged(tmp_path, caplog):
    cache = Cache([MemoryStore(10**6), Packed(DiskStore(tmp_path, 10**6))])
    await cache.put("k", Entry({"not JSON": object()}, b"body"))
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
