"""The queue of one engine: which faces run next, and how many at once."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gpen_backend.engines import Engine, EngineOutOfMemory, run_engine
from gpen_common.types import Pixels

# Successful batches in a row after which a limit that was halved for lack of memory doubles.
_GROW_AFTER = 16


@dataclass(eq=False)
class QueuedRequest:
    """The faces of one request.

    faces: each (S, S, 3) uint8 RGB. deadline, arrived: on time.monotonic's clock, seconds. future: done when
    all faces are restored or one has failed; cancelled if the caller left. waiting: indices of the faces in
    the queue. batch_size: most faces of a run so far. ran_s: seconds of the runs so far.
    """

    faces: Sequence[Pixels]
    deadline: float | None
    future: asyncio.Future[None]
    arrived: float
    waiting: deque[int] = field(init=False)
    batch_size: int = 0
    ran_s: float = 0.0
    _restored: dict[int, Pixels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.faces)))

    def restored(self) -> tuple[Pixels, ...]:
        """The restored faces in the order of `faces`, when all are there."""
        return tuple(self._restored[index] for index in range(len(self.faces)))

    def is_over(self, now: float) -> bool:
        """Whether it is done, its caller left or its deadline has passed."""
        return self.future.done() or (self.deadline is not None and now > self.deadline)

    def settle(self, index: int, outcome: Pixels | Exception) -> None:
        """Store the outcome of one face."""
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
            return
        self._restored[index] = outcome
        if len(self._restored) == len(self.faces):
            self.future.set_result(None)


Pick: TypeAlias = tuple[QueuedRequest, int]
"""One face of a batch: its request, and its index there."""


class EngineQueue:
    """The requests that wait for one engine. limit: most faces of a run at present."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.requests: deque[QueuedRequest] = deque()
        self.limit = 1
        self._best = 1
        self._successes = 0

    @property
    def waiting(self) -> int:
        """Number of waiting faces whose callers still wait."""
        return sum(len(request.waiting) for request in self.requests if not request.future.done())

    @property
    def oldest(self) -> float:
        """When the first waiting request arrived. There must be one."""
        return min(request.arrived for request in self.requests)

    def set_best(self, best: int) -> None:
        """Set how many faces to run at once while memory allows it."""
        self._best = self.limit = best

    def take_batch(self, now: float) -> list[Pick]:
        """Take the faces of the next run: one of each request in turn, up to the limit.

        Drops requests that are over. now: on time.monotonic's clock, seconds.
        """
        picks: list[Pick] = []
        while self.requests and len(picks) < self.limit:
            request = self.requests.popleft()
            if request.is_over(now):
                continue
            picks.append((request, request.waiting.popleft()))
            if request.waiting:
                self.requests.append(request)
        return picks

    def return_and_halve(self, picks: Sequence[Pick]) -> None:
        """Put back a batch that exceeded the memory, and halve the limit."""
        self.limit = max(1, len(picks) // 2)
        self._successes = 0
        for request, index in reversed(picks):
            request.waiting.appendleft(index)
            if request in self.requests:
                self.requests.remove(request)
            self.requests.appendleft(request)

    def record_success(self) -> None:
        """Count a batch that fitted into memory. After 16 in a row, double a halved limit."""
        self._successes += 1
        if self.limit < self._best and self._successes >= _GROW_AFTER:
            self.limit = min(self._best, 2 * self.limit)
            self._successes = 0


def run_batch(engine: Engine, faces: Sequence[Pixels]) -> list[Pixels | Exception]:
    """Restore `faces` in one run, or one by one if that fails; return the outcome of each. Blocks.

    Raises EngineOutOfMemory if several faces exceed the memory.
    """
    try:
        return [*run_engine(engine, faces)]
    except EngineOutOfMemory as error:
        if len(faces) > 1:
            raise
        return [error]
    except Exception as error:
        # An engine's defect must fail only the requests that meet it.
        if len(faces) > 1:
            return [outcome for face in faces for outcome in run_batch(engine, [face])]
        return [error]
