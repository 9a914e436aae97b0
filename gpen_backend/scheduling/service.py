"""The threads that restore: one owns the network, a few do the pixel work, the event loop waits for both.

Faces reach the network's thread through the batcher, so that requests share its runs.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from gpen_backend.engines import Engine
from gpen_backend.http.infer_request import RestoreRequest
from gpen_backend.http.problems import Problem
from gpen_backend.models.registry import ModelNotReady, Models, WrongTask
from gpen_backend.restoration import steps as restore
from gpen_backend.restoration.steps import Work
from gpen_backend.scheduling.batch_size import best_batch
from gpen_backend.scheduling.batcher import Batcher, QueueFull, TooLate
from gpen_backend.settings import BackendSettings
from gpen_backend.weights.catalog import KNOWN_MODELS
from gpen_common.allocator import keep_large_buffers
from gpen_common.threads import Threads
from gpen_common.types import Pixels

logger = logging.getLogger(__name__)

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
        self._pixels = Threads(settings.threads, "gpen-pixels")
        self._batcher = Batcher(self._network, settings.max_faces_waiting, settings.max_wait_ms / 1000)
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many requests are taken on now."""
        return self._taken

    @property
    def faces_waiting(self) -> int:
        """How many faces wait for their run of the network now."""
        return self._batcher.waiting

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
        return await self._pixels.run(_in_time(run, deadline))

    async def answered(
        self, name: str, request: RestoreRequest, deadline: Deadline, answer: Callable[[Engine, Work], Result]
    ) -> Result:
        """What `answer` makes, on a thread for pixels, of a request whose faces the model `name` restored.

        Raises UnknownModel, ModelNotReady, EngineError, Problem 400, 429 or 503.
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
        if _needs_no_queue(engine, request):
            return await self.on_pixels(lambda: answer(engine, restore.restored(work, engine)), deadline)
        work = await self._batched(engine, work, deadline)
        return await self.on_pixels(lambda: answer(engine, restore.finished(work)), deadline)

    async def _batched(self, engine: Engine, work: Work, deadline: Deadline) -> Work:
        """`work` with its faces restored in runs that other requests share."""

        def prepared() -> tuple[Work, Sequence[Pixels]]:
            ready = restore.aligned(work, engine.size)
            return ready, restore.network_faces(ready)

        ready, faces = await self.on_pixels(prepared, deadline)
        if not faces:
            return ready
        try:
            batched = await self._batcher.restored(engine, faces, deadline.at)
        except QueueFull as error:
            raise Problem(429, str(error)) from error
        except TooLate as error:
            raise Problem(503, str(error)) from error
        return restore.with_restored(ready, batched)

    async def load_default(self) -> None:
        """Fetch the default model if need be, and load it. Where that fails, the model's status says why."""
        await self.models.fetched()
        try:
            await self._engine(self.models.default, NEVER)
        except ModelNotReady:
            return

    async def close(self) -> None:
        """Let the network finish what has a caller, drop what else waits, and end the threads."""
        await self._batcher.close()
        await asyncio.to_thread(self._network.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._pixels.close)

    async def _engine(self, name: str, deadline: Deadline) -> Engine:
        ready = self.models.loaded(name)
        if ready is not None:
            return ready

        def load() -> tuple[Engine, int | None]:
            if (loaded := self.models.loaded(name)) is not None:
                return loaded, None
            engine = self.models.engine(name)
            return engine, _warmed_up(engine)

        # Whoever leaves meanwhile does not wait until the model is loaded.
        loop = asyncio.get_running_loop()
        engine, best = await loop.run_in_executor(self._network, _in_time(load, deadline))
        if best is not None:
            self._batcher.prepare(engine, best)
        return engine


def _in_time(run: Callable[[], Result], deadline: Deadline) -> Callable[[], Result]:
    """`run`, unless the deadline has passed when its turn comes."""

    def start() -> Result:
        deadline.check()
        return run()

    return start


def _needs_no_queue(engine: Engine, request: RestoreRequest) -> bool:
    """Whether the thread that aligns may run the engine, too.

    Then a face saves two changes of threads. A crowd queues all the same: it must not keep a thread.
    """
    faces = 0 if request.landmarks is None else len(request.landmarks)
    return faces <= 1 and getattr(engine, "concurrent", False)


def _warmed_up(engine: Engine) -> int:
    """How many faces the engine best runs at once. Blocks; belongs on the network's thread."""
    try:
        return best_batch(engine)
    except Exception:
        # It is the request's to fail, not the model's.
        logger.exception("%s %d px failed while it was warmed up", engine.name, engine.size)
        return 1


@asynccontextmanager
async def running(settings: BackendSettings) -> AsyncIterator[Service]:
    """A service while it runs. Its default model is loaded meanwhile, not before."""
    keep_large_buffers()
    service = Service(settings)
    loading = asyncio.create_task(service.load_default())
    try:
        yield service
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await service.close()
