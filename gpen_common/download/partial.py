"""A download on disk that is not whole yet: its bytes, and what they are the beginning of."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Origin:
    """What the bytes of a partial file belong to.

    url: as it was asked for, before redirects. validator: the strong ETag or the date that the server gave
    this version of the file, None where it gave neither. total: bytes of the whole file, where told.
    """

    url: str
    validator: str | None
    total: int | None


class Partial:
    """The file that becomes `target`. It lies next to it, hidden, so that a rename completes it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.part")
        self._notes = target.with_name(f".{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes so far; 0 without a file."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def origin(self) -> Origin | None:
        """What the bytes belong to; None where nobody knows."""
        try:
            return Origin(**json.loads(self._notes.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, origin: Origin) -> None:
        """Start anew, empty, as the beginning of `origin`."""
        self.discard()
        self.path.touch()
        self._notes.write_text(json.dumps(asdict(origin)))

    def discard(self) -> None:
        """Remove what there is."""
        # The notes last: bytes without notes are never taken up again, but notes describe no other bytes.
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def complete(self) -> Path:
        """Make it the target, at once and for good. Returns the target."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self._notes.unlink(missing_ok=True)
        return self.target
