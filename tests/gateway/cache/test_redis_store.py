"""The Redis tier: a Redis that is down, hangs or sends garbage is a cache miss."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.cache import Cache, CacheEntry, Packed, pack
from gateway.cache import redis_store as module
from gateway.cache.redis_store import RedisStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store_at():
    """Makes stores; their connections are closed after the test."""
    made = []

    def make(url: str, ttl_s: int = 60) -> RedisStore:
        made.append(RedisStore(url, ttl_s))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def no_quiet_period(monkeypatch):
    """A Redis that failed is used again at once."""
    monkeypatch.setattr(module, "_QUIET_S", 0.0)


async def test_entries_are_shared_and_expire(redis_server, store_at):
    entry = pack("k", CacheEntry({"a": 1}, bytes(range(256)) * 1000))
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
    await cache.put("k", CacheEntry({}, b"body"))
    with redis_server.client() as client:
        client.setrange("gpen-gateway:k", 50, "?")
        assert await cache.get("k") is None
        assert client.keys() == []
        client.lpush("gpen-gateway:k", "a list is no entry")
    assert await cache.get("k") is None


@pytest.mark.usefixtures("no_quiet_period")
async def test_concurrent_reads_get_their_own_entries_when_others_are_cancelled(redis_server, store_at):
    """A cancelled read must not leave its reply to the next read on that connection."""
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


@pytest.mark.usefixtures("no_quiet_period")
async def test_a_restarted_redis_is_used_again(redis_server, store_at, caplog):
    store = store_at(redis_server.url)
    await store.put("k", b"entry")
    redis_server.stop()
    assert await store.get("k") is None
    await store.put("k", b"entry")
    await store.drop("k")
    assert "is not used for" in caplog.text
    redis_server.start()
    await store.put("k", b"again")
    assert await store.get("k") == b"again"


@pytest.mark.usefixtures("no_quiet_period")
async def test_a_hanging_redis_is_a_miss_after_the_timeout(redis_server, store_at):
    store = store_at(redis_server.url)
    await store.put("k", b"entry")
    redis_server.hang()
    async with asyncio.timeout(10 * module._TIMEOUT_S):
        assert await store.get("k") is None
        await store.put("k", b"entry")
    redis_server.wake()
    assert await store.get("k") == b"entry"


async def test_a_failed_redis_is_not_used_during_the_quiet_period(redis_server, store_at, caplog):
    """Otherwise every request would wait for the timeout and log a line."""
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
async def run_other_server(speak: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Run a server that does not speak Redis; yields its URL."""
    connections = {}

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        with suppress(ConnectionError):
            await speak(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()
    for writer, serving in connections.items():
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


def send_bytes(data: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return send


@pytest.mark.usefixtures("no_quiet_period")
@pytest.mark.parametrize(
    "speak",
    [
        silence,
        drip,
        send_bytes(b""),
        send_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        send_bytes(b"$99999999\r\nfew"),
    ],
    ids=["silence", "drip", "closes", "http", "breaks off"],
)
async def test_a_server_that_is_not_redis_is_a_miss(store_at, speak):
    async with run_other_server(speak) as url, asyncio.timeout(10 * module._TIMEOUT_S):
        store = store_at(url)
        assert await store.get("k") is None
        await store.put("k", b"entry")
        await store.close()


async def test_the_password_in_the_url_is_not_logged(store_at, caplog):
    store = store_at("redis://user:s3cr3t@127.0.0.1:1/0")
    assert await store.get("k") is None
    assert caplog.messages
    assert "s3cr3t" not in caplog.text
