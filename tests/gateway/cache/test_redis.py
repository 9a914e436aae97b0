"""Results in a real Redis, and a Redis that is away, hangs, or talks nonsense: never more than a miss."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.cache import Cache, Entry, Packed, pack
from gateway.cache import redis as module
from gateway.cache.redis import RedisStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store_at():
    """Makes stores, and closes their connections."""
    made = []

    def make(url: str, ttl_s: int = 60) -> RedisStore:
        made.append(RedisStore(url, ttl_s))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def no_pause(monkeypatch):
    """A Redis that failed is asked again at once."""
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)


async def test_entries_are_shared_and_expire(redis_server, store_at):
    entry = pack("k", Entry({"a": 1}, bytes(range(256)) * 1000))
    await store_at(redis_server.url, ttl_s=77).put("k", entry)
    other = store_at(redis_server.url)
    assert await other.get("k") == entry
    with redis_server.client() as client:
        assert client.keys() == [b"gpen-gateway:k"]
        assert 70 < client.ttl("gpen-gateway:k") <= 77
    await other.drop("k")
    await other.drop("k")
    assert await other.get("k") is None


async def test_a_damaged_entry_is_a_miss_and_is_replaced(redis_server, store_at):
    cache = Cache([Packed(store_at(redis_server.url))])
    await cache.put("k", Entry({}, b"body"))
    with redis_server.client() as client:
        client.setrange("gpen-gateway:k", 50, "?")
        assert await cache.get("k") is None
        assert client.keys() == []
        client.lpush("gpen-gateway:k", "a list is no entry")
    assert await cache.get("k") is None


async def test_the_first_of_several_is_found(redis_server, store_at):
    store = store_at(redis_server.url)
    assert await store.first(["a", "b", "c"]) is None
    for key in "bc":
        await store.put(key, key.encode())
    assert await store.first(["a", "b", "c"]) == ("b", b"b")


@pytest.mark.usefixtures("no_pause")
async def test_many_at_once_each_get_their_own_whoever_gives_up(redis_server, store_at):
    """A reader that is cancelled must not leave its answer to the next one on that connection."""
    store = store_at(redis_server.url)
    for number in range(20):
        await store.put(str(number), str(number).encode() * 20_000)

    async def read(number: int, patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s):
                entry = await store.get(str(number))
        except TimeoutError:
            return
        assert entry is None or entry == str(number).encode() * 20_000

    for turn in range(20):
        await asyncio.gather(*(read(number, (number + turn) % 7 / 2000) for number in range(20)))
    assert await store.get("7") == b"7" * 20_000


@pytest.mark.usefixtures("no_pause")
async def test_a_redis_that_comes_back_is_used_again(redis_server, store_at, caplog):
    store = store_at(redis_server.url)
    await store.put("k", b"entry")
    redis_server.stop()
    assert await store.get("k") is None
    await store.put("k", b"entry")
    await store.drop("k")
    assert "left alone" in caplog.text
    redis_server.start()
    await store.put("k", b"again")
    assert await store.get("k") == b"again"


@pytest.mark.usefixtures("no_pause")
async def test_a_redis_that_hangs_costs_its_timeout_once(redis_server, store_at):
    store = store_at(redis_server.url)
    await store.put("k", b"entry")
    redis_server.hang()
    async with asyncio.timeout(10 * module._TIMEOUT_S):
        assert await store.get("k") is None
        await store.put("k", b"entry")
    redis_server.wake()
    assert await store.get("k") == b"entry"


async def test_a_redis_that_failed_is_left_alone_for_a_while(redis_server, store_at, caplog):
    """Else every request would wait for its timeout, and write a line."""
    store = store_at(redis_server.url)
    redis_server.hang()
    assert await store.get("k") is None
    started = time.monotonic()
    for _ in range(100):
        assert await store.get("k") is None
        await store.put("k", b"entry")
    assert time.monotonic() - started < 50 * module._TIMEOUT_S
    assert len(caplog.messages) == 1


@asynccontextmanager
async def no_redis(speak: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """The address of something that is no Redis."""
    open_ones = {}

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones[writer] = asyncio.current_task()
        with suppress(ConnectionError):
            await speak(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()
    for writer, serving in open_ones.items():
        serving.cancel()
        await asyncio.wait({serving})
        writer.close()
    await asyncio.sleep(0)


async def silence(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"+")
        await writer.drain()
        await asyncio.sleep(0.05)


def saying(words: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        await writer.drain()

    return say


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(
    "speak",
    [silence, drip, saying(b""), saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), saying(b"$99999999\r\nfew")],
    ids=["silence", "drip", "closes", "http", "breaks off"],
)
async def test_whatever_listens_there_it_is_a_miss(store_at, speak):
    async with no_redis(speak) as url, asyncio.timeout(10 * module._TIMEOUT_S):
        store = store_at(url)
        assert await store.get("k") is None
        await store.put("k", b"entry")
        await store.close()


async def test_no_secret_of_the_address_is_logged(store_at, caplog):
    store = store_at("redis://user:s3cr3t@127.0.0.1:1/0")
    assert await store.get("k") is None
    assert caplog.messages
    assert "s3cr3t" not in caplog.text
