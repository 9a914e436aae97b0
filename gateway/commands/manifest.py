"""What was made of what, kept beside the results, so that a second run does only what changed."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gateway.commands.files import FileState, write_file

FILE_NAME = ".gpen-gateway.json"
"""The manifest's name in the folder of results."""

_VERSION = 1
_SAVE_EVERY_S = 2.0
# Saving takes no more than this share of the time.
_SAVING_SHARE = 0.05


class ManifestUnusable(Exception):
    """The manifest cannot be read, or is none."""


@dataclass(frozen=True, slots=True)
class Record:
    """One result. source: the input's absolute path.

    input, output: the files when it was made; None where it is yet to be made, so that a crash between the
    file and its record leaves no file that seems to be somebody else's. parameters: all that matter.
    made_by: what decides about results beside them.
    """

    source: str
    parameters: dict[str, Any]
    made_by: dict[str, str]
    input: FileState | None = None
    output: FileState | None = None


@dataclass(frozen=True, slots=True)
class _Written:
    version: int
    results: dict[str, Record]


_FILE = TypeAdapter(_Written)


class Manifest:
    """The records of one folder, by the paths of the results in it."""

    def __init__(self, folder: Path, records: dict[str, Record] | None = None) -> None:
        self.records = records or {}
        self._path = folder / FILE_NAME
        self._saving = asyncio.Lock()
        self._save_at = 0.0

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest in `folder`; an empty one where there is none. Raises ManifestUnusable."""
        path = folder / FILE_NAME
        try:
            written = _FILE.validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls(folder)
        except (OSError, ValidationError) as error:
            raise ManifestUnusable(
                f"{path} cannot be read; delete it, or use --force to make everything again"
            ) from error
        if written.version != _VERSION:
            raise ManifestUnusable(
                f"{path} is of another gpen-gateway; delete it, or use --force to make everything again"
            )
        return cls(folder, written.results)

    def save(self) -> None:
        """Writes the manifest. Raises OSError."""
        self._write(dict(self.records))

    async def save_now_and_then(self) -> None:
        """Writes the manifest if that is due: often, but not so often that it slows the work."""
        if self._saving.locked() or time.monotonic() < self._save_at:
            return
        async with self._saving:
            started = time.monotonic()
            await asyncio.to_thread(self._write, dict(self.records))
            now = time.monotonic()
            self._save_at = now + max(_SAVE_EVERY_S, (now - started) / _SAVING_SHARE)

    def _write(self, records: dict[str, Record]) -> None:
        write_file(self._path, _FILE.dump_json(_Written(_VERSION, records), indent=1))
