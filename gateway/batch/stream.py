"""A batch's answer: written as its files finish, and no faster than it is read."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.batch.entries import Entry
from gateway.batch.lines import Answer, Outcome
from gateway.batch.schemas import BatchSummary
from gateway.pipeline.result import Enhanced
from gpen_common.tasks import gathered
from gpen_common.threads import Threads

logger = logging.getLogger(__name__)

# What is handed over at once: a slow reader need not take a whole picture in one go.
_PIECE_BYTES = 1 << 18

Work = Callable[[Entry], Awaitable[Outcome]]
"""What is done with each file. It tells failures as problems and raises none."""


class BatchResponse(Response):
    """Works on `entries`, `concurrency` at a time, and sends what comes of each.

    A result that waits to be sent stops whoever made it: a slow reader costs as many results of memory as
    there are files at work, and no worker. held: what is let go when the answer is over, however it ends.
    stall_s: how long the caller may take nothing.
    """

    def __init__(
        self,
        entries: list[Entry],
        work: Work,
        answer: Answer,
        disk: Threads,
        held: AsyncExitStack,
        *,
        concurrency: int,
        stall_s: float,
    ) -> None:
        headers = {"Vary": "Accept", "Cache-Control": "no-store"}
        super().__init__(media_type=answer.media_type, headers=headers)
        # The length is not known before the end.
        del self.headers["content-length"]
        self._left = iter(entries)
        self._work = work
        self._answer = answer
        self._disk = disk
        self._held = held
        self._concurrency = min(concurrency, len(entries))
        self._stall_s = stall_s
        self._started = time.monotonic()
        self._done = self._failed = 0
        self._sending = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer."""
        async with self._held:
            stream = asyncio.create_task(self._stream(send))
            gone = asyncio.create_task(_disconnected(receive))
            try:
                await asyncio.wait({stream, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not stream.done():
                    logger.info("the caller left; the files that are not begun are dropped")
            finally:
                await _ended(gone)
                await _ended(stream)
        if not stream.cancelled() and (error := stream.exception()) is not None:
            if not isinstance(error, _Stalled):
                raise error
            logger.info("the caller read nothing for %g seconds; the answer is broken off", self._stall_s)

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await gathered(self._worker(send) for _ in range(self._concurrency))
        passed_ms = round((time.monotonic() - self._started) * 1000)
        summary = BatchSummary(done=self._done, failed=self._failed, ms=passed_ms)
        pieces = self._answer.end(summary)
        while (piece := await self._disk.run(next, pieces, None)) is not None:
            await self._send(send, piece)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _worker(self, send: Send) -> None:
        for entry in self._left:
            outcome = await self._work(entry)
            async with self._sending:
                if isinstance(outcome.result, Enhanced):
                    self._done += 1
                else:
                    self._failed += 1
                await self._send(send, await self._disk.run(self._answer.add, outcome))

    async def _send(self, send: Send, data: bytes) -> None:
        for piece in _pieces(data):
            try:
                async with asyncio.timeout(self._stall_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError as error:
                raise _Stalled from error


class _Stalled(Exception):
    """The caller takes nothing any more."""


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(task: "asyncio.Task[None]") -> None:
    """Cancels `task` and waits until its threads have ended too."""
    task.cancel()
    await asyncio.wait({task})
