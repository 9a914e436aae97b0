"""A body of any size, written to disk as it arrives."""

import errno
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.errors import MalformedRequest, NotReady, TooLarge
from gpen_common.threads import Threads

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

logger = logging.getLogger(__name__)

# Seconds in which a batch of some size is done and gone.
_ROOM_AFTER_S = 30.0
# A jump to another thread costs as much as writing some tens of kilobytes.
_PIECE_BYTES = 1 << 20
# Every parameter there is, twice over; none is longer than a name.
_MAX_FIELDS = 64
_MAX_FIELD_BYTES = 16_384
_DECLARED_ARCHIVES = ("application/zip", "application/x-zip-compressed")
# APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.16: a local file header, or the end of an empty archive.
_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """files: in one batch. file_bytes: of one picture. bytes: of the body, and of what archives unpack to."""

    files: int
    file_bytes: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A file as it was sent. name: as its sender wrote it. size: bytes, of which the disk may have fewer."""

    name: str
    path: Path
    size: int
    is_archive: bool


@dataclass(frozen=True, slots=True)
class Spooled:
    """A body on disk. fields: parameters, as they came."""

    files: list[SpooledFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


class _Spool(Protocol):
    def write(self, data: bytes) -> None: ...
    def finished(self) -> Spooled: ...
    def close(self) -> None: ...


async def spool(
    content_type: str, body: AsyncIterator[bytes], folder: Path, limits: BatchLimits, disk: Threads
) -> Spooled:
    """`body`, of that content type, as files in `folder`; disk: the thread that writes them.

    Raises MalformedRequest, TooLarge, NotReady where the disk is full.
    """
    made = _spool_for(content_type, folder, limits)
    pending = bytearray()
    with _full_disk():
        try:
            async for piece in body:
                pending += piece
                if len(pending) >= _PIECE_BYTES:
                    full, pending = bytes(pending), bytearray()
                    await disk.run(made.write, full)
            await disk.run(made.write, bytes(pending))
            return await disk.run(made.finished)
        finally:
            made.close()


@contextmanager
def _full_disk() -> Iterator[None]:
    """Raises NotReady where what is written finds no room: other batches will leave theirs."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        logger.error("no room on the disk for a batch: %s", error)
        raise NotReady(
            "the server has no room on its disk for this batch now; send fewer files, or try again later",
            _ROOM_AFTER_S,
        ) from error


def _spool_for(content_type: str, folder: Path, limits: BatchLimits) -> _Spool:
    kind, options = parse_options_header(content_type)
    match kind.decode("latin-1").lower():
        case "multipart/form-data":
            return _Multipart(options.get(b"boundary", b""), folder, limits)
        case archive if archive in _DECLARED_ARCHIVES:
            return _Bare(folder, limits)
    raise MalformedRequest(
        "send multipart/form-data with a file part for each picture, or a ZIP as application/zip"
    )


class _File:
    """A file on its way to the disk; what exceeds its limit is counted and dropped."""

    def __init__(self, name: str, path: Path, limits: BatchLimits) -> None:
        self._name, self._path, self._limits = name, path, limits
        self._head = b""
        self._size = 0
        self._file: BinaryIO = path.open("wb")

    def write(self, data: bytes) -> None:
        if len(self._head) < len(_ZIP_SIGNATURES[0]):
            self._head += data[: len(_ZIP_SIGNATURES[0]) - len(self._head)]
        room = (self._limits.bytes if self._is_archive else self._limits.file_bytes) - self._size
        if room > 0:
            self._file.write(data[:room])
        self._size += len(data)

    def close(self) -> None:
        self._file.close()

    def finished(self) -> SpooledFile:
        self.close()
        return SpooledFile(self._name, self._path, self._size, self._is_archive)

    @property
    def _is_archive(self) -> bool:
        return self._head.startswith(_ZIP_SIGNATURES)


class _Bare:
    """A body that is one archive."""

    def __init__(self, folder: Path, limits: BatchLimits) -> None:
        self._file = _File("", folder / "0", limits)

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def close(self) -> None:
        self._file.close()

    def finished(self) -> Spooled:
        file = self._file.finished()
        if not file.is_archive:
            raise MalformedRequest("the body is not the ZIP archive that its content type promises")
        return Spooled([file])


class _Multipart:
    """A multipart body. Every part with a file name is a file, every other one a parameter."""

    def __init__(self, boundary: bytes, folder: Path, limits: BatchLimits) -> None:
        if not boundary:
            raise MalformedRequest("the content type has no boundary")
        self._folder, self._limits = folder, limits
        self._spooled = Spooled()
        self._ended = False
        self._header_name, self._header_value, self._disposition = b"", b"", b""
        self._file: _File | None = None
        self._nameless = False
        self._field_name, self._field = "", bytearray()
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_name_goes_on,
            "on_header_value": self._header_value_goes_on,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._part_goes_on,
            "on_part_end": self._part_ends,
            "on_end": self._body_ends,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise MalformedRequest(f"the boundary cannot be used: {error}") from error

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedRequest(f"the body is not multipart: {error}") from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def finished(self) -> Spooled:
        if not self._ended:
            raise MalformedRequest("the body ends before its last boundary")
        return self._spooled

    def _part_begins(self) -> None:
        self._disposition = b""

    def _header_name_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name, self._header_value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" in options:
            if len(self._spooled.files) >= self._limits.files:
                raise TooLarge(f"the batch has more than the {self._limits.files:,} files that are allowed")
            name = _text(options[b"filename"])
            self._nameless = not name
            self._file = _File(name, self._folder / str(len(self._spooled.files)), self._limits)
            return
        if b"name" not in options:
            raise MalformedRequest("a part has neither a name nor a filename")
        if len(self._spooled.fields) >= _MAX_FIELDS:
            raise MalformedRequest(f"the body has more than {_MAX_FIELDS} fields")
        self._file = None
        self._field_name, self._field = _text(options[b"name"]), bytearray()

    def _part_goes_on(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > _MAX_FIELD_BYTES:
            raise MalformedRequest(
                f"the field {self._field_name!r} is too long; a picture's part needs a filename"
            )

    def _part_ends(self) -> None:
        if self._file is None:
            self._spooled.fields[self._field_name] = _text(bytes(self._field))
            return
        file = self._file.finished()
        # Browsers send this for a file field that nothing was chosen for.
        if file.size or not self._nameless:
            self._spooled.files.append(file)

    def _body_ends(self) -> None:
        self._ended = True


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
