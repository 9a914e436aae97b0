"""The disk tier: a bounded folder that processes of one user share."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cache import Cache, CacheEntry, DiskStore, Packed
from gateway.cache.key import cache_key

pytestmark = pytest.mark.anyio


def key_of(number: int) -> str:
    return cache_key("test", "", {"number": number})


@pytest.fixture
async def store_in():
    """Makes stores; their threads end after the test."""
    made = []

    def make(folder: Path, max_bytes: int = 1_000_000) -> DiskStore:
        made.append(DiskStore(folder, max_bytes))
        return made[-1]

    yield make
    for store in made:
        await store.close()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def age(store_folder: Path, key: str, seconds: int) -> None:
    """Set the last use of an entry back by `seconds`."""
    path = store_folder / key[:2] / key
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))


async def test_entries_survive_a_restart(tmp_path, store_in):
    await store_in(tmp_path).put(key_of(1), b"one")
    again = store_in(tmp_path)
    assert await again.get(key_of(1)) == b"one"
    await again.drop(key_of(1))
    await again.drop(key_of(1))
    assert await again.get(key_of(1)) is None
    assert files_in(tmp_path) == []


async def test_the_folder_is_made_at_the_first_write(tmp_path, store_in):
    store = store_in(tmp_path / "results")
    assert await store.get(key_of(1)) is None
    await store.drop(key_of(1))
    assert not (tmp_path / "results").exists()


async def test_only_the_owner_can_read_the_files(tmp_path, store_in):
    before = os.umask(0)
    try:
        await store_in(tmp_path / "results").put(key_of(1), b"a face")
    finally:
        os.umask(before)
    (path,) = files_in(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_evicts_the_least_recently_read_entry(tmp_path, store_in):
    store = store_in(tmp_path, 1000)
    for number in range(10):
        await store.put(key_of(number), bytes(100))
        age(tmp_path, key_of(number), 100 - number)
    assert await store.get(key_of(0)) is not None, "now the most recently used"
    await store.put(key_of(10), bytes(100))
    kept = [number for number in range(11) if await store.get(key_of(number)) is not None]
    assert sum(path.stat().st_size for path in files_in(tmp_path)) <= 1000
    assert {0, 10} <= set(kept)
    assert kept == [0, *range(11 - len(kept) + 1, 11)]


async def test_never_exceeds_its_limit(tmp_path, store_in):
    store = store_in(tmp_path, 10_000)
    for number in range(300):
        await store.put(key_of(number), bytes(number * 7 % 900 + 1))
        assert sum(path.stat().st_size for path in files_in(tmp_path)) <= 10_000 * 1.05
    assert await store.get(key_of(299)) is not None


async def test_files_of_another_process_count_and_are_evicted(tmp_path, store_in):
    """A process that is killed during a write leaves a partial file."""
    first = store_in(tmp_path, 1000)
    await first.put(key_of(1), bytes(10))
    part = files_in(tmp_path)[0].parent / ".tmpabcdef"
    part.write_bytes(bytes(990))
    os.utime(part, (1, 1))
    await store_in(tmp_path, 1000).put(key_of(2), bytes(100))
    assert not part.exists()
    assert await first.get(key_of(1)) is not None


async def test_an_entry_larger_than_the_tier_is_not_stored(tmp_path, store_in):
    store = store_in(tmp_path, 100)
    await store.put(key_of(1), bytes(101))
    assert await store.get(key_of(1)) is None
    await store_in(tmp_path, 0).put(key_of(1), b"a")
    assert files_in(tmp_path) == []


@pytest.fixture
def deny_access(monkeypatch) -> Callable[..., None]:
    """Makes functions raise PermissionError; root, which may run the tests, has every permission."""

    def deny(*names: str) -> None:
        def raise_error(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        for name in names:
            module, _, attribute = name.rpartition(".")
            monkeypatch.setattr(f"{module}.{attribute}", raise_error)

    return deny


async def test_a_read_only_folder_is_still_read(tmp_path, store_in, deny_access, caplog):
    store = store_in(tmp_path)
    await store.put(key_of(1), b"one")
    deny_access("os.utime", "tempfile.NamedTemporaryFile", "pathlib.Path.unlink")
    assert await store.get(key_of(1)) == b"one"
    await store.put(key_of(2), b"two")
    await store.drop(key_of(1))
    assert await store.get(key_of(2)) is None
    assert len(caplog.messages) == 2
    assert str(tmp_path) in caplog.text


async def test_an_unusable_folder_is_logged_and_stores_nothing(tmp_path, store_in, caplog):
    (tmp_path / "file").write_text("no folder")
    store = store_in(tmp_path / "file" / "results")
    await store.put(key_of(1), b"one")
    assert await store.get(key_of(1)) is None
    await store.drop(key_of(1))
    assert "cannot write" in caplog.text


async def test_an_unreadable_file_is_a_miss(tmp_path, store_in):
    store = store_in(tmp_path)
    await store.put(key_of(1), b"one")
    (path,) = files_in(tmp_path)
    path.unlink()
    path.mkdir()
    assert await store.get(key_of(1)) is None


async def test_a_damaged_file_is_a_miss_and_is_replaced(tmp_path, store_in, caplog):
    store = store_in(tmp_path)
    cache = Cache([Packed(store)])
    await cache.put(key_of(1), CacheEntry({"a": 1}, b"body"))
    (path,) = files_in(tmp_path)
    for damage in (lambda data: data[:-1], lambda data: data[:60] + b"?" + data[61:], lambda _: b""):
        path.write_bytes(damage(path.read_bytes()))
        assert await cache.get(key_of(1)) is None
        assert not path.exists()
        await cache.put(key_of(1), CacheEntry({"a": 1}, b"body"))
        assert await cache.get(key_of(1)) == ({"a": 1}, b"body")
    assert caplog.text.count("damaged") == 3


async def test_a_file_under_another_key_is_a_miss(tmp_path, store_in):
    cache = Cache([Packed(store_in(tmp_path))])
    await cache.put(key_of(1), CacheEntry({}, b"one's"))
    await cache.put(key_of(2), CacheEntry({}, b"two's"))
    one, two = (tmp_path / key_of(n)[:2] / key_of(n) for n in (1, 2))
    one.replace(two)
    assert await cache.get(key_of(2)) is None


WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.cache import Cache, DiskStore, CacheEntry, Packed

async def main(folder, letter):
    cache = Cache([Packed(DiskStore(Path(folder), 400_000))])
    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(150):
        for key in ("aa" + "0" * 62, "ab" + "0" * 62, f"{turn:064x}"):
            found = await cache.get(key)
            if found is not None:
                head, body = found
                assert set(body) == {ord(head["letter"])} and len(body) == head["length"], "torn"
            length = 3000 + turn
            await cache.put(key, CacheEntry({"letter": letter, "length": length}, letter.encode() * length))
    await cache.close()

asyncio.run(main(*sys.argv[1:]))
"""


def test_concurrent_processes_never_read_a_partial_entry(tmp_path):
    """Three processes write the same keys, evict each other's entries, and check what they read."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), letter],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for letter in "xyz"
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, log = writer.communicate(timeout=60)
        assert writer.returncode == 0, log
        assert "damaged" not in log
    assert sum(path.stat().st_size for path in files_in(tmp_path)) <= 400_000 * 1.2
    assert not [path for path in files_in(tmp_path) if path.name.startswith(".")], "no part is left"
