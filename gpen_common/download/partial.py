"""A partial download on disk: its bytes, and the origin needed to resume it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the bytes of a partial download came from.

    url: as requested, before redirects. validator: the server's strong ETag or date of this version of the
    file, None if it sent neither. total: bytes of the whole file, None if the server did not declare them.
    """

    url: str
    validator: str | None
    total: int | None


class Partial:
    """A hidden file next to `target`, which becomes `target` by a rename once it is complete."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.part")
        self._notes = target.with_name(f".{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes received so far; 0 without a file."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def origin(self) -> Origin | None:
        """The origin of the bytes, None if it is unknown."""
        try:
            return Origin(**json.loads(self._notes.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, origin: Origin) -> None:
        """Start an empty download from `origin`."""
        self.discard()
        self.path.touch()
        self._notes.write_text(json.dumps(asdict(origin)))

    def discard(self) -> None:
        """Delete the bytes and their origin."""
        # The notes go last: bytes without notes are never resumed, and notes without bytes do no harm.
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def complete(self) -> Path:
        """Sync the bytes to disk and rename them to the target, atomically. Returns the target."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self._notes.unlink(missing_ok=True)
        return self.target
