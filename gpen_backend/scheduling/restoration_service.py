"""The threads of a backend: one runs the network, the others do pixel work."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from gpen_backend.engines import Engine
from gpen_backend.http.errors import ProtocolError
from gpen_backend.http.infer_request import RestoreRequest
from gpen_backend.models.registry import ModelNotReady, ModelRegistry, WrongTask
from gpen_backend.restoration import steps
from gpen_backend.restoration.steps import Work
from gpen_backend.scheduling.batch_size import best_batch
from gpen_backend.scheduling.batcher import BatchedFaces, Batcher, FaceQueueFull, TooLate
from gpen_backend.settings import BackendSettings
from gpen_backend.weights.catalog import KNOWN_MODELS
from gpen_common.allocator import keep_large_buffers
from gpen_common.threads import Threads
from gpen_common.types import Pixels

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Service:
    """Models, threads and requests of one server. Deadlines are on time.monotonic's clock, seconds."""

    def __init__(self, settings: BackendSettings) -> None:
        self.settings = settings
        self.models = ModelRegistry(settings)
        self._network = ThreadPoolExecutor(1, "gpen-network")
        self._pixels = Threads(settings.threads, "gpen-pixels")
        self._batcher = Batcher(self._network, settings.max_faces_waiting, settings.max_wait_ms / 1000)
        self._admitted = 0

    @property
    def admitted(self) -> int:
        """Number of requests admitted and not yet answered."""
        return self._admitted

    @property
    def faces_waiting(self) -> int:
        """Number of faces that wait for their run of the network."""
        return self._batcher.waiting

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place for one request. Raises ProtocolError 429 if there is none."""
        if self._admitted >= self.settings.max_queue:
            raise ProtocolError(429, f"the request queue is full ({self.settings.max_queue} requests)")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def run_on_pixels(self, work: Callable[[], Result], deadline: float | None = None) -> Result:
        """Run `work` on a thread for pixel work. Does not start it after the deadline or once cancelled."""
        return await self._pixels.run(_unless_late, work, deadline)

    async def restore(
        self, name: str, request: RestoreRequest, deadline: float | None
    ) -> tuple[Engine, Work]:
        """Restore the faces of `request` with the model `name`. Also returns the engine that ran.

        Raises ModelNotServed, ModelNotReady, EngineError, ProtocolError 400, 429 or 503.
        """
        try:
            self.models.require_task(name, request.params.task)
        except WrongTask as error:
            raise ProtocolError(400, str(error)) from error
        engine = await self._engine(name, deadline)
        size = request.params.inference_size
        # A client may have read the published size before the model was loaded.
        if size not in (None, engine.size, KNOWN_MODELS[name].size):
            raise ProtocolError(
                400, f"parameter 'inference_size' must be {engine.size}, the size of {name}, not {size}"
            )

        def align() -> tuple[Work, Sequence[Pixels]]:
            work = Work(request.image, request.landmarks, request.params)
            aligned = steps.align(work, engine.size)
            return aligned, steps.network_faces(aligned)

        work, faces = await self.run_on_pixels(align, deadline)
        if faces:
            work = steps.add_restored(work, await self._run_network(engine, faces, deadline))
        return engine, await self.run_on_pixels(lambda: steps.finish(work), deadline)

    async def load_default(self) -> None:
        """Download the default model if needed, and load it. Its status reports a failure."""
        await self.models.finish_download()
        try:
            await self._engine(self.models.default, None)
        except ModelNotReady:
            return

    async def close(self) -> None:
        """Run the faces whose callers still wait, drop other work and end the threads."""
        await self._batcher.close()
        await asyncio.to_thread(self._network.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._pixels.close)

    async def _run_network(
        self, engine: Engine, faces: Sequence[Pixels], deadline: float | None
    ) -> BatchedFaces:
        try:
            return await self._batcher.restore(engine, faces, deadline)
        except FaceQueueFull as error:
            raise ProtocolError(429, str(error)) from error
        except TooLate as error:
            raise ProtocolError(503, str(error)) from error

    async def _engine(self, name: str, deadline: float | None) -> Engine:
        """Return the model's engine; load it on the network's thread if needed."""
        ready = self.models.get_loaded(name)
        if ready is not None:
            return ready

        def load() -> tuple[Engine, int | None]:
            if (loaded := self.models.get_loaded(name)) is not None:
                return loaded, None
            engine = self.models.engine(name)
            return engine, _warm_up(engine)

        # Not Threads.run: a caller that leaves need not wait until the model is loaded.
        loop = asyncio.get_running_loop()
        engine, best = await loop.run_in_executor(self._network, _unless_late, load, deadline)
        if best is not None:
            self._batcher.prepare(engine, best)
        return engine


def _unless_late(work: Callable[[], Result], deadline: float | None) -> Result:
    if deadline is not None and time.monotonic() > deadline:
        raise ProtocolError(503, "the deadline passed before the work started")
    return work()


def _warm_up(engine: Engine) -> int:
    """Return how many faces the engine should run at once. Blocks; call it on the network's thread."""
    try:
        return best_batch(engine)
    except Exception:
        # Requests report the engine's error; the model counts as loaded.
        logger.exception("the warm-up of %s %d px failed", engine.name, engine.size)
        return 1


@asynccontextmanager
async def run_service(settings: BackendSettings) -> AsyncIterator[Service]:
    """Run a service during the block. Loads its default model in the background."""
    keep_large_buffers()
    service = Service(settings)
    loading = asyncio.create_task(service.load_default())
    try:
        yield service
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await service.close()
