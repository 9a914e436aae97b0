"""The default checkpoint on its way while the server starts, on a thread that ends with the process."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from functools import partial

from gpen_backend.models.loading import engine_of
from gpen_backend.weights.catalog import Format, KnownModel
from gpen_backend.weights.store import Store
from gpen_common.download import DownloadError, Patience

logger = logging.getLogger(__name__)

# A machine without a network must serve within seconds; once connected, a large file may take its time.
_PATIENCE = Patience(connect_s=2.5, stall_s=20)
_LOGGED_STEPS = 10


class Fetch:
    """Fetches the first of a model's files that can be had. One use."""

    def __init__(self, store: Store, model: KnownModel, formats: Sequence[Format]) -> None:
        self._store = store
        self._model = model
        self._files = [
            next((file for file in model.files if file.format == wanted and file.urls), None)
            for wanted in formats
        ]
        self._stop = threading.Event()
        self._told = -1
        self.status = f"{model.name} is being downloaded"

    async def run(self) -> None:
        """Wait until a file is here and loads. Raises DownloadError, CheckpointError, OSError of the last.

        Cancelled, it lets go at once; what has come stays for the next start.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish(error: Exception | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        def work() -> None:
            failure = self._fetched()
            # Nobody waits any more where the loop was closed meanwhile.
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, failure)

        # A daemon: a stalled connection must not keep the process from ending.
        threading.Thread(target=work, name="gpen-fetch", daemon=True).start()
        try:
            await done
        finally:
            self._stop.set()

    def _fetched(self) -> Exception | None:
        """Fetch on this thread. Returns why nothing came, or None."""
        failure: Exception = DownloadError(f"{self._model.name} is published nowhere")
        for file in self._files:
            if file is None:
                continue
            try:
                inspect = partial(engine_of, kind=file.format)
                self._store.pull(
                    self._model,
                    file,
                    patience=_PATIENCE,
                    progress=self._progress,
                    stop=self._stop,
                    inspect=inspect,
                )
                return None
            except Exception as error:
                # Whatever a server sends, this one starts.
                logger.info("%s was not fetched: %s", file.name, error)
                failure = error
        return failure

    def _progress(self, received: int, total: int | None) -> None:
        share = f"{100 * received // total} %" if total else f"{received // 1_000_000} MB"
        self.status = f"{self._model.name} is being downloaded: {share}"
        step = _LOGGED_STEPS * received // total if total else received // 20_000_000
        if step != self._told:
            self._told = step
            logger.info("%s", self.status)
