"""List the pictures of a batch: files of the upload, and members of its archives."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from gateway.batch.archive import Allowance, Archive
from gateway.batch.spool import BatchLimits, Spooled, SpooledFile
from gateway.errors import GatewayError, MissingPicture, TooLarge, UnsupportedPicture
from gateway.imaging.filenames import is_system_file, make_safe_name, make_unique_stems

# Each archive is an open file.
_MAX_ARCHIVES = 16

Read = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One picture of a batch.

    index: position in the upload, from 0. name: the client's name as a safe relative path. stem: unique in
    the batch, without extension. read: returns the bytes, raises GatewayError; call it on the disk thread.
    """

    index: int
    name: str
    stem: str
    read: Read


def list_entries(spooled: Spooled, limits: BatchLimits, closing: ExitStack) -> list[BatchEntry]:
    """List the pictures of `spooled` in order. closing: closes the archives when it exits.

    An unreadable archive becomes one entry that raises the error; if it is the only file, this raises it.
    Raises MissingPicture, TooLarge, MalformedRequest.
    """
    allowance = Allowance(limits.bytes)
    found: list[tuple[str, Read]] = []
    archives = 0
    for file in spooled.files:
        if file.is_archive:
            archives += 1
            if archives > _MAX_ARCHIVES:
                raise TooLarge(f"the batch has more archives than the limit of {_MAX_ARCHIVES}")
            pictures = _list_archive(file, limits, allowance, closing, alone=len(spooled.files) == 1)
        else:
            pictures = _list_file(file, limits)
        for picture in pictures:
            if len(found) >= limits.files:
                raise TooLarge(f"the batch has more files than the limit of {limits.files:,}")
            found.append(picture)
    if not found:
        raise MissingPicture(
            "the batch has no pictures; send multipart with one file part per picture, or a ZIP archive"
        )
    names = [make_safe_name(name) for name, _ in found]
    return [
        BatchEntry(index, name, stem, read)
        for index, (name, stem, (_, read)) in enumerate(
            zip(names, make_unique_stems(names), found, strict=True)
        )
    ]


def _list_file(file: SpooledFile, limits: BatchLimits) -> Iterator[tuple[str, Read]]:
    if not is_system_file(file.name):
        yield file.name, partial(_read_file, file, limits)


def _list_archive(
    file: SpooledFile, limits: BatchLimits, allowance: Allowance, closing: ExitStack, alone: bool
) -> Iterator[tuple[str, Read]]:
    try:
        archive = Archive(file.path, limits.files)
    except GatewayError as error:
        if alone:
            raise
        yield file.name, partial(_raise, error)
        return
    closing.callback(archive.close)
    for member in archive.members():
        yield member.name, partial(_read_member, archive.read, member, limits.file_bytes, allowance)


def _read_file(file: SpooledFile, limits: BatchLimits) -> bytes:
    if file.size > limits.file_bytes:
        raise TooLarge(f"this file is larger than the limit of {limits.file_bytes:,} bytes")
    return _require_bytes(file.path.read_bytes())


def _read_member(read: Callable[..., bytes], *arguments: object) -> bytes:
    data = _require_bytes(read(*arguments))
    if data.startswith(b"PK\x03\x04"):
        raise UnsupportedPicture("archives inside archives are not supported; unpack this one first")
    return data


def _require_bytes(data: bytes) -> bytes:
    if not data:
        raise MissingPicture("this file is empty")
    return data


def _raise(error: GatewayError) -> bytes:
    raise error
