"""The disk tier: one file per entry, shared by every process that uses the folder."""

import asyncio
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from gateway.cache.store import Store
from gpen_common.threads import Threads

logger = logging.getLogger(__name__)

# Eviction goes on down to this share of the limit, so that the next write does not evict again.
_SHARE_LEFT = 0.9
# The folder is measured again after this share of the limit has been written.
_SHARE_UNMEASURED = 0.05


class DiskStore(Store[bytes]):
    """Keeps about `max_bytes` of entries in `folder`, evicted least recently read first.

    Writes are atomic, also between processes. Files are readable by their owner only. A disk error is logged
    and loses the entry; the request goes on.
    """

    name = "disk"

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._unmeasured = max_bytes
        # Reads have a thread of their own, so that they do not queue behind writes.
        self._reading, self._writing = Threads(1, "cache-read"), Threads(1, "cache-write")

    async def get(self, key: str) -> bytes | None:
        """Return the entry of `key`, or None."""
        return await self._reading.run(self._read, key)

    async def put(self, key: str, entry: bytes) -> None:
        """Store `entry`, unless it is larger than the whole tier."""
        if len(entry) <= self._max_bytes:
            await self._writing.run(self._write, key, entry)

    async def drop(self, key: str) -> None:
        """Remove the entry of `key`."""
        await self._writing.run(self._remove, key)

    async def close(self) -> None:
        """End the threads; the files stay."""
        for threads in (self._reading, self._writing):
            await asyncio.to_thread(threads.close)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except OSError:
            return None
        # Eviction goes by modification time: most file systems do not record the time of reading. In a
        # read-only folder the process that writes to it evicts.
        with suppress(OSError):
            os.utime(path)
        return entry

    def _write(self, key: str, entry: bytes) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._evict(len(entry))
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as partial:
                try:
                    partial.write(entry)
                    partial.close()
                    Path(partial.name).replace(path)
                finally:
                    Path(partial.name).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("the cache cannot write to %s: %s", self._folder, error)

    def _remove(self, key: str) -> None:
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("the cache cannot remove from %s: %s", self._folder, error)

    def _evict(self, size: int) -> None:
        self._unmeasured += size
        if self._unmeasured < self._max_bytes * _SHARE_UNMEASURED:
            return
        self._unmeasured = 0
        files = []
        for path in self._folder.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            files.append((status.st_mtime, status.st_size, path))
        total = sum(length for _, length, _ in files) + size
        if total <= self._max_bytes:
            return
        for _, length, path in sorted(files):
            path.unlink(missing_ok=True)
            total -= length
            if total <= self._max_bytes * _SHARE_LEFT:
                break
