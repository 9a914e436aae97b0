"""The threads that pixel work and files wait on, so that the event loop never does."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A bounded pool of our own: Starlette's is shared with everything else.

    A caller who gives up leaves the queue. Work that has begun cannot be stopped: its caller is cancelled
    only when the thread has ended, so that whatever the caller holds is held as long as it is used.
    """

    def __init__(self, workers: int, name: str = "pixels") -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work(*args, **kwargs)`, run on one of the threads."""
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        done: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            # Straight to the loop: the way by the executor's own future takes a fifth longer.
            try:
                result = context.run(work, *args, **kwargs)
            except BaseException as error:
                loop.call_soon_threadsafe(_fail, done, error)
            else:
                loop.call_soon_threadsafe(_succeed, done, result)

        def dropped(ended: "Future[None]") -> None:
            if ended.cancelled():
                loop.call_soon_threadsafe(done.cancel)

        begun = self._executor.submit(run)
        begun.add_done_callback(dropped)
        try:
            return await done
        except asyncio.CancelledError:
            if not begun.cancel():
                await _settled(asyncio.wrap_future(begun))
            raise

    def close(self) -> None:
        """Drops what is queued and waits for what is running."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _succeed(done: "asyncio.Future[T]", result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: "asyncio.Future[T]", error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)


async def _settled(ended: "asyncio.Future[None]") -> None:
    """Waits for `ended`, however often this task is cancelled meanwhile."""
    while not ended.done():
        try:
            await asyncio.wait({ended})
        except asyncio.CancelledError:
            continue


async def off_loop(large: bool, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns; on a thread of asyncio's where it is `large`, so that it outlasts the way there.

    Not on `Threads`: what takes a moment must not wait for pixels.
    """
    return await asyncio.to_thread(work, *args, **kwargs) if large else work(*args, **kwargs)
