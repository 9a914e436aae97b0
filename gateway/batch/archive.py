"""ZIP archives from strangers, read without believing what they say of themselves."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gateway.errors import DamagedPicture, MalformedRequest, TooLarge, UnsupportedPicture
from gateway.imaging.filenames import is_system_file

# Of all methods these two alone cannot ask for memory, or give it back unpacked, without bound: zipfile
# unpacks bzip2 and LZMA without a limit, and LZMA's dictionary is as large as the archive says.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# A directory's entry is 46 bytes and a name; a thousand bytes leave room for names, comments and junk.
_DIRECTORY_BYTES_PER_FILE = 1_000
_SMALLEST_DIRECTORY = 1 << 20
_PIECE_BYTES = 1 << 18
_ENCRYPTED = 0x1


@dataclass(slots=True)
class Allowance:
    """How many bytes all archives of one batch may still unpack to."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive. name: as the archive has it."""

    name: str
    info: zipfile.ZipInfo


class Archive:
    """An archive on disk. Not for several threads at once."""

    def __init__(self, path: Path, max_files: int) -> None:
        """Raises MalformedRequest where it cannot be read, TooLarge where its directory alone is."""
        most = max(_SMALLEST_DIRECTORY, max_files * _DIRECTORY_BYTES_PER_FILE)
        self._file = _Frugal(path, most)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except TooLarge:
            self._file.close()
            raise
        except Exception as error:
            # zipfile raises whatever it likes for hostile bytes.
            self._file.close()
            raise MalformedRequest(f"the ZIP archive cannot be read: {error}") from error

    def members(self) -> Iterator[Member]:
        """The files, without folders and what operating systems leave behind."""
        for info in self._zip.infolist():
            if not info.is_dir() and not is_system_file(info.filename):
                yield Member(info.filename, info)

    def read(self, member: Member, max_bytes: int, allowance: Allowance) -> bytes:
        """What is in `member`. Raises UnsupportedPicture, TooLarge, DamagedPicture."""
        info = member.info
        if info.flag_bits & _ENCRYPTED:
            raise UnsupportedPicture("this file of the archive is encrypted; pack it without a password")
        if info.compress_type not in _METHODS:
            raise UnsupportedPicture("this file of the archive is neither stored nor deflated")
        most = min(max_bytes, allowance.bytes)
        if info.file_size > most:
            raise _too_large(most, max_bytes)
        try:
            with self._zip.open(info) as file:
                data = _read(file, most)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise DamagedPicture(f"this file of the archive cannot be unpacked: {error}") from error
        if data is None:
            raise _too_large(most, max_bytes)
        allowance.bytes -= len(data)
        return data

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()
        self._file.close()


class _Frugal(io.BufferedReader):
    """A file that gives no more than so many bytes at once: an archive's directory is read in one go."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(io.FileIO(path))
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            data = super().read(self._most + 1)
            if len(data) <= self._most:
                return data
        elif size <= self._most:
            return super().read(size)
        raise TooLarge("the archive's directory lists far more files than are allowed")


def _read(file: IO[bytes], most: int) -> bytes | None:
    """All of `file`, or None where that is more than `most` bytes."""
    pieces, size = [], 0
    while piece := file.read(_PIECE_BYTES):
        size += len(piece)
        if size > most:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(most: int, max_bytes: int) -> TooLarge:
    if most < max_bytes:
        return TooLarge("the archives of this batch unpack to more bytes than are allowed; send fewer files")
    return TooLarge(f"this file has more than the {max_bytes:,} bytes that are allowed")
