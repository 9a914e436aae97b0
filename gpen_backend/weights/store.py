"""The folder of weights: what lies there, whether it is what it should be, and how it comes there.

A published checksum is law. Where none is published, a file that loads strictly is trusted on first use and
recorded in `checksums.lock`; from then on it must stay as it was, fetched anew or not.
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
from gpen_common.download import PATIENT, Patience, Progress, download, exclusive, sha256_of
from gpen_common.download.partial import Partial

logger = logging.getLogger(__name__)

LOCK_NAME = "checksums.lock"
"""The file in the folder that holds what was trusted on first use."""

_LOCK_VERSION = 1

State: TypeAlias = Literal["missing", "partial", "present", "verified", "broken"]
"""`present`: there, with nothing to compare it with yet. `verified`, `broken`: compared, size and sha256."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """What was recorded of a file at its first use. url: None where it was put there by hand. date: UTC."""

    sha256: str
    size: int
    url: str | None
    date: str


@dataclass(frozen=True, slots=True)
class Found:
    """A model's file that is on disk."""

    file: ModelFile
    path: Path


class Store:
    """One folder of weights. Several processes may use it at once."""

    def __init__(self, folder: Path, mirror: str | None = None) -> None:
        """mirror: base address to fetch from in place of the published ones."""
        self.folder = folder
        self._mirror = mirror

    def find(self, model: KnownModel, formats: tuple[Format, ...]) -> tuple[Found, ...]:
        """The model's files that are here, in the order of `formats`."""
        return tuple(
            Found(file, path)
            for wanted in formats
            for file in model.files
            if file.format == wanted and (path := self._path(file)) is not None
        )

    def verify(self, found: Found) -> str:
        """The sha256 of a file that is, as far as is known, what it should be. Raises Altered, Unreadable."""
        expected, size, source = self._expected(found)
        if size is not None and found.path.stat().st_size != size:
            raise Altered(
                f"{found.path} has {found.path.stat().st_size} bytes, {source} {size}: {_advice(found)}"
            )
        digest = self.sha256(found)
        if expected is not None and digest != expected:
            raise Altered(f"{found.path} has the sha256 {digest}, {source} {expected}: {_advice(found)}")
        return digest

    def sha256(self, found: Found) -> str:
        """The sha256 of a file as it is. Raises Unreadable."""
        try:
            return sha256_of(found.path)
        except OSError as error:
            raise Unreadable(f"{found.path} cannot be read: {error.strerror}") from error

    def trust(self, found: Found, sha256: str, url: str | None = None, *, anew: bool = False) -> None:
        """Record a file whose checksum is not published, unless it is recorded. anew: even where it is."""
        if found.file.sha256 is not None or (found.path.name in self.trusted() and not anew):
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Trusted(sha256, found.path.stat().st_size, url, now)
        path = self.folder / LOCK_NAME
        try:
            with exclusive(path):
                files = {name: asdict(known) for name, known in self.trusted().items()}
                files[found.path.name] = asdict(entry)
                new = path.with_name(f".{LOCK_NAME}.new")
                new.write_text(json.dumps({"version": _LOCK_VERSION, "files": files}, indent=2) + "\n")
                new.replace(path)
        except OSError as error:
            # A folder that nobody can write to is as safe as a record in it.
            logger.warning("%s: its sha256 %s could not be recorded: %s", found.path, sha256, error)

    def trusted(self) -> dict[str, Trusted]:
        """What is recorded, by file name. Raises Altered where the record cannot be read."""
        path = self.folder / LOCK_NAME
        try:
            return {name: Trusted(**entry) for name, entry in json.loads(path.read_text())["files"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Altered(
                f"{path} cannot be read ({error}): restore it, or delete it to trust the files anew"
            ) from error

    def state(self, file: ModelFile) -> State:
        """How a file stands. Reads the whole of it."""
        path = self._path(file)
        if path is None:
            return "partial" if Partial(self.folder / file.name).size else "missing"
        found = Found(file, path)
        try:
            self.verify(found)
            return "verified" if self._expected(found)[0] else "present"
        except CheckpointError:
            return "broken"

    def received(self, file: ModelFile) -> tuple[int, int | None]:
        """Bytes of a file that has come in part, and of the whole where known."""
        partial = Partial(self.folder / file.name)
        origin = partial.origin()
        return partial.size, file.size or (origin.total if origin is not None else None)

    def pull(
        self,
        model: KnownModel,
        file: ModelFile,
        *,
        patience: Patience = PATIENT,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
        inspect: Callable[[Path], object] | None = None,
    ) -> Found:
        """Have a file here, verified; fetched, and recorded where its checksum is not published, if need be.

        inspect: looks at a fetched file before it is used and raises where it is no good. A file that is here
        and broken is left alone: then raises Altered. Raises DownloadError, OSError, and what `inspect` does.
        """
        target = self.folder / file.name
        with exclusive(target, stop):
            path = self._path(file)
            if path is not None:
                found = Found(file, path)
                self.verify(found)
                return found
            logger.info("fetching %s. %s", file.name, LICENCE)
            remote = model.remote(file, self._mirror)
            if remote.sha256 is None and (before := self.trusted().get(file.name)) is not None:
                remote = replace(remote, sha256=before.sha256, size=before.size)
            came = download(
                remote, self.folder,
                patience=patience, progress=progress, stop=stop, inspect=inspect,
            )  # fmt: skip
            found = Found(file, came.path)
            self.trust(found, came.sha256, came.url)
            return found

    def _path(self, file: ModelFile) -> Path | None:
        candidates = (self.folder / name for name in (file.name, *file.aliases))
        return next((path for path in candidates if path.is_file()), None)

    def _expected(self, found: Found) -> tuple[str | None, int | None, str]:
        """The sha256 and size that a file must have, where known, and who says so."""
        if found.file.sha256 is not None:
            return found.file.sha256, found.file.size, "the published one"
        entry = self.trusted().get(found.path.name)
        if entry is None:
            return None, None, "nobody"
        return entry.sha256, entry.size, f"the one first used on {entry.date[:10]}"


def _advice(found: Found) -> str:
    if found.file.sha256 is not None:
        return "delete it and pull it again, or give an export of your own the name <model>-own.onnx"
    return "delete it and pull it again; if you replaced it on purpose, `gpen-gateway models verify --accept`"
