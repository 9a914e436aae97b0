"""Digests of files, and atomic writes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gpen_common.download import sha256_of


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of a file at one moment. sha256: of its content, in hex."""

    size: int
    mtime_ns: int
    sha256: str

    def matches(self, path: Path) -> bool:
        """Whether the file at `path` has the same content. Reads it only if its modification time differs."""
        try:
            status = path.stat()
            if status.st_size != self.size:
                return False
            return status.st_mtime_ns == self.mtime_ns or sha256_of(path) == self.sha256
        except OSError:
            return False


def read_file(path: Path) -> tuple[bytes, FileState]:
    """Read the file at `path`; returns its content and state. Raises OSError."""
    status = path.stat()
    data = path.read_bytes()
    return data, FileState(len(data), status.st_mtime_ns, hashlib.sha256(data).hexdigest())


def write_file(path: Path, data: bytes) -> FileState:
    """Write `data` to `path` atomically and create missing folders. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Always the same name, so that the next run overwrites what a crash left.
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return FileState(len(data), path.stat().st_mtime_ns, hashlib.sha256(data).hexdigest())
