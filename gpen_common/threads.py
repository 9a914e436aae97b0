"""Threads for pixel work and files, so that the event loop never blocks."""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 1 << 22
"""Bytes that take about 2 ms to copy. Copy more of them off the event loop."""


class Threads:
    """A bounded thread pool; Starlette's is shared with everything else.

    A caller that is cancelled leaves the queue. Work that has started cannot be stopped: its caller is
    cancelled only when the thread has finished, so that locks and files that the work uses stay held.
    """

    def __init__(self, workers: int, name: str = "pixels") -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(*args, **kwargs)` on a thread, with the caller's context variables; return its result."""
        context = contextvars.copy_context()
        # The executor keeps a cancelled job in its queue until a thread is free, but not the job's arguments.
        calls = [functools.partial(work, *args, **kwargs)]
        job = self._executor.submit(lambda: context.run(calls[0]))
        result = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            # cancel() fails once the work has started.
            if job.cancel():
                calls.clear()
            else:
                await _wait_despite_cancellation(result)
            raise
        finally:
            # The traceback of a failure holds this frame, and both of these hold the failure.
            del job, result

    def close(self) -> None:
        """Drop queued work and wait for running work."""
        self._executor.shutdown(wait=True, cancel_futures=True)


async def _wait_despite_cancellation(future: "asyncio.Future[Any]") -> None:
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            continue
    # Retrieve the exception, else asyncio logs "exception was never retrieved".
    future.exception()


async def off_loop(large: bool, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` on one of asyncio's own threads if it is `large`, else at once; return its result.

    Not on `Threads`: short work must not queue behind pixel work.
    """
    return await asyncio.to_thread(work, *args, **kwargs) if large else work(*args, **kwargs)
