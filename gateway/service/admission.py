"""Admission control: limits on uploads, waiting requests and workers. Further requests are rejected.

Three limits, in the order in which a request meets them:

- uploads: bodies in memory that hold no place yet, 16 more than there are free places. A request that the
  cache answers, or that joins an identical one, needs no place: it is answered even if the queue is full.
- places: requests that wait for a worker or have one. A place is held until the work's threads have ended.
- workers: requests, or files of batches, in progress.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.errors import QueueFull

# About the time of one portrait.
_RETRY_AFTER_S = 1.0
SPARE_UPLOADS = 16
"""Uploads received in addition to a full queue. At most workers + queue + this many bodies are in memory."""


class Admission:
    """Counts the uploads, the places and the workers in use.

    workers: requests in progress at once. queue: requests that wait for a worker.
    """

    def __init__(self, workers: int, queue: int) -> None:
        self.workers = workers
        self.limit = workers + queue
        self.uploads = 0
        self.taken = 0
        self.busy = 0
        self.queued = 0
        self._free = asyncio.Semaphore(workers)

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Admit one request until it is answered or takes a place. Raises QueueFull."""
        if self.uploads + self.taken >= self.limit + SPARE_UPLOADS:
            raise queue_full(self.uploads + self.taken)
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place among the requests that wait or are in progress. Raises QueueFull."""
        if self.taken >= self.limit:
            raise queue_full(self.taken)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Wait for a free worker, first come first served, and hold it."""
        self.queued += 1
        try:
            await self._free.acquire()
        finally:
            self.queued -= 1
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            self._free.release()


def queue_full(waiting: int) -> QueueFull:
    """Return the error for a queue in which `waiting` requests wait or are in progress."""
    return QueueFull(
        f"the queue is full: {waiting} requests wait or are in progress; try again later", _RETRY_AFTER_S
    )
