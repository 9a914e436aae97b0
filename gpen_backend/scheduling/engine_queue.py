"""The queue of one engine's faces: whose turn it is, and how many may run at once."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gpen_backend.engines import Engine, EngineOutOfMemory, restored_by
from gpen_common.types import Pixels

# After so many batches in a row without trouble, a batch that was halved for want of memory may double.
_GROW_AFTER = 16


@dataclass(eq=False)
class Ticket:
    """One request's faces on their way.

    given: each (S, S, 3) uint8 RGB. deadline, arrived: on time.monotonic's clock, seconds. future: done once
    all faces are restored or one has failed; cancelled where nobody waits any more. next: indices of those
    that are in the queue. batch_size: most faces of a run so far. ran_s: seconds of the runs so far.
    """

    given: Sequence[Pixels]
    deadline: float | None
    future: asyncio.Future[None]
    arrived: float
    next: deque[int] = field(init=False)
    batch_size: int = 0
    ran_s: float = 0.0
    _made: dict[int, Pixels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.next = deque(range(len(self.given)))

    def faces(self) -> tuple[Pixels, ...]:
        """The restored faces in the order of the given ones, once all are there."""
        return tuple(self._made[index] for index in range(len(self.given)))

    def is_over(self, now: float) -> bool:
        """Whether any more work on it would be in vain."""
        return self.future.done() or (self.deadline is not None and now > self.deadline)

    def settle(self, index: int, outcome: Pixels | Exception) -> None:
        """Take what became of one face."""
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
            return
        self._made[index] = outcome
        if len(self._made) == len(self.given):
            self.future.set_result(None)


Pick: TypeAlias = tuple[Ticket, int]
"""One face of a batch: whose, and which of theirs."""


class Lane:
    """The requests that wait for one engine. limit: faces of a run at most, for now."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.tickets: deque[Ticket] = deque()
        self.limit = 1
        self._best = 1
        self._untroubled = 0

    @property
    def waiting(self) -> int:
        """How many faces wait whose callers wait, too."""
        return sum(len(ticket.next) for ticket in self.tickets if not ticket.future.done())

    @property
    def oldest(self) -> float:
        """When the first of those that wait arrived. There must be one."""
        return min(ticket.arrived for ticket in self.tickets)

    def set_best(self, best: int) -> None:
        """Set how many faces a run has where memory allows it."""
        self._best = self.limit = best

    def pick(self, now: float) -> list[Pick]:
        """Take the faces of the next run out of the queue: one of each request in turn, up to the limit.

        Requests that are over are dropped on the way. now: on time.monotonic's clock, seconds.
        """
        picks: list[Pick] = []
        while self.tickets and len(picks) < self.limit:
            ticket = self.tickets.popleft()
            if ticket.is_over(now):
                continue
            picks.append((ticket, ticket.next.popleft()))
            if ticket.next:
                self.tickets.append(ticket)
        return picks

    def halve(self, picks: Sequence[Pick]) -> None:
        """Put a batch back that did not fit into memory, and let the next ones be half as large."""
        self.limit = max(1, len(picks) // 2)
        self._untroubled = 0
        for ticket, index in reversed(picks):
            ticket.next.appendleft(index)
            if ticket in self.tickets:
                self.tickets.remove(ticket)
            self.tickets.appendleft(ticket)

    def went_well(self) -> None:
        """A batch did fit. After a while of it, a halved limit doubles."""
        self._untroubled += 1
        if self.limit < self._best and self._untroubled >= _GROW_AFTER:
            self.limit = min(self._best, 2 * self.limit)
            self._untroubled = 0


def attempt(engine: Engine, faces: Sequence[Pixels]) -> list[Pixels | Exception]:
    """Restore `faces` in one run, or each alone where that fails: what became of each. Blocks.

    Raises EngineOutOfMemory where there is no memory for all of them, but may be for fewer.
    """
    try:
        return [*restored_by(engine, faces)]
    except EngineOutOfMemory as error:
        if len(faces) > 1:
            raise
        return [error]
    except Exception as error:
        # Whatever an engine does, it costs the requests it does it to.
        if len(faces) > 1:
            return [outcome for face in faces for outcome in attempt(engine, [face])]
        return [error]
