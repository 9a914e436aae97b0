"""What to download, how often to retry, and the state of one download."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gpen_common.download.errors import Interrupted, Stopped
from gpen_common.download.partial import Partial

Progress = Callable[[int, int | None], None]
"""Called with (bytes received, bytes in total or None) during a download."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A published file.

    name: on disk. urls: tried in order. sha256: hex digest or a prefix of it, None if not published.
    size: bytes, None if unknown. max_bytes: upper limit of the size; a longer download is aborted.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None
    size: int | None
    max_bytes: int


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Timeouts and retries of a download; times in seconds.

    connect_s: connect timeout. A failed first connection is not retried, so that a machine without a network
    gets its error quickly. stall_s: longest pause between two bytes. attempts: attempts in a row that bring
    less than a megabyte. pause_s: pause after the first of these; it doubles with each. total_s: timeout of
    the whole download, None for no limit.
    """

    connect_s: float = 5.0
    stall_s: float = 30.0
    attempts: int = 5
    pause_s: float = 0.5
    total_s: float | None = None


DEFAULT_POLICY = RetryPolicy()
"""Suits a user who waits for a large file over a slow connection."""


@dataclass(frozen=True, slots=True)
class DownloadJob:
    """One download in progress. stop: set by the caller to end it. deadline: on time.monotonic's clock."""

    remote: RemoteFile
    partial: Partial
    policy: RetryPolicy
    progress: Progress
    stop: threading.Event
    deadline: float | None

    def pause(self, seconds: float) -> None:
        """Wait, but not past the deadline. Raises Stopped."""
        left = seconds if self.deadline is None else min(seconds, self.deadline - time.monotonic())
        if self.stop.wait(max(left, 0)):
            raise Stopped(f"{self.remote.name}: the download was stopped")

    def check(self, url: str) -> None:
        """Raise Stopped if the caller stopped the download, Interrupted if its deadline has passed."""
        if self.stop.is_set():
            raise Stopped(f"{self.remote.name}: the download was stopped")
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Interrupted(f"{url} did not send the file within {self.policy.total_s} s")
