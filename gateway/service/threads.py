"""The threads that pixel work runs on, so that the event loop never waits for it."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class PixelThreads:
    """A bounded pool of our own: Starlette's is shared with everything else.

    A caller who gives up leaves the queue. Work that has begun cannot be stopped: its caller is cancelled
    only when the thread has ended, so that whatever the caller holds is held as long as it is used.
    """

    def __init__(self, workers: int, name: str = "pixels") -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work(*args, **kwargs)`, run on one of the threads."""
        context = contextvars.copy_context()
        begun = self._executor.submit(lambda: context.run(work, *args, **kwargs))
        try:
            return await asyncio.wrap_future(begun)
        except asyncio.CancelledError:
            if not begun.cancel():
                await _settled(asyncio.wrap_future(begun))
            raise

    def close(self) -> None:
        """Drops what is queued and waits for what is running."""
        self._executor.shutdown(wait=True, cancel_futures=True)


async def _settled(done: "asyncio.Future[T]") -> None:
    """Waits for `done`, however often this task is cancelled meanwhile; its outcome is nobody's any more."""
    while not done.done():
        try:
            await asyncio.wait({done})
        except asyncio.CancelledError:
            continue
    if not done.cancelled():
        done.exception()
