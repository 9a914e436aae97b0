"""What to fetch, how patiently, and the state of doing so."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gpen_common.download.errors import Interrupted, Stopped
from gpen_common.download.partial import Partial

Progress = Callable[[int, int | None], None]
"""Told (bytes so far, bytes in all or None) while a file comes."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A published file.

    name: its name on disk. urls: where it is, tried in order. sha256: hex digest, or as much of its beginning
    as the publisher told; None where nobody told. size: its bytes, None where unknown. max_bytes: more than
    it can have; a download stops there.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None
    size: int | None
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds, and how often to try.

    connect_s: for a connection; a server that cannot be connected to is not tried twice, so that a machine
    without a network knows soon. stall_s: without a byte. attempts: tries in a row that bring less than a
    megabyte. pause_s: after the first of these; it doubles. total_s: for everything, None without end.
    """

    connect_s: float = 5.0
    stall_s: float = 30.0
    attempts: int = 5
    pause_s: float = 0.5
    total_s: float | None = None


PATIENT = Patience()
"""As somebody who waits for a large file over a bad line."""


@dataclass(frozen=True, slots=True)
class Task:
    """One file on its way."""

    remote: Remote
    partial: Partial
    patience: Patience
    progress: Progress
    stop: threading.Event
    deadline: float | None

    def pause(self, seconds: float) -> None:
        """Wait, but not past the deadline. Raises Stopped."""
        left = seconds if self.deadline is None else min(seconds, self.deadline - time.monotonic())
        if self.stop.wait(max(left, 0)):
            raise Stopped(f"{self.remote.name}: stopped while it was fetched")

    def check(self, url: str) -> None:
        """Raise Stopped or Interrupted where nothing more is to be done."""
        if self.stop.is_set():
            raise Stopped(f"{self.remote.name}: stopped while it was fetched")
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Interrupted(f"{url} did not send the file within {self.patience.total_s} s")
