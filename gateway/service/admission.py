"""Who gets in, how many are at work, and what happens to those whose time is over.

A request holds a ticket from the moment it arrives. Its work runs as a job of its own, so that a caller who
leaves, or a deadline that passes, is answered at once, while the ticket is held until the job's threads have
really ended.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from gateway.errors import CallerLeft, DeadlinePassed, QueueFull

T = TypeVar("T")

# A place in the queue is worth asking for again after about the time one portrait takes.
_RETRY_AFTER_S = 1.0


class Admission:
    """At most `workers` requests at work and `queue` more waiting for them; the next one is told at once."""

    def __init__(self, workers: int, queue: int) -> None:
        self.limit = workers + queue
        self.workers = workers
        self._working = _Workers(workers)
        self._tickets = 0
        self._jobs: set[asyncio.Task[object]] = set()

    @property
    def waiting(self) -> int:
        """How many requests hold a ticket now, at work or not."""
        return self._tickets

    @property
    def busy(self) -> int:
        """How many workers are at work now."""
        return self._working.busy

    @property
    def queued(self) -> int:
        """How much work waits for a worker now."""
        return self._working.queued

    @contextmanager
    def ticket(self) -> Iterator["Ticket"]:
        """A ticket for one request. Raises QueueFull where there is none left."""
        if self._tickets >= self.limit:
            raise QueueFull(f"{self._tickets} requests are waiting already; try again later", _RETRY_AFTER_S)
        self._tickets += 1
        ticket = Ticket(self._working, self._jobs)
        try:
            yield ticket
        finally:
            if ticket.job is None or ticket.job.done():
                self._returned(None)
            else:
                ticket.job.add_done_callback(self._returned)

    async def finished(self) -> None:
        """Waits until no job is left."""
        while self._jobs:
            await asyncio.wait(self._jobs)

    def _returned(self, _job: "asyncio.Task[object] | None") -> None:
        self._tickets -= 1


class _Workers:
    """Places to work at, and how many are taken and waited for."""

    def __init__(self, workers: int) -> None:
        self.busy = 0
        self.queued = 0
        self._free = asyncio.Semaphore(workers)

    async def __aenter__(self) -> None:
        self.queued += 1
        try:
            await self._free.acquire()
        finally:
            self.queued -= 1
        self.busy += 1

    async def __aexit__(self, *_: object) -> None:
        self.busy -= 1
        self._free.release()


class Ticket:
    """One request's right to be worked on."""

    def __init__(self, working: "_Workers", jobs: set[asyncio.Task[object]]) -> None:
        self.job: asyncio.Task[object] | None = None
        self._working = working
        self._jobs = jobs

    async def run(self, request: Request, work: Callable[[], Awaitable[T]], deadline: float) -> T:
        """The result of `work()`, started when a worker is free.

        deadline: on time.monotonic's clock, seconds. The body of `request` must have been read.
        Raises DeadlinePassed at the deadline and CallerLeft when the caller disconnects: either cancels what
        has not been started, and the call to the backend.
        """

        async def job() -> T:
            async with self._working:
                return await work()

        return await self.watch(request, job(), deadline)

    async def watch(self, request: Request, work: Coroutine[Any, Any, T], deadline: float) -> T:
        """The result of `work`, which needs no worker; all else as in `run`."""
        task = asyncio.create_task(work)
        self.job = task
        jobs_of(request.scope).append(task)
        self._jobs.add(task)
        task.add_done_callback(self._forget)
        gone = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait(
                {task, gone},
                timeout=max(0.0, deadline - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task.done():
                return task.result()
            if gone.done():
                raise CallerLeft("the caller left before the answer was ready")
            raise DeadlinePassed(
                "the time for this request is over; send a smaller picture, or allow more with `timeout_s`"
            )
        finally:
            gone.cancel()
            task.cancel()

    async def piece(self, work: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
        """The result of `work(deadline)`: one of many pieces of a request, started when a worker is free.

        timeout_s: seconds from then on. deadline: when they are over, on time.monotonic's clock.
        Raises DeadlinePassed. When this returns the piece has ended, its threads included, even if it was
        cancelled: whoever runs pieces holds the ticket that long.
        """
        async with self._working:
            try:
                async with asyncio.timeout(timeout_s) as limit:
                    return await work(time.monotonic() + timeout_s)
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise DeadlinePassed(
                    "the time for this file is over; send a smaller picture, or allow more with `timeout_s`"
                ) from error

    def _forget(self, job: "asyncio.Task[object]") -> None:
        self._jobs.discard(job)
        if not job.cancelled():
            # Whoever asked may be gone: nobody else will look at its failure.
            job.exception()


def jobs_of(scope: Scope) -> list["asyncio.Task[Any]"]:
    """The work that the request in `scope` has begun, done or not."""
    jobs: list[asyncio.Task[Any]] = scope.setdefault("state", {}).setdefault("jobs", [])
    return jobs


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
