"""The response of a batch: results are sent as they finish, no faster than the client reads them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.batch.answer_formats import Answer, Outcome
from gateway.batch.entries import BatchEntry
from gateway.batch.schemas import BatchSummary
from gateway.schemas.problem import Problem
from gpen_common.disconnect import ClientLeft, while_connected
from gpen_common.run_all import run_all
from gpen_common.threads import Threads

logger = logging.getLogger(__name__)

# Bytes sent at once, so that a slow client need not take a whole picture within the stall timeout.
_CHUNK_BYTES = 1 << 18

Work = Callable[[BatchEntry], Awaitable[Outcome]]
"""Enhances one file. Returns failures as problems and raises nothing."""


class BatchResponse(Response):
    """Runs `work` on `entries`, `concurrency` at a time, and sends each outcome.

    An outcome that waits to be sent blocks the task that made it, so a slow client holds at most
    `concurrency` results in memory, and no worker. held: released when the response ends, however it ends.
    stall_s: seconds that the client may read nothing.
    """

    def __init__(
        self,
        entries: list[BatchEntry],
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
        # The length is unknown until the end.
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
        """Send the response."""
        async with self._held:
            try:
                async with while_connected(receive):
                    await self._stream(send)
            except ClientLeft:
                logger.info("the client disconnected; the files that had not started are dropped")
            except _Stalled:
                logger.info("the client read nothing for %g seconds; the response ends early", self._stall_s)

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await run_all(self._work_and_send(send) for _ in range(self._concurrency))
        elapsed_ms = round((time.monotonic() - self._started) * 1000)
        summary = BatchSummary(done=self._done, failed=self._failed, ms=elapsed_ms)
        chunks = self._answer.end(summary)
        while (chunk := await self._disk.run(next, chunks, None)) is not None:
            await self._send(send, chunk)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _work_and_send(self, send: Send) -> None:
        for entry in self._left:
            outcome = await self._work(entry)
            async with self._sending:
                if isinstance(outcome.result, Problem):
                    self._failed += 1
                else:
                    self._done += 1
                await self._send(send, await self._disk.run(self._answer.add, outcome))

    async def _send(self, send: Send, data: bytes) -> None:
        for chunk in _chunks(data):
            try:
                async with asyncio.timeout(self._stall_s):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError as error:
                raise _Stalled from error


class _Stalled(Exception):
    """The client stopped reading."""


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]
