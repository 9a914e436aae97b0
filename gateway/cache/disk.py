"""Entries as files, shared by every process that is given the folder."""

import asyncio
import logging
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gateway.cache.store import Store
from gpen_common.threads import Threads

logger = logging.getLogger(__name__)

# Room is made down to this share of the limit, so that it is not made again for every entry.
_SHARE_LEFT = 0.9
# The folder is measured anew after this share of the limit has been written.
_SHARE_UNMEASURED = 0.05


class DiskStore(Store[bytes]):
    """Keeps at most about `max_bytes` of entries in `folder`; those that were not read for longest go first.

    An entry appears whole or not at all, whoever else writes it. Files are readable by their owner only.
    What the disk refuses is logged and costs the entry, not the request.
    """

    name = "disk"

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._unmeasured = max_bytes
        # Whoever asks for an entry does not wait until others are written.
        self._reading, self._writing = Threads(1, "cache-read"), Threads(1, "cache-write")

    async def first(self, keys: Sequence[str]) -> tuple[str, bytes] | None:
        """The first of `keys` that has an entry, and that."""
        return await self._reading.run(self._read_first, keys)

    async def put(self, key: str, entry: bytes) -> None:
        """Keeps `entry`, unless it alone is larger than all there may be."""
        if len(entry) <= self._max_bytes:
            await self._writing.run(self._write, key, entry)

    async def drop(self, key: str) -> None:
        """Removes the entry of `key`."""
        await self._writing.run(self._remove, key)

    async def close(self) -> None:
        """Ends the store's threads; the files stay."""
        for threads in (self._reading, self._writing):
            await asyncio.to_thread(threads.close)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _read_first(self, keys: Sequence[str]) -> tuple[str, bytes] | None:
        return next(((key, entry) for key in keys if (entry := self._read(key)) is not None), None)

    def _read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except OSError:
            return None
        # The time of reading decides who goes; file systems often do not record it themselves. Where the
        # folder is for reading only, whoever writes to it decides.
        with suppress(OSError):
            os.utime(path)
        return entry

    def _write(self, key: str, entry: bytes) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_room(len(entry))
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

    def _make_room(self, size: int) -> None:
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
