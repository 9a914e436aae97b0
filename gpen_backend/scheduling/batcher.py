"""Batches faces of all requests: one queue per engine, and one thread that runs the batches.

The event loop owns the queues; the thread gets complete batches. A batch takes one face of each waiting
request in turn, so that a request with many faces does not delay the others, and skips requests whose caller
left or whose deadline has passed. A batch that exceeds the memory is halved, and grows again later. If a
batch fails otherwise, its faces run one by one, so that a bad face fails only its own request.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from gpen_backend.engines import Engine, EngineOutOfMemory
from gpen_backend.scheduling.engine_queue import EngineQueue, Pick, QueuedRequest, run_batch
from gpen_common.types import Pixels


class FaceQueueFull(Exception):
    """The queue has no room for these faces."""


class TooLate(Exception):
    """The deadline passed before the faces were restored."""


@dataclass(frozen=True, slots=True)
class BatchedFaces:
    """Restored faces of one request, in its order.

    batch_size: faces of the largest run it took part in, those of other requests included. waited_ms,
    ran_ms: milliseconds in the queue, and in the runs.
    """

    faces: tuple[Pixels, ...]
    batch_size: int
    waited_ms: float
    ran_ms: float


class Batcher:
    """The queues of one server. Use it from one event loop.

    network: an executor with one thread, which makes every call of an engine. max_faces: most faces that
    wait; a single request may exceed it while none waits. max_wait_s: seconds after its first face's arrival
    that an incomplete batch waits for more faces; it does not wait for an engine whose best batch is one
    face.
    """

    def __init__(self, network: Executor, max_faces: int, max_wait_s: float) -> None:
        self._network = network
        self._max_faces = max_faces
        self._max_wait_s = max_wait_s
        self._queues: dict[int, EngineQueue] = {}
        # Queues with faces, the next one to run first.
        self._turns: deque[EngineQueue] = deque()
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """Number of faces that wait for their run."""
        return sum(queue.waiting for queue in self._turns)

    def prepare(self, engine: Engine, best: int) -> None:
        """Set how many faces a run of `engine` should have; 1 by default."""
        self._queue(engine).set_best(best)

    async def restore(
        self, engine: Engine, faces: Sequence[Pixels], deadline: float | None = None
    ) -> BatchedFaces:
        """Restore `faces`, at least one, each (S, S, 3) uint8 RGB. deadline: on time.monotonic's clock.

        Cancelling it removes the faces that have not started from the queue. Raises FaceQueueFull, TooLate,
        and the engine's error for one of the faces.
        """
        waiting = self.waiting
        if self._closing or (waiting and waiting + len(faces) > self._max_faces):
            raise FaceQueueFull(
                f"{waiting} faces are waiting for the network; the limit is {self._max_faces}"
            )
        arrived = time.monotonic()
        request = QueuedRequest(faces, deadline, asyncio.get_running_loop().create_future(), arrived)
        queue = self._queue(engine)
        queue.requests.append(request)
        self._take_turns(queue)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="gpen-batches")
        try:
            # A timeout or a cancellation cancels the future, which takes the request out of the queue.
            await asyncio.wait_for(request.future, None if deadline is None else deadline - arrived)
        except TimeoutError:
            raise TooLate("the deadline passed before the faces were restored") from None
        waited = time.monotonic() - arrived - request.ran_s
        return BatchedFaces(
            request.restored(), request.batch_size, max(0.0, waited) * 1000, request.ran_s * 1000
        )

    async def close(self) -> None:
        """Run the faces whose callers still wait, then stop. Rejects later requests."""
        self._closing = True
        self._changed.set()
        if self._runner is not None:
            await self._runner

    def _queue(self, engine: Engine) -> EngineQueue:
        return self._queues.setdefault(id(engine), EngineQueue(engine))

    def _take_turns(self, queue: EngineQueue) -> None:
        if queue not in self._turns:
            self._turns.append(queue)
        self._changed.set()

    async def _run(self) -> None:
        """Run batch after batch until the batcher is closed."""
        while (queue := await self._next_queue()) is not None:
            if picks := queue.take_batch(time.monotonic()):
                await self._execute(queue, picks)
            # The queue goes to the end of the line.
            self._turns.remove(queue)
            if queue.requests:
                self._turns.append(queue)

    async def _next_queue(self) -> EngineQueue | None:
        """Wait for a queue with a batch to run now. Returns None when closed and empty."""
        while True:
            # Clear before the check, so that a change during the wait is not missed.
            self._changed.clear()
            if not self._turns:
                if self._closing:
                    return None
                await self._changed.wait()
                continue
            queue = self._turns[0]
            left = queue.oldest + self._max_wait_s - time.monotonic()
            others = len(self._turns) > 1
            if queue.waiting >= queue.limit or others or self._closing or left <= 0:
                return queue
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return queue

    async def _execute(self, queue: EngineQueue, picks: Sequence[Pick]) -> None:
        """Run one batch, and give the faces to their requests."""
        faces = [request.faces[index] for request, index in picks]
        start = time.monotonic()
        outcomes: list[Pixels | Exception]
        try:
            loop = asyncio.get_running_loop()
            outcomes = await loop.run_in_executor(self._network, run_batch, queue.engine, faces)
        except EngineOutOfMemory:
            queue.return_and_halve(picks)
            return
        except Exception as error:
            # The executor's error, such as that it is shut down.
            outcomes = [error for _ in picks]
        queue.record_success()
        took = time.monotonic() - start
        for request in {id(request): request for request, _ in picks}.values():
            request.ran_s += took
            request.batch_size = max(request.batch_size, len(picks))
        for (request, index), outcome in zip(picks, outcomes, strict=True):
            request.settle(index, outcome)
