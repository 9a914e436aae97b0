"""The manifest in the folder of results: records that let the next run process only what changed."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gateway.commands.files import FileState, write_file

FILE_NAME = ".gpen-gateway.json"
"""The file name of the manifest."""

_VERSION = 1
_SAVE_EVERY_S = 2.0
# Saving takes at most this share of the time.
_SAVING_SHARE = 0.05


class ManifestUnusable(Exception):
    """The manifest cannot be read or has another format."""


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one result.

    source: absolute path of the input. parameters: those that decide about the result. made_by: from
    `gateway_client.fetch_provenance`. input, output: states of the files when the result was written; None
    before that, so that a file left by a crash counts as ours.
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
    """The records of one folder. records: by path of the result below the folder."""

    def __init__(self, folder: Path, records: dict[str, Record] | None = None) -> None:
        self.records = records or {}
        self._path = folder / FILE_NAME
        self._saving = asyncio.Lock()
        self._save_at = 0.0

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest in `folder`; an empty one if there is no file. Raises ManifestUnusable."""
        path = folder / FILE_NAME
        try:
            written = _FILE.validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls(folder)
        except (OSError, ValidationError) as error:
            raise ManifestUnusable(
                f"{path} cannot be read; delete it, or use --force to process everything again"
            ) from error
        if written.version != _VERSION:
            raise ManifestUnusable(
                f"{path} has another version; delete it, or use --force to process everything again"
            )
        return cls(folder, written.results)

    def save(self) -> None:
        """Write the manifest. Raises OSError."""
        self._write(dict(self.records))

    async def save_periodically(self) -> None:
        """Write the manifest if the last write is 2 s ago and writing takes at most 5 % of the time."""
        if self._saving.locked() or time.monotonic() < self._save_at:
            return
        async with self._saving:
            started = time.monotonic()
            await asyncio.to_thread(self._write, dict(self.records))
            now = time.monotonic()
            self._save_at = now + max(_SAVE_EVERY_S, (now - started) / _SAVING_SHARE)

    def _write(self, records: dict[str, Record]) -> None:
        write_file(self._path, _FILE.dump_json(_Written(_VERSION, records), indent=1))
