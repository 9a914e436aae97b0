"""An embedded backend, its requests, and an engine that waits."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from gpen_backend.app import create_app
from gpen_backend.models import registry
from gpen_backend.restoration.align import template
from gpen_backend.scheduling.restoration_service import Service
from gpen_backend.settings import BackendSettings
from gpen_client.wire.messages import (
    InferRequest,
    InferResponse,
    Tensor,
    decode_response,
    encode_request,
    read_header_length,
)

MODEL = "gpen-bfr-256"
INFER = f"/v2/models/{MODEL}/infer"
LANDMARKS = (template(64) + 20)[None].astype(np.float32)
PHOTO = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)


class Gate:
    """An engine that makes negatives, but waits until `opened` is set. error: raised instead."""

    name = "gate"
    size = 64

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.runs = 0

    def restore(self, faces):
        self.runs += 1
        self.entered.set()
        assert self.opened.wait(20)
        if self.error:
            raise self.error
        return 255 - faces

    async def until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 20)


@asynccontextmanager
async def run_app(gate: Gate | None = None, best: int = 1, **settings: Any) -> AsyncIterator[Any]:
    """Run a backend; yields its app. gate: its engine, which runs `best` faces at once."""
    with pytest.MonkeyPatch.context() as patch:
        if gate is not None:
            patch.setattr(registry, "ClassicalEngine", lambda size: gate)
        app = create_app(BackendSettings(**{"engine": "classical", "threads": 2, **settings}))
        async with app.router.lifespan_context(app):
            if gate is not None:
                app.state.service._batcher.prepare(gate, best)
            yield app


@asynccontextmanager
async def run_backend(*args: Any, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    """Run a backend as `run_app` does; yields a client of it and its service."""
    async with (
        run_app(*args, **settings) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://backend") as client,
    ):
        yield client, app.state.service


@asynccontextmanager
async def serve_app(app: Any) -> AsyncIterator[str]:
    """Serve a running app on a free port; yields its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


def message(
    image: np.ndarray | None = PHOTO, landmarks: np.ndarray | None = LANDMARKS, **parameters: Any
) -> dict[str, Any]:
    """Return the arguments of `client.post` for one restoration."""
    tensors = [] if image is None else [Tensor("image", image[None])]
    if landmarks is not None:
        tensors.append(Tensor("landmarks", landmarks))
    headers, body = encode_request(InferRequest(tensors, parameters, id="42"))
    return {"headers": headers, "content": body}


def decode(answer: httpx.Response) -> InferResponse:
    return decode_response(answer.content, read_header_length(answer.headers))


def error_of(answer: httpx.Response) -> str:
    """Return the sentence of an error, after checking its shape."""
    body = answer.json()
    assert set(body) == {"error"}
    assert isinstance(body["error"], str)
    return body["error"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - neither the service nor uvicorn has an event for it
            await asyncio.sleep(0.01)
