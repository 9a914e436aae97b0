"""Large files over HTTP: taken up again where they broke off, checked, and whole or not there at all."""

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import httpx

from gpen_common.download.errors import (
    DownloadError,
    Interrupted,
    NoSpace,
    Passing,
    Refused,
    Stopped,
    Unreachable,
    WrongFile,
)
from gpen_common.download.partial import Partial
from gpen_common.download.task import PATIENT, Patience, Progress, Remote, Task
from gpen_common.download.transfer import LONGEST_PAUSE_S, receive

__all__ = [
    "PATIENT",
    "DownloadError",
    "Downloaded",
    "Interrupted",
    "NoSpace",
    "Partial",
    "Patience",
    "Progress",
    "Refused",
    "Remote",
    "Stopped",
    "Unreachable",
    "WrongFile",
    "download",
    "exclusive",
    "sha256_of",
]

# With so many new bytes a try was a success of sorts: only tries without count as failures in a row.
_PROGRESS_BYTES = 1 << 20
_MAX_REDIRECTS = 5
_LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that came whole. sha256: hex digest. url: where from, before redirects."""

    path: Path
    sha256: str
    size: int
    url: str


def download(
    remote: Remote,
    folder: Path,
    *,
    patience: Patience = PATIENT,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    inspect: Callable[[Path], object] | None = None,
) -> Downloaded:
    """Fetch a file into `folder`, where it appears whole and checked, or not at all. Blocks.

    What an earlier call left is taken up again where the server can. inspect: a last look at the whole file,
    before it appears under its name; what it raises is raised here, and the file is dropped. Two calls at
    once for one file need `exclusive` around them. Raises DownloadError, OSError for a folder that cannot
    be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = None if patience.total_s is None else time.monotonic() + patience.total_s
    task = Task(
        remote,
        Partial(folder / remote.name),
        patience,
        progress or _silent,
        stop or threading.Event(),
        deadline,
    )
    timeout = httpx.Timeout(patience.stall_s, connect=patience.connect_s)
    failures: list[DownloadError] = []
    with httpx.Client(timeout=timeout, follow_redirects=True, max_redirects=_MAX_REDIRECTS) as client:
        for url in remote.urls:
            try:
                digest = _fetched(client, url, task)
                break
            except (NoSpace, Stopped):
                raise
            except DownloadError as error:
                failures.append(error)
        else:
            raise _all_of(failures) if failures else Refused(f"{remote.name} is published nowhere")
    if inspect is not None:
        try:
            inspect(task.partial.path)
        except BaseException:
            task.partial.discard()
            raise
    size = task.partial.size
    return Downloaded(task.partial.complete(), digest, size, url)


@contextmanager
def exclusive(path: Path, stop: threading.Event | None = None) -> Iterator[None]:
    """Keep every other process and thread away from `path` that asks likewise. Blocks. Raises Stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), is_singleton=False)
    while True:
        try:
            lock.acquire(timeout=-1 if stop is None else _LOCK_POLL_S)
            break
        except filelock.Timeout:
            if stop is not None and stop.is_set():
                raise Stopped(f"{path.name}: stopped while another process fetched it") from None
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: Path) -> str:
    """The hex digest of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetched(client: httpx.Client, url: str, task: Task) -> str:
    """Fetch the file whole from one address, in as many tries as the patience allows. Returns its sha256."""
    failed = 0
    while True:
        before = task.partial.size
        try:
            resumed = receive(client, url, task)
            return _checked(url, task, resumed)
        except Passing as error:
            failed = 1 if task.partial.size - before >= _PROGRESS_BYTES else failed + 1
            if failed >= task.patience.attempts:
                raise Interrupted(str(error)) from error
            # Spread out, so that many who were thrown off at once do not come back at once.
            pause = min(task.patience.pause_s * 2 ** (failed - 1), LONGEST_PAUSE_S)
            task.pause(max(pause * random.uniform(0.5, 1), error.retry_after))  # noqa: S311 - no secret
            task.check(url)


def _checked(url: str, task: Task, resumed: bool) -> str:
    """The sha256 of what came. Raises Passing where another try may bring the file, else WrongFile."""
    digest, size = sha256_of(task.partial.path), task.partial.size
    remote = task.remote
    if not size or (remote.size is not None and size != remote.size):
        fault = f"{size} bytes in place of {remote.size or 'a file'}"
    elif remote.sha256 is not None and not digest.startswith(remote.sha256):
        fault = f"another file (sha256 {digest}, not {remote.sha256})"
    else:
        return digest
    task.partial.discard()
    if resumed:
        raise Passing(f"{url} sent parts of different files: {fault}")
    raise WrongFile(f"{url} sent {fault}")


def _all_of(failures: list[DownloadError]) -> DownloadError:
    """One error for all that failed, of the kind of the last that was more than no connection."""
    telling = [error for error in failures if not isinstance(error, Unreachable)] or failures
    return type(telling[-1])("; ".join(str(error) for error in failures))


def _silent(_: int, __: int | None) -> None:
    """Progress that nobody wants to see."""
