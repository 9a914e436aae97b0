"""The threads that restore: one owns the network, a few do the pixel work, the event loop waits for both."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from gpen_backend import restore
from gpen_backend.catalog import KNOWN_MODELS
from gpen_backend.engines import Engine
from gpen_backend.models import ModelNotReady, Models, WrongTask
from gpen_backend.problems import Problem
from gpen_backend.requests import RestoreRequest
from gpen_backend.restore import Work
from gpen_backend.settings import BackendSettings

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment after which an answer is of no use. at: on time.monotonic's clock, seconds."""

    at: float | None = None

    def check(self) -> None:
        """Raise Problem 503 where it has passed."""
        if self.at is not None and time.monotonic() > self.at:
            raise Problem(503, "the deadline passed before the work was started")


NEVER = Deadline()


class Service:
    """One server's models and threads, and how many requests it has taken on."""

    def __init__(self, settings: BackendSettings) -> None:
        self.settings = settings
        self.models = Models(settings)
        self._network = ThreadPoolExecutor(1, "gpen-network")
        self._pixels = ThreadPoolExecutor(settings.threads, "gpen-pixels")
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many requests are taken on now."""
        return self._taken

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """One request's place in the queue. Raises Problem 429 where there is none."""
        if self._taken >= self.settings.max_queue:
            raise Problem(429, "too many requests are waiting")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def on_pixels(self, run: Callable[[], Result], deadline: Deadline = NEVER) -> Result:
        """What `run` returns on a thread for pixel work. Not started past the deadline or once cancelled."""
        return await self._on(self._pixels, run, deadline)

    async def restored(self, name: str, request: RestoreRequest, deadline: Deadline) -> tuple[Engine, Work]:
        """The picture of a request, restored by the model `name`, and the engine that ran.

        Raises UnknownModel, ModelNotReady, EngineError, Problem 400 or 503.
        """
        try:
            self.models.require_task(name, request.params.task)
        except WrongTask as error:
            raise Problem(400, str(error)) from error
        engine = await self._engine(name, deadline)
        wanted = request.params.inference_size
        # Until it was loaded, a model of another size than the published one was described by that.
        if wanted not in (None, engine.size, KNOWN_MODELS[name].size):
            raise Problem(400, f"parameter 'inference_size' must be {engine.size}, the size of {name}")
        work = Work(request.image, request.landmarks, request.params)
        work = await self.on_pixels(lambda: restore.aligned(work, engine.size), deadline)
        if work.faces:
            work = await self._run_network(engine, work, deadline)
        return engine, await self.on_pixels(lambda: _finished(work), deadline)

    async def load_default(self) -> None:
        """Fetch the default model if need be, and load it. Where that fails, the model's status says why."""
        await self.models.fetched()
        try:
            await self._engine(self.models.default, NEVER)
        except ModelNotReady:
            return

    async def close(self) -> None:
        """Let the threads finish what they are at, drop what waits for them, and end them."""
        for threads in (self._network, self._pixels):
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)

    async def _engine(self, name: str, deadline: Deadline) -> Engine:
        ready = self.models.loaded(name)
        if ready is not None:
            return ready
        return await self._on(self._network, lambda: self.models.engine(name), deadline)

    async def _run_network(self, engine: Engine, work: Work, deadline: Deadline) -> Work:
        """The faces of `work` restored on the network's thread, with the time they waited for it."""
        asked = time.perf_counter()

        def run() -> Work:
            waited = (time.perf_counter() - asked) * 1000
            return restore.run_network(replace(work, timings_ms={**work.timings_ms, "queue": waited}), engine)

        return await self._on(self._network, run, deadline)

    async def _on(self, threads: ThreadPoolExecutor, run: Callable[[], Result], deadline: Deadline) -> Result:
        def start() -> Result:
            deadline.check()
            return run()

        # Cancelling this wait takes what has not been started off the thread's queue.
        return await asyncio.get_running_loop().run_in_executor(threads, start)


def _finished(work: Work) -> Work:
    """What is left to do once the network has run."""
    return restore.adjusted(restore.pasted(restore.enlarged(work)))


@asynccontextmanager
async def running(settings: BackendSettings) -> AsyncIterator[Service]:
    """A service while it runs. Its default model is loaded meanwhile, not before."""
    service = Service(settings)
    loading = asyncio.create_task(service.load_default())
    try:
        yield service
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await service.close()
