"""The pictures of a batch, wherever they lie: in files, or in archives among them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from gateway.batch.archive import Allowance, Archive
from gateway.batch.spool import BatchLimits, Spooled, SpooledFile
from gateway.errors import GatewayError, MissingPicture, TooLarge, UnsupportedPicture
from gateway.imaging.filenames import is_system_file, make_safe_name, make_unique_stems

# Each is an open file.
_MAX_ARCHIVES = 16

Read = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a batch.

    index: its place. name: as it was sent, made safe. stem: its own in this batch, without an extension.
    read: its bytes; raises GatewayError, and belongs on the disk's thread.
    """

    index: int
    name: str
    stem: str
    read: Read


def entries_of(spooled: Spooled, limits: BatchLimits, closing: ExitStack) -> list[Entry]:
    """The pictures of `spooled`, in order. closing: closes the archives they are read from.

    An archive that cannot be read is an entry that says so, unless it is all that was sent.
    Raises MissingPicture, TooLarge, MalformedRequest.
    """
    allowance = Allowance(limits.bytes)
    found: list[tuple[str, Read]] = []
    archives = 0
    for file in spooled.files:
        if file.is_archive:
            archives += 1
            if archives > _MAX_ARCHIVES:
                raise TooLarge(f"the batch has more than {_MAX_ARCHIVES} archives")
            pictures = _unpacked(file, limits, allowance, closing, alone=len(spooled.files) == 1)
        else:
            pictures = _plain(file, limits)
        for picture in pictures:
            if len(found) >= limits.files:
                raise TooLarge(f"the batch has more than the {limits.files:,} files that are allowed")
            found.append(picture)
    if not found:
        raise MissingPicture("send pictures: multipart with a file part for each, or a ZIP of them")
    names = [make_safe_name(name) for name, _ in found]
    return [
        Entry(index, name, stem, read)
        for index, (name, stem, (_, read)) in enumerate(
            zip(names, make_unique_stems(names), found, strict=True)
        )
    ]


def _plain(file: SpooledFile, limits: BatchLimits) -> Iterator[tuple[str, Read]]:
    if not is_system_file(file.name):
        yield file.name, partial(_read_file, file, limits)


def _unpacked(
    file: SpooledFile, limits: BatchLimits, allowance: Allowance, closing: ExitStack, alone: bool
) -> Iterator[tuple[str, Read]]:
    try:
        archive = Archive(file.path, limits.files)
    except GatewayError as error:
        if alone:
            raise
        yield file.name, partial(_fail, error)
        return
    closing.callback(archive.close)
    for member in archive.members():
        yield member.name, partial(_read_member, archive.read, member, limits.file_bytes, allowance)


def _read_file(file: SpooledFile, limits: BatchLimits) -> bytes:
    if file.size > limits.file_bytes:
        raise TooLarge(f"this file has more than the {limits.file_bytes:,} bytes that are allowed")
    return _picture(file.path.read_bytes())


def _read_member(read: Callable[..., bytes], *arguments: object) -> bytes:
    data = _picture(read(*arguments))
    if data.startswith(b"PK\x03\x04"):
        raise UnsupportedPicture("an archive inside an archive is not opened; unpack it first")
    return data


def _picture(data: bytes) -> bytes:
    if not data:
        raise MissingPicture("this file is empty")
    return data


def _fail(error: GatewayError) -> bytes:
    raise error
