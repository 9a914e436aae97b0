"""The folder of weights: finds, verifies and downloads its files.

A published sha256 must match. A file without one is trusted on first use, if it loads strictly, and recorded
in `checksums.lock`; from then on it must match that record, even after another download.
"""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from gpen_backend.weights.catalog import LICENCE, Format, KnownModel, ModelFile
from gpen_backend.weights.errors import Altered, CheckpointError, Unreadable
from gpen_common.download import DEFAULT_POLICY, Progress, RetryPolicy, download, lock_file, sha256_of
from gpen_common.download.partial import Partial

logger = logging.getLogger(__name__)

LOCK_NAME = "checksums.lock"
"""File in the folder with the checksums that were recorded on first use."""

_LOCK_VERSION = 1

FileState: TypeAlias = Literal["missing", "partial", "present", "verified", "broken"]
"""`present`: stored, but no checksum is known yet. `verified`, `broken`: size and sha256 match, or do not."""


@dataclass(frozen=True, slots=True)
class TrustRecord:
    """Checksum of a file, recorded on first use. url: None if the file was put there by hand. date: UTC."""

    sha256: str
    size: int
    url: str | None
    date: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A model's file that is on disk."""

    file: ModelFile
    path: Path


class WeightStore:
    """One folder of weights. Several processes may use it at once."""

    def __init__(self, folder: Path, mirror: str | None = None) -> None:
        """mirror: base address that replaces the published ones."""
        self.folder = folder
        self._mirror = mirror

    def find(self, model: KnownModel, formats: tuple[Format, ...]) -> tuple[StoredFile, ...]:
        """The stored files of a model, in the order of `formats`."""
        return tuple(
            StoredFile(file, path)
            for wanted in formats
            for file in model.files
            if file.format == wanted and (path := self._path(file)) is not None
        )

    def verify(self, found: StoredFile) -> str:
        """Compare a file with its known size and sha256. Returns its sha256. Raises Altered, Unreadable."""
        expected, size, source = self._expected(found)
        if size is not None and found.path.stat().st_size != size:
            raise Altered(
                f"{found.path} has {found.path.stat().st_size} bytes, {source} has {size}: {_advice(found)}"
            )
        digest = self.sha256(found)
        if expected is not None and digest != expected:
            raise Altered(f"{found.path} has the sha256 {digest}, {source} is {expected}: {_advice(found)}")
        return digest

    def sha256(self, found: StoredFile) -> str:
        """Compute the sha256 of a file. Raises Unreadable."""
        try:
            return sha256_of(found.path)
        except OSError as error:
            raise Unreadable(f"{found.path} cannot be read: {error.strerror}") from error

    def trust(
        self, found: StoredFile, sha256: str, url: str | None = None, *, overwrite: bool = False
    ) -> None:
        """Record the checksum of a file that has no published one. overwrite: replace an earlier record."""
        if found.file.sha256 is not None or (found.path.name in self.trust_records() and not overwrite):
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = TrustRecord(sha256, found.path.stat().st_size, url, now)
        path = self.folder / LOCK_NAME
        try:
            with lock_file(path):
                files = {name: asdict(known) for name, known in self.trust_records().items()}
                files[found.path.name] = asdict(record)
                new = path.with_name(f".{LOCK_NAME}.new")
                new.write_text(json.dumps({"version": _LOCK_VERSION, "files": files}, indent=2) + "\n")
                new.replace(path)
        except OSError as error:
            # Files in a read-only folder cannot change, so they are safe without a record.
            logger.warning("%s: its sha256 %s could not be recorded: %s", found.path, sha256, error)

    def trust_records(self) -> dict[str, TrustRecord]:
        """The recorded checksums by file name. Raises Altered if the record is unreadable."""
        path = self.folder / LOCK_NAME
        try:
            files = json.loads(path.read_text())["files"]
            return {name: TrustRecord(**record) for name, record in files.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Altered(
                f"{path} cannot be read ({error}): restore it, or delete it to trust the present files"
            ) from error

    def state(self, file: ModelFile) -> FileState:
        """State of a file. Reads the whole file."""
        path = self._path(file)
        if path is None:
            return "partial" if Partial(self.folder / file.name).size else "missing"
        found = StoredFile(file, path)
        try:
            self.verify(found)
            return "verified" if self._expected(found)[0] else "present"
        except CheckpointError:
            return "broken"

    def count_received(self, file: ModelFile) -> tuple[int, int | None]:
        """Bytes of a partial download, and bytes of the whole file if known."""
        partial = Partial(self.folder / file.name)
        origin = partial.origin()
        return partial.size, file.size or (origin.total if origin is not None else None)

    def pull(
        self,
        model: KnownModel,
        file: ModelFile,
        *,
        policy: RetryPolicy = DEFAULT_POLICY,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
        inspect: Callable[[Path], object] | None = None,
    ) -> StoredFile:
        """Return a verified file, downloaded if it is missing. Records a checksum that is not published.

        inspect: checks a downloaded file before it is stored, and raises to reject it. Raises DownloadError,
        OSError, any error of `inspect`, and Altered for a stored file that is broken, which stays untouched.
        """
        target = self.folder / file.name
        with lock_file(target, stop):
            path = self._path(file)
            if path is not None:
                found = StoredFile(file, path)
                self.verify(found)
                return found
            logger.info("downloading %s. %s", file.name, LICENCE)
            remote = model.remote(file, self._mirror)
            if remote.sha256 is None and (record := self.trust_records().get(file.name)) is not None:
                remote = replace(remote, sha256=record.sha256, size=record.size)
            result = download(
                remote, self.folder,
                policy=policy, progress=progress, stop=stop, inspect=inspect,
            )  # fmt: skip
            found = StoredFile(file, result.path)
            self.trust(found, result.sha256, result.url)
            return found

    def _path(self, file: ModelFile) -> Path | None:
        candidates = (self.folder / name for name in (file.name, *file.aliases))
        return next((path for path in candidates if path.is_file()), None)

    def _expected(self, found: StoredFile) -> tuple[str | None, int | None, str]:
        """The expected sha256 and size of a file, None if unknown, and their source for error messages."""
        if found.file.sha256 is not None:
            return found.file.sha256, found.file.size, "the published one"
        record = self.trust_records().get(found.path.name)
        if record is None:
            return None, None, ""
        return record.sha256, record.size, f"the one first used on {record.date[:10]}"


def _advice(found: StoredFile) -> str:
    if found.file.sha256 is not None:
        return "delete it and pull it again, or name your own export <model>-own.onnx"
    return (
        "delete it and pull it again; if you replaced it on purpose, "
        "run `gpen-gateway models verify --accept`"
    )
