"""The threads that pixel work runs on, so that the event loop never waits for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class PixelThreads:
    """A bounded pool of our own: Starlette's is shared with everything else.

    A caller who gives up leaves the queue; work that has begun ends in its thread, which is busy until then.
    """

    def __init__(self, workers: int) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="pixels")

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work(*args, **kwargs)`, run on one of the threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """Drops what is queued and waits for what is running."""
        self._executor.shutdown(wait=True, cancel_futures=True)
