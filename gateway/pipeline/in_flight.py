"""Identical requests in flight share one piece of work."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.errors import DeadlinePassed
from gateway.timings import Timings

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    task: "asyncio.Task[T]"
    waiting: int = 0


class InFlight(Generic[T]):
    """Work in progress by key. The work goes on for as long as any request waits for it."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    async def join(
        self,
        key: str,
        start: Callable[[], Coroutine[Any, Any, T]],
        started: "list[asyncio.Task[Any]]",
        timings: Timings,
    ) -> T:
        """Wait for the work under `key`; begin it with `start` if none is in progress.

        started: holds the task, if this call began it, until it ends. The task may outlive a cancelled caller
        until its threads have ended. timings: gets the wait for the work of another request as stage `join`.
        A failure of the work reaches every waiting request, except DeadlinePassed, which belongs to the
        request that began the work: the next waiting one begins it again.
        """
        while True:
            flight = self._find(key)
            if first := flight is None:
                flight = self._begin(key, start)
                started.append(flight.task)
                flight.task.add_done_callback(started.remove)
            flight.waiting += 1
            try:
                with nullcontext() if first else timings.stage("join"):
                    return await asyncio.shield(flight.task)
            except DeadlinePassed:
                if first:
                    raise
            finally:
                flight.waiting -= 1
                if not flight.waiting and not flight.task.done():
                    # Out of the table first: no request may join work that is being cancelled.
                    self._remove(key, flight)
                    flight.task.cancel()
                # The traceback of a failure holds this frame, and the task holds the failure: without this,
                # the request's bytes would stay in memory until a full garbage collection.
                flight = None

    async def finish(self) -> None:
        """Wait until all work has ended, cancelled work with its threads included."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _find(self, key: str) -> _Flight[T] | None:
        """Return the unfinished work under `key`; finished work stays listed until its callbacks run."""
        flight = self._flights.get(key)
        return None if flight is None or flight.task.done() else flight

    def _begin(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> _Flight[T]:
        flight = _Flight(asyncio.create_task(start()))
        self._flights[key] = flight
        self._tasks.add(flight.task)
        flight.task.add_done_callback(lambda task: self._end(key, flight))
        return flight

    def _end(self, key: str, flight: _Flight[T]) -> None:
        self._remove(key, flight)
        self._tasks.discard(flight.task)
        if not flight.task.cancelled():
            # Retrieve it, else asyncio logs "exception was never retrieved" where every caller has left.
            flight.task.exception()

    def _remove(self, key: str, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
