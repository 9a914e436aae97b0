"""Write the upload of a batch to disk as it arrives."""

import errno
import io
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gateway.errors import MalformedRequest, NotReady, TooLarge
from gateway.params import MAX_FIELDS
from gpen_common.threads import Threads

logger = logging.getLogger(__name__)

# Sent as Retry-After when the disk is full: about the duration of a typical batch.
_FULL_DISK_RETRY_S = 30.0
# One switch to another thread costs as much as writing some tens of kilobytes.
_WRITE_BYTES = 1 << 20
# No parameter has a longer value.
_MAX_FIELD_BYTES = 16_384
_ARCHIVE_TYPES = ("application/zip", "application/x-zip-compressed")
# APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.16: a local file header, or the end of an empty archive.
_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """files: in one batch. file_bytes: of one picture. bytes: of the body, and of all unpacked archives."""

    files: int
    file_bytes: int
    bytes: int


class SpooledFile(UploadFile):
    """One file of the batch, written to `path` by the thread `disk`.

    name: as the client sent it. size: bytes received. The file on disk ends at the size limit; the rest is
    counted and dropped.
    """

    size: int

    def __init__(self, name: str, path: Path, limits: BatchLimits, disk: Threads) -> None:
        # UploadFile needs a file object; `write` below replaces every use of it.
        super().__init__(io.BytesIO(), size=0, filename=name)
        self.name, self.path = name, path
        self._limits, self._disk = limits, disk
        self._head = b""
        self._pending = bytearray()
        self._on_disk = False

    @property
    def is_archive(self) -> bool:
        """Whether the file begins like a ZIP archive."""
        return self._head.startswith(_ZIP_SIGNATURES)

    async def write(self, data: bytes) -> None:
        """Append `data`. Raises OSError."""
        self._head = (self._head + data[:4])[:4]
        room = (self._limits.bytes if self.is_archive else self._limits.file_bytes) - self.size
        self.size += len(data)
        if room > 0:
            self._pending += data[:room]
        if len(self._pending) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write to disk what is still in memory. Raises OSError."""
        await self._disk.run(self._flush)

    async def seek(self, offset: int) -> None:
        """Complete the file: the parser rewinds each file once, when its part has ended."""
        await self.flush()

    def _flush(self) -> None:
        # Opened for each write: nothing has to be closed when the upload fails.
        with self.path.open("ab" if self._on_disk else "wb") as file:
            self._on_disk = True
            file.write(self._pending)
        self._pending.clear()


@dataclass(frozen=True, slots=True)
class Spooled:
    """An upload on disk. fields: the parameters of the form, as strings."""

    files: list[SpooledFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def spool(
    content_type: str, body: AsyncGenerator[bytes, None], folder: Path, limits: BatchLimits, disk: Threads
) -> Spooled:
    """Write `body` to files in `folder`. disk: one thread for all writes.

    Raises MalformedRequest, TooLarge, and NotReady when the disk is full.
    """
    kind = content_type.partition(";")[0].strip().lower()
    with _report_full_disk():
        if kind == "multipart/form-data":
            return await _spool_form(Headers({"content-type": content_type}), body, folder, limits, disk)
        if kind in _ARCHIVE_TYPES:
            return await _spool_archive(body, folder, limits, disk)
    raise MalformedRequest(
        "send multipart/form-data with one file part per picture, or a ZIP archive as application/zip"
    )


class _BatchFormParser(MultiPartParser):
    """Starlette's parser, but file parts go to `folder` and the limits are the batch's."""

    def __init__(
        self,
        headers: Headers,
        body: AsyncGenerator[bytes, None],
        folder: Path,
        limits: BatchLimits,
        disk: Threads,
    ) -> None:
        # Starlette counts the file parts that `on_part_end` drops, so the limit of files is checked here.
        super().__init__(
            headers, body, max_files=math.inf, max_fields=MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
        )
        self._folder, self._limits, self._disk = folder, limits, disk
        self._count = 0
        self._part_bytes = 0
        self.complete = False

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        self._part_bytes = 0
        part = self._current_part
        if part.file is None:
            return
        # Starlette's own temporary file, replaced below.
        self._files_to_close_on_error.pop().close()
        if self._count >= self._limits.files:
            raise TooLarge(f"the batch has more files than the limit of {self._limits.files:,}")
        path = self._folder / str(self._count)
        part.file = SpooledFile(part.file.filename or "", path, self._limits, self._disk)
        self._count += 1

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part_bytes += end - start
        part = self._current_part
        if part.file is None and self._part_bytes > _MAX_FIELD_BYTES:
            raise MalformedRequest(
                f"the field {part.field_name!r} is longer than {_MAX_FIELD_BYTES:,} bytes; "
                "if it is a picture, give its part a filename"
            )
        super().on_part_data(data, start, end)

    def on_part_end(self) -> None:
        file = self._current_part.file
        if file is not None and not file.filename and not self._part_bytes:
            # Browsers send an empty part without a filename for a file input with nothing selected.
            self._count -= 1
            return
        super().on_part_end()

    def on_end(self) -> None:
        self.complete = True


async def _spool_form(
    headers: Headers, body: AsyncGenerator[bytes, None], folder: Path, limits: BatchLimits, disk: Threads
) -> Spooled:
    async with aclosing(body):
        parser = _BatchFormParser(headers, body, folder, limits, disk)
        try:
            form = (await parser.parse()).multi_items()
        except MultiPartException as error:
            raise MalformedRequest(f"the multipart body is not valid: {error.message}") from error
    if not parser.complete:
        raise MalformedRequest("the multipart body ends before its final boundary; send it again")
    return Spooled(
        files=[value for _, value in form if isinstance(value, SpooledFile)],
        fields={name: value for name, value in form if isinstance(value, str)},
    )


async def _spool_archive(
    body: AsyncIterator[bytes], folder: Path, limits: BatchLimits, disk: Threads
) -> Spooled:
    file = SpooledFile("", folder / "0", limits, disk)
    async for piece in body:
        await file.write(piece)
    await file.flush()
    if not file.is_archive:
        raise MalformedRequest("the body is declared as application/zip but is not a ZIP archive")
    return Spooled([file])


@contextmanager
def _report_full_disk() -> Iterator[None]:
    """Raise NotReady in place of an OSError for a full disk: other batches will free their space."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        logger.error("the disk is full; a batch was refused: %s", error)
        raise NotReady(
            "the server has no room on its disk for this batch; send fewer files, or try again later",
            _FULL_DISK_RETRY_S,
        ) from error
