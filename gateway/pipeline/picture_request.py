"""One picture to standardise or enhance: the object that every step of a request receives."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gateway.errors import DeadlinePassed
from gateway.imaging.encoder import OutputFormat
from gateway.params import PreprocessParams
from gateway.pipeline.picture_bytes import Picture
from gateway.service.admission import Admission
from gateway.timings import Timings
from gpen_common.types import ModelInfo

Params = TypeVar("Params", bound=PreprocessParams)


@dataclass(slots=True)
class PictureRequest(Generic[Params]):
    """The input of one request, and its state.

    params: checked parameters. timeout_s: the request's timeout, seconds. deadline: on time.monotonic's
    clock; None until the first `until_deadline` sets it. timings: the clock, started when the upload was
    complete. accepted: the encoding that the Accept header prefers. in_batch: a file of a batch; the batch
    holds the place in the queue, and the file's time starts when a worker is free. work: unfinished tasks
    begun for this request, which may outlive it. model, key: set by the steps of
    `gateway.api.routes.enhance`.
    """

    picture: Picture
    params: Params
    request_id: str
    timeout_s: float
    timings: Timings
    accepted: OutputFormat | None = None
    in_batch: bool = False
    work: list["asyncio.Task[Any]"] = field(default_factory=list)
    model: ModelInfo | None = None
    key: str = ""
    deadline: float | None = None

    @property
    def chosen_model(self) -> ModelInfo:
        """The model. Raises RuntimeError before it is chosen."""
        if self.model is None:
            raise RuntimeError("no model has been chosen for this request")
        return self.model

    @asynccontextmanager
    async def until_deadline(self) -> AsyncIterator[float]:
        """Cancel the block at the deadline, and raise DeadlinePassed in its place.

        Yields the deadline, on time.monotonic's clock. The first call sets it.
        """
        if self.deadline is None:
            self.deadline = time.monotonic() + self.timeout_s
        try:
            async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())) as limit:
                yield self.deadline
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise deadline_passed(self.timeout_s) from error

    @asynccontextmanager
    async def worker(self, admission: Admission) -> AsyncIterator[float]:
        """Take a place in the queue, wait for a worker, and hold both until the block's threads have ended.

        Yields the deadline. Raises QueueFull, and DeadlinePassed if the block runs past the deadline.
        """
        async with AsyncExitStack() as held:
            if not self.in_batch:
                held.enter_context(admission.place())
            with self.timings.stage("queue"):
                await held.enter_async_context(admission.worker())
            async with self.until_deadline() as deadline:
                yield deadline


def deadline_passed(timeout_s: float) -> DeadlinePassed:
    """Return the error for a request that took longer than `timeout_s`."""
    return DeadlinePassed(
        f"the request took longer than {timeout_s:g} seconds; send a smaller picture, or allow more with "
        "`timeout_s` (the server's limit is GATEWAY_TIMEOUT_S)"
    )
