"""The download of one file: tries its addresses, retries, resumes, verifies, and stores the whole file."""

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
    DownloadRefused,
    Interrupted,
    NoSpace,
    Stopped,
    Transient,
    Unreachable,
    WrongFile,
)
from gpen_common.download.job import DEFAULT_POLICY, DownloadJob, Progress, RemoteFile, RetryPolicy
from gpen_common.download.partial import Partial
from gpen_common.download.transfer import LONGEST_PAUSE_S, receive

# An attempt that brings this many new bytes resets the count of failures in a row.
_PROGRESS_BYTES = 1 << 20
_MAX_REDIRECTS = 5
_LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A stored file. sha256: hex digest. url: the address it came from, before redirects."""

    path: Path
    sha256: str
    size: int
    url: str


def download(
    remote: RemoteFile,
    folder: Path,
    *,
    policy: RetryPolicy = DEFAULT_POLICY,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    inspect: Callable[[Path], object] | None = None,
) -> DownloadResult:
    """Download a file into `folder`, where it appears whole and verified, or not at all. Blocks.

    Resumes an earlier call's partial download if the server supports ranges. inspect: checks the whole file
    before it gets its name; if it raises, the file is deleted and the error passed on. Concurrent calls for
    one file must hold `lock_file`. Raises DownloadError, and OSError for a folder that cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = None if policy.total_s is None else time.monotonic() + policy.total_s
    job = DownloadJob(
        remote,
        Partial(folder / remote.name),
        policy,
        progress or _ignore_progress,
        stop or threading.Event(),
        deadline,
    )
    timeout = httpx.Timeout(policy.stall_s, connect=policy.connect_s)
    failures: list[DownloadError] = []
    with httpx.Client(timeout=timeout, follow_redirects=True, max_redirects=_MAX_REDIRECTS) as client:
        for url in remote.urls:
            try:
                digest = _fetch(client, url, job)
                break
            except (NoSpace, Stopped):
                raise
            except DownloadError as error:
                failures.append(error)
        else:
            raise (
                _combine(failures)
                if failures
                else DownloadRefused(f"{remote.name} is not published for download")
            )
    if inspect is not None:
        try:
            inspect(job.partial.path)
        except BaseException:
            job.partial.discard()
            raise
    size = job.partial.size
    return DownloadResult(job.partial.complete(), digest, size, url)


@contextmanager
def lock_file(path: Path, stop: threading.Event | None = None) -> Iterator[None]:
    """Hold the lock of `path` against other threads and processes. Blocks. Raises Stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), is_singleton=False)
    while True:
        try:
            lock.acquire(timeout=-1 if stop is None else _LOCK_POLL_S)
            break
        except filelock.Timeout:
            if stop is not None and stop.is_set():
                raise Stopped(f"{path.name}: stopped while another process held the file") from None
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: Path) -> str:
    """Compute the hex digest of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(client: httpx.Client, url: str, job: DownloadJob) -> str:
    """Fetch the whole file from one address, with retries by the policy. Returns its sha256."""
    failed = 0
    while True:
        before = job.partial.size
        try:
            resumed = receive(client, url, job)
            return _verify(url, job, resumed)
        except Transient as error:
            failed = 1 if job.partial.size - before >= _PROGRESS_BYTES else failed + 1
            if failed >= job.policy.attempts:
                raise Interrupted(str(error)) from error
            # Jitter, so that clients that were disconnected together do not reconnect together.
            pause = min(job.policy.pause_s * 2 ** (failed - 1), LONGEST_PAUSE_S)
            job.pause(max(pause * random.uniform(0.5, 1), error.retry_after))  # noqa: S311 - no secret
            job.check(url)


def _verify(url: str, job: DownloadJob, resumed: bool) -> str:
    """Verify the received file, return its sha256. Raises Transient if a retry may help, else WrongFile."""
    digest, size = sha256_of(job.partial.path), job.partial.size
    remote = job.remote
    if not size or (remote.size is not None and size != remote.size):
        fault = f"{size} bytes instead of {remote.size or 'a file'}"
    elif remote.sha256 is not None and not digest.startswith(remote.sha256):
        fault = f"another file (sha256 {digest}, not {remote.sha256})"
    else:
        return digest
    job.partial.discard()
    if resumed:
        raise Transient(f"{url} sent parts of different files: {fault}")
    raise WrongFile(f"{url} sent {fault}")


def _combine(failures: list[DownloadError]) -> DownloadError:
    """Combine the failures of all addresses: of the last type other than Unreachable, if there is one."""
    reached = [error for error in failures if not isinstance(error, Unreachable)] or failures
    return type(reached[-1])("; ".join(str(error) for error in failures))


def _ignore_progress(_: int, __: int | None) -> None:
    """The default for `progress`."""
