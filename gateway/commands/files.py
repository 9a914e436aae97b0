"""Files on disk: what they hold, and writing them so that nobody ever sees half of one."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileState:
    """A file at one moment. sha256: of its bytes, in hex."""

    size: int
    mtime_ns: int
    sha256: str

    def still_holds(self, path: Path) -> bool:
        """Whether the file at `path` has the same bytes. They are read only where its time is another."""
        try:
            told = path.stat()
            if told.st_size != self.size:
                return False
            return told.st_mtime_ns == self.mtime_ns or digest_of(path) == self.sha256
        except OSError:
            return False


def digest_of(path: Path) -> str:
    """The SHA-256 of the file at `path`, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_file(path: Path) -> tuple[bytes, FileState]:
    """The bytes of the file at `path`, and its state. Raises OSError."""
    told = path.stat()
    data = path.read_bytes()
    return data, FileState(len(data), told.st_mtime_ns, hashlib.sha256(data).hexdigest())


def write_file(path: Path, data: bytes) -> FileState:
    """Puts `data` at `path`, in place of what is there, all at once. Folders are made. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same name each time, so that what a crash left is written over.
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return FileState(len(data), path.stat().st_mtime_ns, hashlib.sha256(data).hexdigest())
