"""Read untrusted ZIP archives: nothing that an archive declares about itself is relied on."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gateway.errors import DamagedPicture, MalformedRequest, TooLarge, UnsupportedPicture
from gateway.imaging.filenames import is_system_file

# Only these two methods have bounded memory: zipfile decompresses bzip2 and LZMA without a limit, and the
# archive itself chooses the size of LZMA's dictionary.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# A directory entry is 46 bytes plus a name; 1,000 bytes allow for long names, comments and junk files.
_DIRECTORY_BYTES_PER_FILE = 1_000
_SMALLEST_DIRECTORY = 1 << 20
_PIECE_BYTES = 1 << 18
_ENCRYPTED = 0x1


@dataclass(slots=True)
class Allowance:
    """Bytes that all archives of one batch may still unpack to, in total."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive. name: as stored in the archive."""

    name: str
    info: zipfile.ZipInfo


class Archive:
    """An archive on disk. Not thread-safe."""

    def __init__(self, path: Path, max_files: int) -> None:
        """Raises MalformedRequest if it cannot be read, TooLarge if its directory is too large."""
        most = max(_SMALLEST_DIRECTORY, max_files * _DIRECTORY_BYTES_PER_FILE)
        self._file = _BoundedReader(path, most)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except TooLarge:
            self._file.close()
            raise
        except Exception as error:
            # zipfile raises many kinds of exceptions for hostile bytes.
            self._file.close()
            raise MalformedRequest(f"the ZIP archive cannot be read: {error}") from error

    def members(self) -> Iterator[Member]:
        """Yield the files, without folders and files of operating systems such as .DS_Store."""
        for info in self._zip.infolist():
            if not info.is_dir() and not is_system_file(info.filename):
                yield Member(info.filename, info)

    def read(self, member: Member, max_bytes: int, allowance: Allowance) -> bytes:
        """Return the content of `member`. Raises UnsupportedPicture, TooLarge, DamagedPicture."""
        info = member.info
        if info.flag_bits & _ENCRYPTED:
            raise UnsupportedPicture(
                "this file in the archive is encrypted; create the archive without a password"
            )
        if info.compress_type not in _METHODS:
            raise UnsupportedPicture(
                "this file in the archive uses an unsupported compression method; use deflate or store"
            )
        most = min(max_bytes, allowance.bytes)
        if info.file_size > most:
            raise _too_large(most, max_bytes)
        try:
            with self._zip.open(info) as file:
                data = _read(file, most)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise DamagedPicture(f"this file in the archive cannot be unpacked: {error}") from error
        if data is None:
            raise _too_large(most, max_bytes)
        allowance.bytes -= len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()


class _BoundedReader(io.BufferedReader):
    """A file with a limit for each read: zipfile reads the archive's directory with a single read."""

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
        raise TooLarge("the archive lists far more files than a batch may have; send fewer files")


def _read(file: IO[bytes], most: int) -> bytes | None:
    """Return the content of `file`, or None if it is longer than `most` bytes."""
    pieces, size = [], 0
    while piece := file.read(_PIECE_BYTES):
        size += len(piece)
        if size > most:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(most: int, max_bytes: int) -> TooLarge:
    if most < max_bytes:
        return TooLarge(
            "the archives of this batch unpack to more than the limit of a batch; send fewer files"
        )
    return TooLarge(f"this file is larger than the limit of {max_bytes:,} bytes")
