"""Faces of all requests meet here: one queue per engine, and one thread that runs whatever comes next.

The event loop keeps the queues; the thread only ever sees finished batches. A batch takes one face from each
waiting request in turn, so a crowd holds nobody up, and none from a request whose caller left or whose
deadline passed. Out of memory, a batch is halved, and grows again after a while; where one fails otherwise,
its faces are run alone, so that a bad one fails its own request only.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from gpen_backend.engines import Engine, EngineOutOfMemory
from gpen_backend.scheduling.engine_queue import Lane, Pick, Ticket, attempt
from gpen_common.types import Pixels


class QueueFull(Exception):
    """There is no room for so many faces now."""


class TooLate(Exception):
    """The deadline passed before the work was done."""


@dataclass(frozen=True, slots=True)
class Batched:
    """Restored faces of one request, in its order.

    batch_size: most faces, of whatever requests, that one of its runs had. waited_ms, ran_ms: milliseconds in
    the queue, and in the runs that had its faces.
    """

    faces: tuple[Pixels, ...]
    batch_size: int
    waited_ms: float
    ran_ms: float


class Batcher:
    """The queues of one server. Lives on one event loop.

    network: the one thread that makes every call of an engine. max_faces: most that wait at once, though a
    request that finds nobody waiting may have more. max_wait_s: how long a batch that is not full waits for
    more faces, counted from the arrival of its first; where one face is the best batch, none waits.
    """

    def __init__(self, network: Executor, max_faces: int, max_wait_s: float) -> None:
        self._network = network
        self._max_faces = max_faces
        self._max_wait_s = max_wait_s
        self._lanes: dict[int, Lane] = {}
        # Those with faces, the one whose turn it is first.
        self._turns: deque[Lane] = deque()
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """How many faces wait for their run."""
        return sum(lane.waiting for lane in self._turns)

    def prepare(self, engine: Engine, best: int) -> None:
        """Set how many faces a run of `engine` should have; without this it is one."""
        self._lane(engine).set_best(best)

    async def restored(
        self, engine: Engine, faces: Sequence[Pixels], deadline: float | None = None
    ) -> Batched:
        """Restore `faces`, one at least, each (S, S, 3) uint8 RGB. deadline: on time.monotonic's clock.

        Cancelling this wait takes what has not been started out of the queue. Raises QueueFull, TooLate, and
        what the engine raised for one of the faces.
        """
        waiting = self.waiting
        if self._closing or (waiting and waiting + len(faces) > self._max_faces):
            raise QueueFull(f"{waiting} faces are waiting for the network")
        arrived = time.monotonic()
        ticket = Ticket(faces, deadline, asyncio.get_running_loop().create_future(), arrived)
        lane = self._lane(engine)
        lane.tickets.append(ticket)
        self._take_turns(lane)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="gpen-batches")
        try:
            # On a timeout, as on cancellation, the future is cancelled: so the queue hears of it.
            await asyncio.wait_for(ticket.future, None if deadline is None else deadline - arrived)
        except TimeoutError:
            raise TooLate("the deadline passed before the work was done") from None
        waited = time.monotonic() - arrived - ticket.ran_s
        return Batched(ticket.faces(), ticket.batch_size, max(0.0, waited) * 1000, ticket.ran_s * 1000)

    async def close(self) -> None:
        """Run what still has a caller, then stop. What comes later is refused."""
        self._closing = True
        self._changed.set()
        if self._runner is not None:
            await self._runner

    def _lane(self, engine: Engine) -> Lane:
        return self._lanes.setdefault(id(engine), Lane(engine))

    def _take_turns(self, lane: Lane) -> None:
        if lane not in self._turns:
            self._turns.append(lane)
        self._changed.set()

    async def _run(self) -> None:
        """Run batch after batch, for as long as the server lives."""
        while (lane := await self._next_lane()) is not None:
            if picks := lane.pick(time.monotonic()):
                await self._execute(lane, picks)
            # Its next turn comes after everyone else's.
            self._turns.remove(lane)
            if lane.tickets:
                self._turns.append(lane)

    async def _next_lane(self) -> Lane | None:
        """The queue whose turn it is, once it has a batch that need not wait; None when all is over."""
        while True:
            # Before looking: what comes while this waits must wake it.
            self._changed.clear()
            if not self._turns:
                if self._closing:
                    return None
                await self._changed.wait()
                continue
            lane = self._turns[0]
            left = lane.oldest + self._max_wait_s - time.monotonic()
            others = len(self._turns) > 1
            if lane.waiting >= lane.limit or others or self._closing or left <= 0:
                return lane
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return lane

    async def _execute(self, lane: Lane, picks: Sequence[Pick]) -> None:
        """Run one batch, and hand its faces to their requests."""
        faces = [ticket.given[index] for ticket, index in picks]
        start = time.monotonic()
        outcomes: list[Pixels | Exception]
        try:
            loop = asyncio.get_running_loop()
            outcomes = await loop.run_in_executor(self._network, attempt, lane.engine, faces)
        except EngineOutOfMemory:
            lane.halve(picks)
            return
        except Exception as error:
            # Not the engine's, but the thread's own.
            outcomes = [error for _ in picks]
        lane.went_well()
        took = time.monotonic() - start
        for ticket in {id(ticket): ticket for ticket, _ in picks}.values():
            ticket.ran_s += took
            ticket.batch_size = max(ticket.batch_size, len(picks))
        for (ticket, index), outcome in zip(picks, outcomes, strict=True):
            ticket.settle(index, outcome)
