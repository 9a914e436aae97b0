"""Download of the default model's checkpoint while the server starts."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from functools import partial

from gpen_backend.models.loading import load_engine
from gpen_backend.weights.catalog import Format, KnownModel
from gpen_backend.weights.store import WeightStore
from gpen_common.download import DownloadError, RetryPolicy

logger = logging.getLogger(__name__)

# Connecting fails fast, so that a machine without a network serves within seconds. Transfers may be slow.
_POLICY = RetryPolicy(connect_s=2.5, stall_s=20)
_LOGGED_STEPS = 10


class DefaultDownload:
    """Downloads a model's file in the first of `formats` that succeeds, on a daemon thread. For one use.

    status: one sentence with the progress, for the model's status and for errors.
    """

    def __init__(self, store: WeightStore, model: KnownModel, formats: Sequence[Format]) -> None:
        self._store = store
        self._model = model
        self._files = [file for wanted in formats if (file := model.published_as(wanted)) is not None]
        self._stop = threading.Event()
        self._logged_step = -1
        self.status = f"{model.name} is being downloaded"

    async def run(self) -> None:
        """Wait until a file is stored and loads. Raises the last DownloadError, CheckpointError or OSError.

        Cancellation returns at once; the bytes received so far stay for the next start.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish(error: Exception | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        def work() -> None:
            failure = self._download()
            # The server may have stopped, and its loop closed, during the download.
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, failure)

        # A daemon thread, so that a stalled connection does not keep the process alive.
        threading.Thread(target=work, name="gpen-fetch", daemon=True).start()
        try:
            await done
        finally:
            self._stop.set()

    def _download(self) -> Exception | None:
        """Download on this thread. Returns the last failure, or None after a success."""
        failure: Exception = DownloadError(f"{self._model.name} is not published for download")
        for file in self._files:
            try:
                self._store.pull(
                    self._model,
                    file,
                    policy=_POLICY,
                    progress=self._report_progress,
                    stop=self._stop,
                    inspect=partial(load_engine, kind=file.format),
                )
                return None
            except Exception as error:
                # No content from a file server may keep this server from starting.
                logger.info("%s could not be downloaded: %s", file.name, error)
                failure = error
        return failure

    def _report_progress(self, received: int, total: int | None) -> None:
        share = f"{100 * received // total} %" if total else f"{received // 1_000_000} MB"
        self.status = f"{self._model.name} is being downloaded: {share}"
        step = _LOGGED_STEPS * received // total if total else received // 20_000_000
        if step != self._logged_step:
            self._logged_step = step
            logger.info("%s", self.status)
